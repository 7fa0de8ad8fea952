"""Augmentation of stored integers."""

from __future__ import annotations

import statistics

import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from medcoss_cli.kit.augment import CropAndFlip
from medcoss_cli.randomness import generator


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
def test_integers_are_cropped_as_the_same_image_of_floats_rounded(dtype: torch.dtype) -> None:
    limits = torch.iinfo(torch.int16)
    image = torch.randint(limits.min, limits.max, (1, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    for number in range(8):
        exact = CropAndFlip()(image.to(torch.float32), generator(0, number))
        view = CropAndFlip()(image.to(dtype), generator(0, number))
        assert view.dtype == dtype
        if dtype == torch.int16:
            exact = exact.clamp(limits.min, limits.max)  # what overshoots is cut off and does not wrap
        assert (view.to(torch.float32) - exact).abs().max() <= 0.5


def test_crops_are_as_large_as_torchvision_draws_them() -> None:
    """Each crop is measured on a ramp: the slope of what it shows is its side."""
    side, count = 48, 1500
    ramp = torch.arange(side, dtype=torch.float32)
    image = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij"))[None]
    areas = []
    for number in range(count):
        rows, columns = CropAndFlip()(image, generator(0, number))[0]
        areas.append(abs(float((rows[30, 24] - rows[18, 24]) * (columns[24, 30] - columns[24, 18]))) / 144)
    torch.manual_seed(0)
    theirs = [RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    expected = [h * w / side**2 for _, _, h, w in theirs]
    assert statistics.fmean(areas) == pytest.approx(statistics.fmean(expected), abs=0.02)
    assert statistics.quantiles(areas, n=4) == pytest.approx(statistics.quantiles(expected, n=4), abs=0.04)


def test_a_crop_of_a_long_image_has_an_allowed_ratio() -> None:
    image = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(200.0), indexing="ij"))[None]
    for number in range(20):
        rows, columns = CropAndFlip(scale=(0.9, 1.0))(image, generator(0, number))[0]
        width, height = abs(columns[4, 140] - columns[4, 60]) / 80 * 200, abs(rows[6, 100] - rows[2, 100]) / 4 * 8
        assert (float(height), float(width)) == pytest.approx((8, 11), abs=0.2)
