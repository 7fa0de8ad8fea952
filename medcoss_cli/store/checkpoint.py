"""The checkpoint `ckpt.pt`: one file, everything to go on from (schema 1). Private: its buffer holds real samples."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import BaseModel, Field, JsonValue, model_validator
from torch import Tensor

from medcoss_cli import __version__
from medcoss_cli.errors import CheckpointError, ResourceError, is_of_the_machine
from medcoss_cli.store import plain, typed, weighed

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
        anchors: the same, with features (n, D) and loss at the end of their own stage.
        history: one entry per stage; numbers, versions and recipe without paths.
        memory: what strategies keep for later stages, by their names.
    """

    encoder: dict[str, Any]
    tokenizers: dict[str, dict[str, Any]]
    modalities: dict[str, dict[str, Any]]
    weights: dict[str, Tensor]
    vocabularies: dict[str, str]
    buffer: dict[str, dict[str, Any]]
    anchors: dict[str, dict[str, Any]]
    history: list[dict[str, Any]]
    memory: dict[str, dict[str, Any]]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write it atomically. Raises: ResourceError without space or permission; the old file is then as it was."""
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    plain.save({"medcoss": {"schema": SCHEMA, "version": __version__}, **content}, path)


def load(path: Path) -> Checkpoint:
    """Read it, its tensors mapped into memory, not copied. Nothing in the file is executed.

    Raises: CheckpointError with what is wrong and what to do.
    """
    content = plain.load(path)
    check_header(content.get("medcoss"), path)
    return sound(content, path)


def sound(content: Mapping[str, Any], path: Path) -> Checkpoint:
    """The content of a checkpoint, or of a stripped one, after all of it was checked. Raises: CheckpointError."""
    fix = "use another copy of it"
    typed.checked(_Parts, content, path, fix=fix, what="the checkpoint")
    for fault in _faults(content):
        raise CheckpointError(f"the checkpoint is damaged: {fault}", where=path, fix=fix)
    return Checkpoint(**{field.name: content[field.name] for field in fields(Checkpoint)})


def _faults(content: Mapping[str, Any]) -> Iterator[str]:
    """Where what it says of its networks is not what its tensors are."""
    weights = content["weights"]
    yield from filter(None, [weighed.encoder_fault(content["encoder"], weights)])
    for name, facts in content["modalities"].items():
        key = facts["tokenizer"]
        spec = content["tokenizers"][key]
        patch = spec.get("patch")
        is_patch = isinstance(patch, list) and all(isinstance(length, int) and length > 0 for length in patch)
        found = [
            weighed.size_fault(facts["size"], patch if is_patch else None),
            weighed.part_fault(f"the tokenizer {key}", spec, f"tokenizers.{key}.", weights),
            weighed.part_fault(f"the decoder of {name}", facts.get("decoder"), f"decoders.{name}.", weights),
        ]
        yield from filter(None, found)
    for name in weights:
        if name.partition(".")[0] in ("tokenizers", "decoders") and name.count(".") < 2:
            yield f"its weight {name[:40]} is of no part"
    for part in ("buffer", "anchors"):
        for name, stored in content[part].items():
            if name in content["modalities"]:
                yield from _sample_faults(f"{part} of {name}", stored, content["modalities"][name], content["encoder"])


def _sample_faults(
    what: str, stored: Mapping[str, Any], facts: Mapping[str, Any], encoder: Mapping[str, Any]
) -> Iterator[str]:
    """Where stored samples are not of their modality."""
    integers, features, axes = stored["integers"], stored.get("features"), len(facts["size"])
    whole = not (integers.is_floating_point() or integers.is_complex() or integers.dtype == torch.bool)
    if not whole or integers.ndim - 1 not in (axes, axes + 1):  # words have no channels
        yield f"the {what} holds no samples of {axes} axes"
    if any(stored[key].ndim != 1 or not stored[key].is_floating_point() for key in ("scale", "offset")):
        yield f"the {what} has no scale and offset for each sample"
    if features is not None and tuple(features.shape) != (len(integers), encoder["width"]):
        yield f"the {what} has no feature of {encoder['width']} values for each sample"


def is_own(path: Path) -> bool:
    """Is this file one that medcoss wrote? False for what cannot be read; whoever reads it says why."""
    try:
        return isinstance(plain.load(path, allowed=[argparse.Namespace]).get("medcoss"), Mapping)
    except (CheckpointError, ResourceError):
        return False


def check_header(about: object, path: Path, file: str | None = None) -> None:
    """Is it medcoss's file, of a schema known here? Raises: CheckpointError.

    Args:
        about: what the file has under "medcoss".
        file: the kind of file that is wanted; None is a checkpoint.
    """
    instead = "remove it; the stage then starts again" if file else "give the ckpt.pt of a run's folder"
    if not isinstance(about, Mapping) or type(about.get("schema")) is not int:
        raise CheckpointError(
            f"this file is not a medcoss {file or 'checkpoint'}, though torch can read it",
            where=path,
            fix=instead,
        )
    schema, version = about["schema"], str(about.get("version", "of unknown version"))[:40]
    if schema > SCHEMA:
        raise CheckpointError(
            f"written by a newer medcoss (schema {schema}, medcoss {version}); medcoss {__version__} knows schema {SCHEMA}",
            where=path,
            fix="pip install --upgrade medcoss",
        )
    if schema != SCHEMA:
        raise CheckpointError(f"its schema {schema} is unknown; there never was one", where=path, fix=plain.AGAIN)
    if about.get("file") != file:
        raise CheckpointError(
            "this is a file of another kind that medcoss writes (a resume.pt is read by --resume alone)",
            where=path,
            fix=instead,
        )


def find_checkpoint(name: Path | str | None) -> tuple[Path, str | None]:
    """The file to go on from, and what to say where it was not named.

    A run folder stands for its ckpt.pt. Without a name: ./ckpt.pt, else the only finished runs/*/ckpt.pt.

    Raises: CheckpointError if there is none, or more than one run.
    """
    path = Path("ckpt.pt") if name is None else Path(name)
    if path.is_dir():
        if not (path / "ckpt.pt").exists():
            raise CheckpointError("there is no ckpt.pt in this folder", where=path, fix="name a finished run's folder")
        path = path / "ckpt.pt"
    if path.exists():
        return path, None
    if name is not None and path != Path("ckpt.pt"):
        raise CheckpointError("the file does not exist", where=path, fix="check the path")
    files = sorted(Path("runs").glob("*/ckpt.pt"))
    runs = [path for path in files if finished(path.parent)]
    if len(runs) == 1:
        return runs[0], f"continuing from {runs[0]}, the only finished run in ./runs"
    if runs:
        raise CheckpointError(
            "there are several finished runs in ./runs", fix="name one: --from " + " | ".join(map(str, runs))
        )
    if files:
        raise CheckpointError(
            f"no run in ./runs is finished ({', '.join(str(path.parent) for path in files)})",
            fix="continue with --resume RUN, or name its ckpt.pt with --from",
        )
    raise CheckpointError("no checkpoint was found", fix="name one with --from, or train one: medcoss pretrain mini")


