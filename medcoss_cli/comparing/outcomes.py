"""What is on disk: a comparison's folder, and what each cell gave, one JSON file each. No torch in here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from medcoss_cli.comparing.cells import Plan, Training
from medcoss_cli.store import atomic, typed
from medcoss_cli.training.runs import Options


@dataclass(frozen=True)
class Place:
    """The comparison's folder, and those of data and prepared sets."""

    folder: Path
    data_root: Path
    prepared: Path

    def outcome(self, key: str) -> Path:
        """What a cell gave, or why it failed."""
        return self.folder / "cells" / f"{key}.json"

    def run(self, key: str) -> Path:
        """The folder of a training or a fine-tuning."""
        return self.folder / "runs" / key

    def arrays(self, key: str, after: int | None = None) -> Path:
        """The numbers of each test case; of a head under later encoders for each of them."""
        return self.folder / "cells" / (f"{key}.npz" if after is None else f"{key}-{after}.npz")

    def options(self, key: str) -> Options:
        """Of the run of a cell."""
        return Options(key, False, self.data_root, self.prepared, self.folder / "runs")

    def encoder(self, plan: Plan, training: str, stage: int, modality: str | None = None) -> Path:
        """What a stage of a training left: all weights.

        Args:
            modality: as it serves this one, where the strategy has a network for each (packnet).
        """
        cell = plan.cells[training]
        assert isinstance(cell, Training)
        folder = self.run(training) / "stages" / f"{stage}-{cell.order[stage - 1]}"
        own = folder / f"for-{modality}.safetensors"
        return own if own.exists() else folder / "encoder.safetensors"


def log(place: Place, key: str) -> Path:
    """What a cell printed."""
    return place.folder / "logs" / f"{key}.txt"


def write(place: Place, key: str, content: Mapping[str, Any]) -> None:
    """Write a cell's outcome. Private: an error may name files."""
    atomic.write(place.outcome(key), json.dumps(content, indent=1).encode())


def read(place: Place, key: str) -> dict[str, Any] | None:
    """A cell's outcome; None where there is none yet. Raises: CheckpointError for one that is damaged."""
    try:
        return typed.read_plain(
            _FORMS[key.partition("-")[0]],
            place.outcome(key),
            fix="remove it; the cell is then made again",
            what="what a cell gave",
        )
    except FileNotFoundError:
        return None


def done(place: Place, key: str) -> bool:
    """Is the cell made?"""
    content = read(place, key)
    return content is not None and content.get("status") == "done"


Metrics = dict[str, float | None]


class _Failed(BaseModel, strict=True, extra="forbid"):
    status: Literal["failed"]
    error: str


class _Done(BaseModel, strict=True, extra="allow"):
    """What every cell gives."""

    status: Literal["done"]
    seconds: Annotated[float, Field(ge=0)]
    peak_memory_gib: Annotated[float, Field(ge=0)] = 0.0
    baseline: Metrics | None = None
    samples: Annotated[int, Field(ge=0)] | None = None
    start: dict[str, Any] | None = None


class _Measured(BaseModel, strict=True, extra="allow"):
    cka: float | None = None
    cosine: float | None = None
    shift: float | None = None
    loss: float
    loss_then: Annotated[float, Field(gt=0)]
    relative_then: float


class _Retained(BaseModel, strict=True, extra="allow"):
    """What a stage left of each modality, by its name."""

    __pydantic_extra__: dict[str, _Measured]
    after: str


class _Trained(_Done):
    retention: list[_Retained]
    steps: Annotated[int, Field(ge=0)]
    own_steps: Annotated[int, Field(ge=0)]
    step_seconds: Annotated[float, Field(ge=0)]
    hash: str


class _Tuned(_Done):
    kind: str
    classes: list[str] | dict[str, Any] | None
    validation: Metrics | None
    metrics: Metrics | None
    baseline: Metrics | None
    samples: Annotated[int, Field(ge=0)] | None
    trained: Annotated[int, Field(ge=0)]
    start: dict[str, Any]


class _Later(_Done):
    metrics: dict[str, Metrics]


class _Simple(_Done):
    validation: Metrics | None = None
    metrics: Metrics | None = None


_STATUS = Field(discriminator="status")
_FORMS: dict[str, Any] = {
    "pretrain": Annotated[_Failed | _Trained, _STATUS],
    "tune": Annotated[_Failed | _Tuned, _STATUS],
    "later": Annotated[_Failed | _Later, _STATUS],
    "simple": Annotated[_Failed | _Simple, _STATUS],
}
"""By the beginning of a cell's key."""
