"""Images, volumes and signals cut into patches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def grid_of(size: tuple[int, ...], patch: tuple[int, ...]) -> tuple[int, ...]:
    """Patches per axis. Raises ValueError if the size is no multiple of the patch."""
    if len(size) != len(patch) or any(s < p or s % p for s, p in zip(size, patch, strict=False)):
        raise ValueError(f"size {size} is not a multiple of the patch {patch}")
    return tuple(s // p for s, p in zip(size, patch, strict=True))


def patchify(batch: Tensor, patch: tuple[int, ...], channels: int) -> Tensor:
    """Cut (N, C, *size) into (N, L, V): raster order of patches, values ordered (*patch, channel).

    A batch with one channel is repeated to `channels`, as the paper does with grey X-rays.
    """
    if batch.shape[1] != channels:
        batch = batch.expand(-1, channels, *batch.shape[2:])
    n, c, *size = batch.shape
    dims = len(size)
    grid = grid_of(tuple(size), patch)
    split = batch.reshape(n, c, *(k for pair in zip(grid, patch, strict=True) for k in pair))
    grids, patches = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    return split.permute(0, *grids, *patches, 1).reshape(n, math.prod(grid), math.prod(patch) * c)


def unpatchify(patches: Tensor, size: tuple[int, ...], patch: tuple[int, ...], channels: int) -> Tensor:
    """The inverse of `patchify`: (N, L, V) to (N, C, *size)."""
    n, dims = patches.shape[0], len(size)
    split = patches.reshape(n, *grid_of(size, patch), *patch, channels)
    order = [k for axis in range(dims) for k in (1 + axis, 1 + dims + axis)]
    return split.permute(0, 1 + 2 * dims, *order).reshape(n, channels, *size)
