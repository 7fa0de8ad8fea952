"""Random views of clips: one crop and one flip in the plane for all frames; time runs forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcoss_cli.kit import CropAndFlip

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class SamePlane:
    """Random resized crop and horizontal flip, the same for all frames of a clip; see kit.CropAndFlip.

    Args:
        scale: smallest and largest share of the area.
        flip: probability of the horizontal flip; 0 where left and right matter.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    flip: float = 0.5

    def __call__(self, batch: Tensor, generator: Generator) -> Tensor:
        """(N, 1, T, H, W) to the same: the frames stand where CropAndFlip, which crops a sample at once, has channels."""
        crop = CropAndFlip(scale=self.scale, flip=self.flip)
        return crop(batch.flatten(1, 2), generator).view(batch.shape)
