"""What of a checkpoint may be shared, as a safetensors file: encoder and tokenizers, without a sample, a name or a path.

A run leaves one after each stage; `checkpoint strip` writes the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from medcoss_cli.errors import CheckpointError
from medcoss_cli.store import checkpoint, plain, typed
from medcoss_cli.store.checkpoint import SCHEMA, Checkpoint
from medcoss_cli.store.history import parts
from medcoss_cli.store.run import without_paths

FORMAT = "medcoss-encoder"
_HISTORY = (
    "stage",
    "modality",
    "samples",
    "train",
    "anchors",
    "groups",
    "buffer",
    "strategy",
    "origin",
    "seed",
    "steps",
    "rehearsal_steps",
    "batch",
    "learning_rate",
    "baseline",
    "recipe",
    "versions",
    "retention",
)

_MODALITY = ("tokenizer", "size", "dims", "channels", "pretext", "distribution", "fingerprint")
_DESCRIBED = ("encoder", "tokenizers", "modalities", "vocabularies", "history")
_PART = ("modality", "samples", "train", "anchors", "groups", "buffer", "baseline")


def shareable(checkpoint: Checkpoint) -> bytes:
    """The bytes of a shareable file: what is listed here and nothing else."""
    weights = {
        name: tensor.contiguous() for name, tensor in checkpoint.weights.items() if not name.startswith("decoders.")
    }
    history = [_allowed(entry, _HISTORY) for entry in checkpoint.history]
    for entry, original in zip(history, checkpoint.history, strict=True):
        if "modalities" in original:  # a joint stage, of several modalities
            entry["modalities"] = {name: _allowed(dict(part), _PART) for name, part in parts(original).items()}
        if isinstance(entry.get("recipe"), dict):
            entry["recipe"] = without_paths(entry["recipe"])
    modalities = {name: _allowed(facts, _MODALITY) for name, facts in checkpoint.modalities.items()}
    metadata = {
        "format": FORMAT,
        "schema": str(SCHEMA),
        "encoder": json.dumps(checkpoint.encoder),
        "tokenizers": json.dumps(checkpoint.tokenizers),
        "modalities": json.dumps(modalities),
        "vocabularies": json.dumps(checkpoint.vocabularies),
        "history": json.dumps(history),
    }
    return _in_order(safetensors_bytes(weights, metadata))


def _allowed(entry: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: entry[key] for key in keys if key in entry}


def _in_order(data: bytes) -> bytes:
    """The same safetensors file with its header sorted: the library writes metadata in an order that changes."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def is_stripped(path: Path) -> bool:
    """Does its metadata say so?"""
    return plain.is_safetensors(path) and metadata(path).get("format") == FORMAT


def described(path: Path) -> dict[str, Any]:
    """A stripped file's encoder, tokenizers, modalities, vocabularies and history. Raises: CheckpointError for damage."""
    content = metadata(path)
    try:
        return {key: typed.loads(content[key]) for key in _DESCRIBED}
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"its metadata is damaged ({error})"[:200], where=path, fix=plain.AGAIN) from error


def read(path: Path) -> Checkpoint:
    """A stripped file, or a checkpoint; the former holds no decoder, sample or anchor. Raises: CheckpointError for damage."""
    if not is_stripped(path):
        return checkpoint.load(path)
    weights = plain.load_safetensors(path)
    return checkpoint.sound({**described(path), "weights": weights, "buffer": {}, "anchors": {}, "memory": {}}, path)


def metadata(path: Path) -> dict[str, str]:
    """A safetensors file's; empty for what is none."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError:
        return {}
