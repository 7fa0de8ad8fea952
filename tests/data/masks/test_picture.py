"""Pictures of masks on their image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcoss_cli.data.masks import overlay, portrait

TWO = ["organ", "tumour"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(20, 30), (1, 12, 16), (9, 12, 16)])
def test_a_picture_shows_both_masks_in_the_colours_of_their_classes(
    tmp_path: Path, channels: int, shape: tuple[int, ...]
) -> None:
    values = np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32)
    values[0, ..., 0, 0] = np.nan
    labels = np.zeros(shape, np.uint8)
    labels[..., 3:9, 3:9] = 1
    labels[..., 4:7, 4:7] = 2
    for truth, masks in ((None, 1), (labels, 2), (np.zeros_like(labels), 2)):
        overlay(values, labels, truth, ["$organ", "tumour"], tmp_path / "a.png", (2.0,) * len(shape))
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.width == pytest.approx(120 * 3.2 * (1 + masks), abs=1)
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        middle = pixels[:, pixels.shape[1] * masks // (1 + masks) :]  # the last column is the prediction
        for colour in ((230, 25, 45), (40, 175, 75)):
            assert (np.abs(middle - colour).max(-1) < 12).sum() > 20


def test_a_picture_of_an_empty_mask_and_a_flat_image(tmp_path: Path) -> None:
    for values in (np.zeros((1, 8, 12, 16), np.float32), np.full((1, 8, 12, 16), np.nan, np.float32)):
        overlay(values, np.zeros((8, 12, 16), np.uint8), None, TWO, tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_name_in_another_encoding_is_drawn(tmp_path: Path) -> None:
    overlay(np.eye(8)[None], np.eye(8, dtype=np.uint8), None, ["organ\udcff"], tmp_path / "a.png")
    portrait(np.eye(8)[None], "organ\udcff", tmp_path / "b.png")
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("a.png", "b.png"))
