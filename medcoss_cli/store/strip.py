"""What of a checkpoint may be shared: encoder and tokenizers, without a sample, a file name, a path or a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save as safetensors_bytes

from medcoss_cli.store import atomic, checkpoint
from medcoss_cli.store.checkpoint import SCHEMA, Checkpoint

_HISTORY = (
    "stage",
    "modality",
    "samples",
    "train",
    "probes",
    "groups",
    "buffer",
    "strategy",
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


def strip(source: Path, out: Path) -> int:
    """Write the shareable part of a checkpoint as safetensors; returns its size in bytes.

    Vocabulary, specs and history are JSON text in the file's metadata. Raises: CheckpointError, ResourceError.
    """
    data = shareable(checkpoint.load(source))
    atomic.write(out, data)
    return len(data)


def shareable(known: Checkpoint) -> bytes:
    """The bytes of a shareable file: what is listed here and nothing else."""
    weights = {name: tensor.contiguous() for name, tensor in known.weights.items() if not name.startswith("decoders.")}
    history: list[dict[str, Any]] = [{key: entry[key] for key in _HISTORY if key in entry} for entry in known.history]
    modalities = {
        name: {key: facts[key] for key in ("tokenizer", "size", "dims", "channels", "pretext", "distribution")}
        for name, facts in known.modalities.items()
    }
    metadata = {
        "format": "medcoss-encoder",
        "schema": str(SCHEMA),
        "encoder": json.dumps(known.encoder),
        "tokenizers": json.dumps(known.tokenizers),
        "modalities": json.dumps(modalities),
        "vocabularies": json.dumps(known.vocabularies),
        "history": json.dumps(history),
    }
    data: bytes = safetensors_bytes(weights, metadata)
    return data
