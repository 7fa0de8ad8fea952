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
        h, w = self._sides(height, width, generator)
        top, left, flip = torch.rand(3, generator=generator).tolist()
        y, x = int(top * (height - h + 1)), int(left * (width - w + 1))
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

    def _sides(self, height: int, width: int, generator: Generator) -> tuple[int, int]:
        """Height and width of the crop, as torchvision draws them: again where they are larger than the image.

        Cutting them to the image's sides instead would favour large crops: a mean area of .60 instead of .54.
        """
        import torch

        low, high = (math.log(r) for r in self.ratio)
        for area, aspect in torch.rand(10, 2, generator=generator).tolist():
            side = math.sqrt(height * width * (self.scale[0] + area * (self.scale[1] - self.scale[0])))
            stretch = math.exp((low + aspect * (high - low)) / 2)
            h, w = round(side / stretch), round(side * stretch)
            if 0 < h <= height and 0 < w <= width:
                return h, w
        # the largest crop whose ratio is allowed; in the middle in torchvision, anywhere here
        return min(height, round(width / self.ratio[0])), min(width, round(height * self.ratio[1]))
