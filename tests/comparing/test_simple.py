"""The yardstick without an encoder finds what pixels or words alone tell, and nothing where they tell nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medcoss_cli.comparing.simple import GRID, features, simple
from medcoss_cli.console import Screen
from tests.finetuning_runs import CLASSES, recipe_of
from tests.pretraining_runs import options


def write(folder: Path, *, tells: bool) -> Path:
    """Images of noise of two classes, one of them brighter where brightness is to tell."""
    generator = np.random.default_rng(0)
    (folder / "xray").mkdir(parents=True)
    rows = []
    for number in range(80):
        label = number % 2
        pixels = generator.integers(0, 120, (32, 32)) + (60 * label if tells else 0)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "xray" / f"{number}.png")
        split = ("train", "train", "val", "test")[number // 20]
        rows.append({"path": f"{number}.png", "split": split, "group": number, "label": "ab"[label]})
    with (folder / "xray" / "manifest.csv").open("w") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder


@pytest.mark.parametrize("tells", [True, False])
def test_it_finds_what_pixels_alone_tell(tmp_path: Path, tells: bool) -> None:
    data = write(tmp_path / "data", tells=tells)
    found = simple(recipe_of(tmp_path, CLASSES, "data.workers=1"), options(tmp_path, data), Screen())
    assert (found["validation"]["accuracy"] == 1.0) == tells
    assert (found["metrics"]["accuracy"] > 0.9) == tells


def test_features_are_means_over_a_grid_and_of_a_channel() -> None:
    images = torch.rand(3, 2, 32, 48, generator=torch.Generator().manual_seed(0))
    made = features(images, 2)
    assert made.shape == (3, 2 * 16 * 16 + 4)
    assert torch.allclose(made[:, 0], images[:, 0, :2, :3].mean((1, 2)))
    assert torch.allclose(made[:, -4:-2], images.mean((2, 3)))


def test_words_are_counted_and_padding_is_not() -> None:
    made = features(torch.tensor([[5, 7, 5, 0, 0]]), 1)
    assert made.shape == (1, GRID[1][0])
    assert (made[0, 5], made[0, 7], made[0, 0], made.sum()) == (2, 1, 0, 3)
