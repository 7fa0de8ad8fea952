"""Sine-cosine positions for any grid in one, two or three dimensions."""

from __future__ import annotations

import torch
from torch import Tensor


def sincos(grid: tuple[int, ...], width: int) -> Tensor:
    """Fixed positions of a grid of tokens, in raster order.

    The width is split into as many even parts as the grid has axes; each part holds sines, then cosines of that axis.
    What is left over (768 / 3 is even, 128 / 3 is not) stays zero.

    Args:
        grid: tokens per axis, such as (112,), (14, 14) or (1, 12, 12).
        width: D.

    Returns: (L, D) float32, L the product of the grid.
    Source: He et al. 2022 (two axes); three axes likewise, a third of the width each.
    """
    part = width // len(grid) // 2 * 2
    frequencies = 1.0 / 10000 ** (torch.arange(part // 2, dtype=torch.float64) / (part / 2))
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in axes]
    table = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return torch.nn.functional.pad(table, (0, width - table.shape[1])).float()
