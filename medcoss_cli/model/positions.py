"""Sine-cosine positions for any grid in one, two or three dimensions."""

from __future__ import annotations

import torch
from torch import Tensor


def sincos(grid: tuple[int, ...], width: int, trained: tuple[int, ...] | None = None) -> Tensor:
    """Fixed positions of a grid of tokens, in raster order.

    The width is split into as many even parts as the grid has axes; each part holds sines, then cosines of that axis.
    What is left over (768 / 3 is even, 128 / 3 is not) stays zero.

    Args:
        grid: tokens per axis, such as (112,), (14, 14) or (1, 12, 12).
        width: D.
        trained: grid that the network was trained on. Along an axis where `grid` is longer, coordinates are scaled into
            this range, centre to centre, as a learned table would be resized: numbers beyond it were never trained. The
            depth of a volume runs on all the same: scaling it was no better (hippocampus in tokens four deep, encoder trained
            one deep: AUC .944 run on, .939 scaled, three seeds fine-tuned; .819 and .806 frozen).

    Returns: (L, D) float32, L the product of the grid.
    Source: He et al. 2022 (two axes); three axes likewise, a third of the width each.
    """
    part = width // len(grid) // 2 * 2
    frequencies = 1.0 / 10000 ** (torch.arange(part // 2, dtype=torch.float64) / (part / 2))
    trained = trained or grid
    if len(grid) == 3:
        trained = (grid[0], *trained[1:])
    axes = torch.meshgrid(*map(_coordinates, grid, trained), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in axes]
    table = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return torch.nn.functional.pad(table, (0, width - table.shape[1])).float()


def _coordinates(count: int, trained: int) -> Tensor:
    places = torch.arange(count, dtype=torch.float64)
    return (places + 0.5) * trained / count - 0.5 if count > trained else places
