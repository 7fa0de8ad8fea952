"""What the tests of the Python door share: one checkpoint that knows texts, images and volumes."""

from __future__ import annotations

from pathlib import Path

from tests.pretraining_runs import RECIPE, train, write_demo

TEXT = RECIPE + "  - {modality: ct, data: ct, size: [16, 32, 32], tokenizer: patch3d-8}\n"


def door(folder: Path) -> tuple[Path, Path]:
    """(data, run) of a small training."""
    data = write_demo(folder / "data", report=30, xray=30, ct=4)
    train(folder, data, "train.epochs=0.5", "train.warmup=0", text=TEXT)
    return data, folder / "runs" / "run"