def finished(folder: Path) -> bool:
    """Has this run done all its stages? Where run.json does not say (a copy without it), an absent resume.pt does.

    A run has its ckpt.pt after its first stage, and one that extends has it from the start: the file alone says little.
    """
    try:
        return bool(typed.loads((folder / "run.json").read_text(encoding="utf-8"))["finished"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if is_of_the_machine(error):
            raise
        return (folder / "ckpt.pt").exists() and not (folder / "resume.pt").exists()


class _Row(BaseModel, strict=True, extra="allow"):
    cka: float | None = None
    cosine: float | None = None
    shift: float | None = None
    loss: float
    loss_then: Annotated[float, Field(gt=0)]
    relative_then: float


class _Part(BaseModel, strict=True, extra="allow"):
    """What a history says of a modality in a stage."""

    samples: int | None = None
    train: int | None = None
    anchors: int | None = None
    buffer: int | None = None
    baseline: float | None = None


class _Recipe(BaseModel, strict=True, extra="allow"):
    """What of a stage's recipe is shown."""

    stages: list[dict[str, Any]] | None = None
    train: dict[str, Any] = {}


class _Entry(_Part):
    __pydantic_extra__: dict[str, JsonValue]
    stage: int
    modality: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\+[a-z][a-z0-9_]*)*$")]
    title: str | None = None
    modalities: dict[str, _Part] | None = None
    strategy: str | None = None
    origin: str | None = None
    steps: Annotated[int, Field(ge=0, le=2**53)] | None = None
    rehearsal_steps: Annotated[int, Field(ge=0, le=2**53)] | None = None
    batch: Annotated[int, Field(gt=0, le=2**31)] | None = None
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    recipe: _Recipe = _Recipe()
    versions: dict[str, str] = {}
    retention: dict[str, _Row] = {}


class _Modality(BaseModel, strict=True, extra="allow"):
    __pydantic_extra__: dict[str, JsonValue]
    tokenizer: str
    size: list[Annotated[int, Field(gt=0)]]
    dims: int
    channels: int
    pretext: str
    decoder: dict[str, Any] | None = None
    distribution: str | None = None
    fingerprint: dict[str, Any] | None = None


class _Masking(BaseModel, strict=True, extra="forbid"):
    patches: Annotated[float, Field(gt=0, lt=1)]
    words: Annotated[float, Field(gt=0, lt=1)]


class _Encoder(BaseModel, strict=True, extra="forbid", allow_inf_nan=False):
    width: Annotated[int, Field(gt=0)]
    depth: Annotated[int, Field(gt=0)]
    heads: Annotated[int, Field(gt=0)]
    mlp_ratio: float = 4.0
    layer_scale: float | None = None
    seed: Annotated[int, Field(ge=0)]
    masking: _Masking


class _Stored(BaseModel, strict=True, extra="allow", arbitrary_types_allowed=True):
    """Samples: integers (n, C, *size), and of each the scale and the offset."""

    integers: Tensor
    scale: Tensor
    offset: Tensor

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        parts = (self.integers, self.scale, self.offset)
        if any(part.ndim == 0 for part in parts) or len({len(part) for part in parts}) > 1:
            raise ValueError("there is not one scale and offset for each sample")
        return self


class _Anchors(_Stored):
    features: Tensor
    loss: float


class _Parts(BaseModel, strict=True, extra="ignore", arbitrary_types_allowed=True):
    """All of a checkpoint: what a rebuilt model, buffer and history will ask for."""

    encoder: _Encoder
    tokenizers: dict[str, dict[str, JsonValue]]
    modalities: dict[str, _Modality]
    weights: dict[str, Tensor]
    vocabularies: dict[str, str]
    buffer: dict[str, _Stored]
    anchors: dict[str, _Anchors]
    history: list[_Entry]
    memory: dict[str, dict[str, Any]]

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name, modality in self.modalities.items():
            if modality.tokenizer not in self.tokenizers:
                raise ValueError(f"tokenizers: there is none of {name}")
        return self
