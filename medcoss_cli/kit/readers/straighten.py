"""A series of shifted (tilted gantry) or unevenly spaced slices on an even grid whose axes are at right angles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medcoss_cli.kit.readers.volume import Array, FileGrid

STRAIGHTENED = "shifted or uneven slices: resampled to an even grid at right angles"
"""A note on such a volume."""

Offsets = tuple[tuple[float, float, float], ...]
"""Of the first voxel of each slice from that of the first slice, in mm along the grid's own axes x, y, z."""


def straight_grid(grid: FileGrid, offsets: Offsets, replaced: tuple[str, ...]) -> FileGrid:
    """The even grid: as many voxels in the plane, between the slices' mean shifts; the usual step from the first slice on.

    Args:
        grid: of the first slice, with the usual step.
        replaced: notes that are no longer true of it.
    """
    assert grid.spacing is not None
    assert grid.origin is not None
    assert grid.direction is not None
    places = np.array(offsets)
    count = int((places[-1, 2] + 0.01 * grid.spacing[2]) // grid.spacing[2]) + 1
    middle = np.array([*places[:, :2].mean(axis=0), 0])
    origin = np.array(grid.origin) + np.array(grid.direction).reshape(3, 3) @ middle
    x, y, z = (float(value) for value in origin)
    notes = (*(note for note in grid.notes if note not in replaced), STRAIGHTENED)
    return replace(grid, size=(*grid.size[:2], count), origin=(x, y, z), notes=notes)


def straightened(volume: Array, grid: FileGrid, offsets: Offsets) -> Array:
    """Slices (z, y, x) on the even grid of `straight_grid`, linear between slices and within them; outside the smallest value."""
    from scipy.ndimage import shift

    assert grid.spacing is not None
    places = np.array(offsets)
    middle = places[:, :2].mean(axis=0)
    smallest = float(volume.min())
    moved = np.empty_like(volume)
    for number, plane in enumerate(volume):
        across, down = (places[number, :2] - middle) / grid.spacing[:2]
        moved[number] = shift(plane, (down, across), order=1, mode="constant", cval=smallest)
    count = int((places[-1, 2] + 0.01 * grid.spacing[2]) // grid.spacing[2]) + 1
    result = np.empty((count, *volume.shape[1:]), np.float32)
    for number in range(count):
        depth = min(number * grid.spacing[2], places[-1, 2])
        above = int(np.clip(np.searchsorted(places[:, 2], depth), 1, len(places) - 1))
        share = (depth - places[above - 1, 2]) / (places[above, 2] - places[above - 1, 2])
        result[number] = (1 - share) * moved[above - 1] + share * moved[above]
    return result
