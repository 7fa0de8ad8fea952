"""From a sample's own grid to the grid the network works on, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medcoss_cli.data.resize import CUBIC, LINEAR, NEAREST, resize, resize_labels
from medcoss_cli.errors import DataError
from medcoss_cli.plugin import Sample

Array = np.ndarray[Any, Any]
LONGEST = 2**40
"""Voxels along a side: more than any memory holds, and few enough that the bytes of a volume are still a number."""


@dataclass(frozen=True)
class Frame:
    """How a sample's array maps to the network's grid: cropped to `box`, then resized from `before` to `after`."""

    shape: tuple[int, ...]
    """Voxels of the sample along its axes."""
    box: tuple[slice, ...]
    after: tuple[int, ...]
    orders: tuple[int, ...]
    """Interpolation of images along each axis."""

    @property
    def before(self) -> tuple[int, ...]:
        return tuple(part.stop - part.start for part in self.box)

    def image(self, array: Array) -> Array:
        """(C, *shape) to (C, *after) float32."""
        return resize(array[(slice(None), *self.box)], self.after, self.orders)

    def labels(self, mask: Array) -> Array:
        """(*shape) to (*after) whole numbers: linear where images are cubic, else the nearest."""
        return resize_labels(
            mask[self.box], self.after, [LINEAR if order == CUBIC else NEAREST for order in self.orders]
        )

    def restore(self, labels: Array) -> Array:
        """Predicted labels (*after) to (*shape), linear, 0 beyond the box."""
        restored = np.zeros(self.shape, labels.dtype)
        restored[self.box] = resize_labels(labels, self.before, (LINEAR,) * labels.ndim)
        return restored


@dataclass(frozen=True)
class Layout:
    """How samples are mapped to the network's grid.

    Args:
        size: every sample is resized to it, linearly (images).
        spacing: mm per axis (D, H, W) that volumes are resampled to, as nnU-Net does; without both, as scanned.
        crop: cut to the box of what is not 0 first (MRI; nnU-Net's preparation).
    """

    size: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    crop: bool = False

    def frame(self, sample: Sample) -> Frame:
        """The frame of this sample. Raises: DataError if a spacing is requested and the file has none."""
        shape = tuple(sample.array.shape[1:])
        box = _box(sample.array) if self.crop else tuple(slice(0, n) for n in shape)
        before = tuple(part.stop - part.start for part in box)
        linear = (LINEAR,) * len(shape)
        if self.size is not None:
            return Frame(shape, box, self.size, linear)
        if self.spacing is None:
            return Frame(shape, box, before, linear)
        if sample.spacing is None:
            raise DataError(
                f"the file has no voxel spacing, so it cannot be resampled to {' x '.join(map(str, self.spacing))} mm",
                fix="save it in a format that has one; of an array give spacing=",
            )
        steps = zip(before, sample.spacing, self.spacing, strict=True)
        after = tuple(max(1, round(min(n * spacing / target, LONGEST))) for n, spacing, target in steps)
        return Frame(shape, box, after, _orders(sample.spacing, self.spacing))


def _orders(stored: tuple[float, ...], target: tuple[float, ...]) -> tuple[int, ...]:
    """nnU-Net's rule: cubic, but the nearest slice where slices are thick, 3 times as far apart as pixels before or after."""
    for spacing in (stored, target):
        thickest = max(spacing)
        if thickest > 3 * min(spacing) and spacing.count(thickest) == 1:
            return tuple(NEAREST if side == thickest else CUBIC for side in spacing)
    return (CUBIC,) * len(target)


def _box(array: Array) -> tuple[slice, ...]:
    """The smallest box around all voxels that are not 0; everything where all are."""
    full = (array != 0).any(axis=0)
    sides = []
    for axis, length in enumerate(full.shape):
        occupied = np.flatnonzero(full.any(axis=tuple(a for a in range(full.ndim) if a != axis)))
        sides.append(slice(int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else slice(0, length))
    return tuple(sides)
