"""What an exported file says of itself: one JSON text in its metadata (schema 1), plain values, nothing private."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from medcoss_cli.errors import CheckpointError
from medcoss_cli.store import typed

SCHEMA = 1
KEY = "medcoss"  # of the ONNX metadata
USE = "Research use only. Not a medical device: nothing it says may decide about a patient."


@dataclass(frozen=True)
class Description:
    """Plain values only.

    Args:
        kind: "encoder" (tokens to features), "features" (inputs to features) or "task" (inputs to a head's outputs).
        modality, title, distribution: the modality and the plugin that brings it; None for the encoder alone.
        plugin: the modality's fingerprint, as `registry.fingerprint` compares it.
        opset: of ONNX; None for weights of another library.
        axes: of the input, in order: batch, then channel and space, or words, or tokens and width.
        sizes: of each axis: "any", a number, or a step whose multiples are taken, as {"step": 16}.
        channels: of the input; 0 for words.
        size: what the network was trained on.
        value_range: smallest and largest value of the samples used for verification, as the network sees them.
        unit: what a value is.
        intensity: the modality's rule: its name and numbers, and `factor`, `shift` of
            input = (integer * scale + offset) * factor + shift.
        vocabulary: SHA-256 of the tokenizer's JSON that lies beside; None where there are no words.
        classes, task: of a fine-tuned network; the task without its vocabulary.
        task_distribution: what brings the kind of task.
        encoder: its dimensions.
        tokenizer, tokenizer_spec: of the modality.
        checkpoint: SHA-256 of the file it was made from.
        licence: of the weights, as whoever exported them says.
        packages: distributions that using it without torch needs.
    """

    kind: str
    precision: str
    opset: int | None
    axes: list[str]
    sizes: list[Any]
    checkpoint: str
    versions: dict[str, str]
    encoder: dict[str, Any]
    licence: str = "not stated"
    intended_use: str = USE
    modality: str | None = None
    title: str | None = None
    distribution: str | None = None
    plugin: dict[str, Any] | None = None
    dims: int | None = None
    channels: int | None = None
    size: list[int] | None = None
    spacing: list[float] | None = None
    value_range: list[float] | None = None
    unit: str | None = None
    intensity: dict[str, Any] | None = None
    tokenizer: str | None = None
    tokenizer_spec: dict[str, Any] | None = None
    vocabulary: str | None = None
    classes: list[str] | None = None
    task: dict[str, Any] | None = None
    task_distribution: str | None = None
    packages: list[str] | None = None

    def to_text(self) -> str:
        """JSON for the file's metadata."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, sort_keys=True)


class _Rule(BaseModel, strict=True, extra="allow"):
    factor: float
    shift: float


class _Step(BaseModel, strict=True):
    step: Annotated[int, Field(gt=0)]


class _Nested(BaseModel, extra="ignore"):
    intensity: _Rule | None
    axes: Annotated[list[str], Field(min_length=1)]
    sizes: list[_Step | Annotated[int, Field(gt=0)] | Literal["any"]]
    size: list[Annotated[int, Field(gt=0)]] | None
    kind: Literal["encoder", "features", "task"]


def read(metadata: Mapping[str, str], path: Path) -> Description:
    """From a file's metadata. Raises: CheckpointError for a foreign file, a newer schema, or damage."""
    if KEY not in metadata:
        raise CheckpointError(
            "this ONNX file was not exported by medcoss", where=path, fix="export one: medcoss export CKPT"
        )
    try:
        content = typed.loads(metadata[KEY])
        schema = content.pop("schema")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError("its metadata is damaged", where=path, fix="export it again") from error
    if schema != SCHEMA:
        raise CheckpointError(
            f"written by another medcoss (schema {schema}; this one knows {SCHEMA})",
            where=path,
            fix="pip install --upgrade medcoss",
        )
    for field in fields(Description):
        if field.name not in content:
            raise CheckpointError(f"its metadata lacks {field.name!r}", where=path, fix="export it again")
    values = {field.name: content[field.name] for field in fields(Description)}
    about = typed.checked(Description, values, path, fix="export it again", what="its metadata")
    typed.checked(_Nested, values, path, fix="export it again", what="its metadata")
    return about


def sha256(content: bytes) -> str:
    """Of a file's content."""
    return hashlib.sha256(content).hexdigest()


def hash_of(path: Path) -> str:
    """SHA-256 of a file, which need not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def words_beside(path: Path) -> Path:
    """Where the vocabulary of an exported file lies."""
    return path.with_suffix(".tokenizer.json")


def card_beside(path: Path) -> Path:
    """Where its model card lies."""
    return _beside(path, "md")


def verification_beside(path: Path) -> Path:
    """Where the numbers of its verification are."""
    return _beside(path, "verification.json")


def _beside(path: Path, ending: str) -> Path:
    """x.onnx has x.md; what is no ONNX keeps its own ending in front, since both may lie in one folder."""
    return path.with_suffix(f".{ending}") if path.suffix == ".onnx" else path.with_name(f"{path.name}.{ending}")
