"""Where tissue is on a slide, and which tiles of it are taken: from a low-resolution picture, without random numbers."""

from __future__ import annotations

import numpy as np

from medcoss_slides.slide import Array

FAINTEST, STRONGEST = 15, 64
"""Limits of the threshold on saturation (0 to 255). Glass stays below 15; marks of a pen, or a slide that is all tissue,
would else raise the threshold above stained tissue."""
DARK = 25
"""Of 255: the black that scanners fill a slide with is no tissue, though its saturation is noise."""


def saturation(picture: Array) -> Array:
    """(H, W, 3) uint8 to (H, W) uint8: HSV saturation, smoothed over 3 x 3 pixels; 0 where it is black."""
    from scipy.ndimage import uniform_filter

    values = uniform_filter(picture.astype(np.float32), size=(3, 3, 1), mode="nearest")
    high, low = values.max(axis=-1), values.min(axis=-1)
    share = np.where(high >= DARK, (high - low) / np.maximum(high, 1), 0)
    return np.asarray(np.rint(share * 255), np.uint8)


def otsu(values: Array) -> int:
    """The value of uint8 above which the brighter of two classes lies: the variance between the classes is largest."""
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    sums = np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return int(np.nanargmax(np.nan_to_num(between)))


def find_tissue(picture: Array, smallest: float) -> Array:
    """(H, W, 3) uint8 to (H, W) bool: stained tissue, without objects of fewer than `smallest` pixels."""
    from scipy.ndimage import label

    stained = saturation(picture)
    mask = stained > min(max(otsu(stained), FAINTEST), STRONGEST)
    objects, count = label(mask)
    if count:
        sizes = np.bincount(objects.ravel())
        mask &= (sizes >= smallest)[objects]
    return np.asarray(mask)


def grid_of_tiles(
    mask: Array, scale: tuple[float, float], tile: tuple[float, float], share: float
) -> list[tuple[int, int]]:
    """Places (column, row) of a grid of tiles of which at least `share` is tissue, all within the picture.

    Args:
        mask: (H, W) bool.
        scale: pixels of level 0 that a pixel of the mask stands for, along x and y.
        tile: width and height of a tile in pixels of level 0.
    """
    height, width = mask.shape
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = mask.cumsum(0).cumsum(1)
    columns, rows = int(width * scale[0] / tile[0] + 1e-6), int(height * scale[1] / tile[1] + 1e-6)
    # pixels of the mask at the tiles' edges; a tile has one at least
    x = np.minimum(np.rint(np.arange(columns + 1) * tile[0] / scale[0]).astype(int), width)
    y = np.minimum(np.rint(np.arange(rows + 1) * tile[1] / scale[1]).astype(int), height)
    area = np.maximum((y[1:] - y[:-1])[:, None] * (x[1:] - x[:-1])[None, :], 1)
    inside = total[y[1:]][:, x[1:]] - total[y[:-1]][:, x[1:]] - total[y[1:]][:, x[:-1]] + total[y[:-1]][:, x[:-1]]
    found = np.argwhere(inside / area >= share)
    return [(int(column), int(row)) for row, column in found]


def spread(places: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """At most `count` of them, evenly over the slide: every n-th along a Z-order curve; sorted."""
    if len(places) <= count:
        return sorted(places)
    along = sorted(places, key=lambda place: _interleaved(*place))
    return sorted(along[index * len(along) // count] for index in range(count))


def _interleaved(x: int, y: int) -> int:
    return sum(((x >> bit & 1) | (y >> bit & 1) << 1) << 2 * bit for bit in range(21))
