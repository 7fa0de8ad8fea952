"""The checkpoint `ckpt.pt`: one file, everything to go on from (schema 1). Private: its buffer holds real samples."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from medcoss_cli import __version__, discovery
from medcoss_cli.errors import CheckpointError, PluginError
from medcoss_cli.store import atomic

SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """Plain values and CPU tensors only.

    Args:
        encoder: its dimensions, the seed of its weights, the shares that are masked.
        tokenizers: spec by key.
        modalities: name to tokenizer key, size, dims, channels, pretext, decoder, distribution.
        weights: the model's state dict: encoder, tokenizers, the last decoder of every modality.
        vocabularies: JSON text by tokenizer key.
        buffer: modality to {integers (n, C, *size), scale (n,), offset (n,)}: the rehearsal samples.
        probes: the same, with features (n, D) and loss at the end of their own stage.
        history: one entry per stage; numbers, versions and recipe without paths.
    """

    encoder: dict[str, Any]
    tokenizers: dict[str, dict[str, Any]]
    modalities: dict[str, dict[str, Any]]
    weights: dict[str, Tensor]
    vocabularies: dict[str, str]
    buffer: dict[str, dict[str, Any]]
    probes: dict[str, dict[str, Any]]
    history: list[dict[str, Any]]


_TYPES = {"history": list}  # all other fields are dicts


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write it atomically. Raises: ResourceError without space or permission; the old file is then as it was."""
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    save_plain({"medcoss": {"schema": SCHEMA, "version": __version__}, **content}, path)


def load(path: Path) -> Checkpoint:
    """Read it, its tensors mapped into memory, not copied. Nothing in the file is ever executed.

    Raises: CheckpointError with what is wrong and what to do.
    """
    content = load_plain(path)
    about = content.get("medcoss")
    if not isinstance(about, dict) or not isinstance(about.get("schema"), int):
        raise CheckpointError(
            "this file is no medcoss checkpoint, though torch can read it",
            where=path,
            fix="give the ckpt.pt that a run leaves in its folder",
        )
    if about["schema"] != SCHEMA:
        raise CheckpointError(
            f"this checkpoint has schema {about['schema']} (medcoss {about.get('version', 'unknown')}), "
            f"medcoss {__version__} knows schema {SCHEMA}",
            where=path,
            fix="pip install --upgrade medcoss",
        )
    for field in fields(Checkpoint):
        if not isinstance(content.get(field.name), _TYPES.get(field.name, dict)):
            raise CheckpointError(
                f"the checkpoint's {field.name} are missing or damaged", where=path, fix="use another copy"
            )
    return Checkpoint(**{field.name: content[field.name] for field in fields(Checkpoint)})


def require_plugins(checkpoint: Checkpoint) -> None:
    """Raises: PluginError naming every modality of the checkpoint that is not installed."""
    installed = set(discovery.names())
    missing = {name: facts for name, facts in checkpoint.modalities.items() if name not in installed}
    if missing:
        packages = sorted(
            {str(facts.get("distribution", f"medcoss-{name}")).split()[0] for name, facts in missing.items()}
        )
        raise PluginError(
            f"the checkpoint knows {', '.join(missing)}, but no installed plugin brings {'it' if len(missing) == 1 else 'them'}",
            fix=f"pip install {' '.join(packages)}",
        )


def find_checkpoint(given: Path | None) -> tuple[Path, str | None]:
    """The file to go on from, and what to say aloud where it was not named.

    A run folder stands for its ckpt.pt. Without a name: ./ckpt.pt, else the only finished runs/*/ckpt.pt.

    Raises: CheckpointError if there is none, or more than one run.
    """
    if given is not None and given.is_dir():
        given = given / "ckpt.pt"
    path = given or Path("ckpt.pt")
    if path.exists():
        return path, None
    if given is not None and given != Path("ckpt.pt"):
        raise CheckpointError("there is no such file", where=given, fix="check the path of --from")
    runs = [p for p in sorted(Path("runs").glob("*/ckpt.pt")) if not (p.parent / "resume.pt").exists()]
    if len(runs) == 1:
        return runs[0], f"going on from {runs[0]}, the only finished run here"
    if runs:
        raise CheckpointError(
            "there are several finished runs here", fix="name one: --from " + " | ".join(map(str, runs))
        )
    raise CheckpointError(
        "there is no checkpoint here", fix="name one with --from, or train one: medcoss pretrain mini"
    )


def save_plain(content: Mapping[str, Any], path: Path) -> None:
    """Tensors and plain values, written atomically; only the bytes of a view are stored, not what it is a view of."""

    def write(file: BinaryIO) -> None:
        torch.save(_compact(content), file)

    atomic.write(path, write)


def load_plain(path: Path) -> dict[str, Any]:
    """Tensors and plain values; a file that holds anything else is refused, unexecuted.

    Raises: CheckpointError.
    """
    if not path.is_file():
        raise CheckpointError("there is no such file", where=path, fix="check the path")
    if not zipfile.is_zipfile(path):
        what = "the file is empty" if path.stat().st_size == 0 else "the file is truncated, or no checkpoint at all"
        raise CheckpointError(what, where=path, fix="copy it again, or go on from an earlier one")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except Exception as error:
        if "weights_only" in str(error) or "Unsupported global" in str(error):
            raise CheckpointError(
                "the file holds more than tensors and plain values; it was not opened, nothing was executed",
                where=path,
                fix="do not use a checkpoint from a source you do not trust",
            ) from None
        raise CheckpointError(
            "the file is damaged, or no checkpoint", where=path, fix="copy it again, or go on from an earlier one"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError("this file is no medcoss checkpoint, though torch can read it", where=path)
    return content


def _compact(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size() and value.is_contiguous()
        return value if whole else value.contiguous().clone()
    if isinstance(value, Mapping):
        return {key: _compact(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_compact(entry) for entry in value]
    return value
