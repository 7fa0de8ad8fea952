"""Augmentation of stored integers."""

from __future__ import annotations

import pytest
import torch

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
