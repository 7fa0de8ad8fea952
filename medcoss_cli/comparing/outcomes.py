"""What is on disk: a comparison's folder, and what each cell gave, one JSON file each. No torch in here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcoss_cli.comparing.cells import Plan, Training
from medcoss_cli.store import atomic
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
    """A cell's outcome; None where there is none yet."""
    try:
        content: dict[str, Any] = json.loads(place.outcome(key).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


def done(place: Place, key: str) -> bool:
    """Is the cell made?"""
    content = read(place, key)
    return content is not None and content.get("status") == "done"
