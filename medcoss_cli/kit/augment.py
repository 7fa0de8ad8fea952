"""Random views of stored integers. Each works on one sample at a time, so that crops differ within a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Unchanged:
    """No augmentation (text: every draw hides other words)."""

    def __call__(self, batch: Tensor, generator: Generator) -> Tensor:
        return batch


@dataclass(frozen=True)
class Mirror:
    """Flip each axis, with `probability`, with probability 0.5 (3D)."""

    probability: float = 0.5

    def __call__(self, batch: Tensor, generator: Generator) -> Tensor:
        import torch

        draws = torch.rand(batch.ndim - 1, generator=generator).tolist()
        if draws[0] >= self.probability:
            return batch
        axes = [axis for axis in range(2, batch.ndim) if draws[axis - 1] < 0.5]
        return batch.flip(axes) if axes else batch


@dataclass(frozen=True)
class CropAndFlip:
    """Random resized crop (bicubic, antialiased) and horizontal flip of images (MAE).

    Args:
        scale: smallest and largest share of the area.
        ratio: smallest and largest aspect ratio of the crop.
        flip: probability of the horizontal flip.
    """

    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __call__(self, batch: Tensor, generator: Generator) -> Tensor:
        import torch
        import torch.nn.functional as F

        height, width = batch.shape[-2:]
        area, aspect, top, left, flip = torch.rand(5, generator=generator).tolist()
        side = math.sqrt(height * width * (self.scale[0] + area * (self.scale[1] - self.scale[0])))
        low, high = (math.log(r) for r in self.ratio)
        stretch = math.exp((low + aspect * (high - low)) / 2)
        h, w = min(height, max(1, round(side / stretch))), min(width, max(1, round(side * stretch)))
        y, x = round(top * (height - h)), round(left * (width - w))
        crop = batch[..., y : y + h, x : x + w]
        if (h, w) != (height, width):
            # torch resizes uint8 and floats only; other integers are resized as float32 and rounded
            supported = crop.dtype == torch.uint8 or crop.is_floating_point()
            resized = F.interpolate(
                crop if supported else crop.float(), (height, width), mode="bicubic", antialias=True
            )
            if not supported:  # bicubic interpolation overshoots
                limits = torch.iinfo(batch.dtype)
                resized = resized.round().clamp(limits.min, limits.max)
            crop = resized.to(batch.dtype)
        return crop.flip(-1) if flip < self.flip else crop
