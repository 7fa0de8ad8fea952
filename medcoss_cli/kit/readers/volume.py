"""What every volume goes through after decoding: axes turned, resampling, cropping, windows along depth.

A grid's index order is (x, y, z): x runs fastest in memory. Arrays have the reverse order (z, y, x).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medcoss_cli import plugin
from medcoss_cli.errors import DataError

Array = np.ndarray[Any, Any]
Slices = Literal["axial", "acquired"]

MAX_HELD = 7 * 2**27
"""Bytes of one volume in memory: with the windows that are cut from it, reading takes less than 1 GiB."""
MAX_VOXELS = MAX_HELD // 2
"""Of one volume, from the header before decoding, and again after resampling: 1,792 slices of 512 x 512, as int16."""
MAX_BYTES = 3 * 2**29
"""Of one volume as it is decoded, and with the windows that are cut from it: ten seconds of a compressed file."""
BLOCK = 32
"""Slices that are resampled at a time."""
ALIKE = 0.01
"""Share by which two spacings of a grid may differ and still be equal."""
SQUARE = 0.01
"""Cosine between two axes above which a grid is not at right angles (0.6 degrees)."""
OBLIQUE = 0.9986
"""Cosine of 3 degrees: axes further from the patient's than that are said to be oblique."""


@dataclass(frozen=True, slots=True)
class NiftiPlace:
    """What a NIfTI header says of its volume's place, so that a mask can say the same to readers that prefer the qform, to
    those that prefer the sform, and to those that take neither."""

    pixdim: tuple[float, ...]
    units: int
    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]
    """b, c, d and the offsets x, y, z."""
    sform: tuple[float, ...]
    """Three rows of four."""


@dataclass(frozen=True, slots=True)
class FileGrid(plugin.Grid):
    """Size and place of a volume, and how many a file holds."""

    volumes: int = 1
    """More than one where a file holds a time series."""
    notes: tuple[str, ...] = ()
    in_plane: tuple[float, float] | None = None
    """mm along x and y where the distance of the slices, and so `spacing`, is unknown."""
    labels: bool = False
    """The header calls the values labels: a mask, and no image."""
    nifti: NiftiPlace | None = None
    """Of a NIfTI file."""

    def check(self, path: Path) -> FileGrid:
        """The same grid. Raises DataError for a size or spacing that cannot be."""
        if min(self.size) < 1:
            raise DataError(f"a size of {_by(self.size)} voxels is not a volume", where=path)
        if self.size[0] * self.size[1] * self.size[2] > MAX_VOXELS:
            raise DataError(
                f"{_by(self.size)} voxels are more than the limit of {MAX_VOXELS:,} (1,792 slices of 512 x 512)",
                where=path,
                fix="cut the volume, or resample it to larger voxels",
            )
        if self.spacing is not None and not all(0 < step < 1e4 for step in self.spacing):
            raise DataError(f"a voxel spacing of {_by(self.spacing)} mm cannot be", where=path)
        if not np.isfinite((*(self.origin or ()), *(self.direction or ()))).all():
            raise DataError("the header is damaged (position of the volume)", where=path)
        return self


def check_bytes(count: int, itemsize: int, path: Path, most: int = MAX_BYTES, how: str = "") -> None:
    """Raise DataError for a volume that decodes to more bytes than the limit, from its header alone."""
    if count * itemsize > most:
        raise DataError(
            f"{count:,} voxels of {itemsize * 8} bits{how} are more than the limit of {most // 2**20:,} MiB",
            where=path,
            fix="store it raw or with gzip, as int16 or float32",
        )


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # of a damaged header: what comes out is checked
def is_square(matrix: Array, tolerance: float = SQUARE) -> bool:
    """True where the axes of an affine (3, 4) are finite, not zero and at right angles."""
    lengths = np.linalg.norm(matrix[:, :3], axis=0)
    if not np.isfinite(matrix).all() or lengths.min() <= 0:
        return False
    cosines = matrix[:, :3] / lengths
    return bool(np.abs(cosines.T @ cosines - np.eye(3)).max() <= tolerance)


def _by(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


PLANES = (((1, 1), (2, -1), (0, 1)), ((0, 1), (2, -1), (1, 1)), ((0, 1), (1, 1), (2, 1)))
"""Where x, y, z point of slices along left (sagittal), posterior (coronal), superior (axial): (axis of L, P, S; its sign)."""


def slice_axis(grid: plugin.Grid) -> int:
    """The grid axis along which a volume was acquired: that of the largest spacing, among equal ones the last stored."""
    steps = grid.spacing or (1.0, 1.0, 1.0)
    return max(a for a in range(3) if steps[a] > (1 - ALIKE) * max(steps))


def _turn(grid: FileGrid, slices: Slices = "axial") -> tuple[tuple[int, int, int], tuple[bool, bool, bool], FileGrid]:
    """Which grid axis becomes x, y, z, which are flipped, and the new grid.

    Args:
        slices: axial: x, y, z are nearest to left, posterior, superior; acquired: z is the axis of `slice_axis`.
    """
    last = 2 if slices == "axial" else slice_axis(grid)
    if grid.direction is None:
        note = "no orientation in the header: axes taken as they are stored"
        order: tuple[int, ...] = (*(a for a in range(3) if a != last), last)
        return _taken(grid, order, (False, False, False), (*grid.notes, note))
    cosines = np.array(grid.direction).reshape(3, 3)
    nearest = max(itertools.permutations(range(3)), key=lambda o: sum(abs(cosines[w, a]) for w, a in enumerate(o)))
    plane = PLANES[2 if slices == "axial" else nearest.index(last)]
    order = tuple(nearest[w] for w, _ in plane)
    flips = tuple(bool(sign * cosines[w, nearest[w]] < 0) for w, sign in plane)
    notes = grid.notes
    if min(abs(cosines[w, nearest[w]]) for w in range(3)) < OBLIQUE:
        notes = (*notes, "oblique axes: turned to the nearest of the patient's, not resampled")
    return _taken(grid, order, flips, notes)


def _taken(
    grid: FileGrid, order: tuple[int, ...], flips: tuple[bool, ...], notes: tuple[str, ...]
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool], FileGrid]:
    """The grid whose axes are these of another one, some of them flipped."""
    direction = None if grid.direction is None else np.array(grid.direction).reshape(3, 3)
    origin = None if grid.origin is None else np.array(grid.origin)
    for w, a in enumerate(order):
        if flips[w] and origin is not None and grid.spacing is not None and direction is not None:
            origin = origin + direction[:, a] * grid.spacing[a] * (grid.size[a] - 1)
    turned = None if direction is None else direction[:, order] * np.where(flips, -1.0, 1.0)
    new = FileGrid(
        size=tuple(grid.size[a] for a in order),  # type: ignore[arg-type]  # three of three, which mypy cannot count
        spacing=None if grid.spacing is None else tuple(grid.spacing[a] for a in order),  # type: ignore[arg-type]
        origin=None if origin is None else tuple(float(x) for x in origin),  # type: ignore[arg-type]
        direction=None if turned is None else tuple(float(x) for x in turned.flatten()),
        volumes=grid.volumes,
        notes=notes,
    )
    return order, flips, new  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """What a loader makes of a volume, known from its header alone."""

    spacing: float | None = None
    crop_above: int | None = None
    trim: float = 0.0
    slices: Slices = "axial"

    def resampled(self, grid: FileGrid, path: Path) -> FileGrid:
        """The grid after turning and resampling. Raises DataError."""
        grid = _turn(grid, self.slices)[2]
        if self.spacing is None:
            return grid
        if grid.spacing is None:
            raise DataError(
                f"the file has no voxel spacing, so it cannot be resampled to {self.spacing:g} mm", where=path
            )
        size = tuple(max(1, round(n * s / self.spacing)) for n, s in zip(grid.size, grid.spacing, strict=True))
        # the same field of view in another number of voxels: outer faces stay where they were
        spacing = tuple(n * s / m for n, s, m in zip(grid.size, grid.spacing, size, strict=True))
        origin = grid.origin
        if origin is not None and grid.direction is not None:
            shift = (np.array(spacing) - np.array(grid.spacing)) / 2
            shifted = np.array(origin) + np.array(grid.direction).reshape(3, 3) @ shift
            origin = tuple(float(x) for x in shifted)  # type: ignore[assignment]
        new = replace(grid, size=size, spacing=spacing, origin=origin)  # type: ignore[arg-type]
        return new.check(path)

    def cut(self, size: tuple[int, int, int]) -> tuple[slice, slice, slice]:
        """What is kept of an array (D, H, W) whose grid has `size` (x, y, z)."""
        width, height, depth = size
        ends = int(depth * self.trim)
        if self.crop_above is None or max(width, height) <= self.crop_above:
            return slice(ends, depth - ends), slice(0, height), slice(0, width)
        middle = [slice(int(0.1 * n), max(int(0.1 * n) + 1, int(0.9 * n))) for n in (height, width)]
        return slice(ends, depth - ends), middle[0], middle[1]

    def depth(self, grid: FileGrid, path: Path) -> int:
        """Slices that are cut into windows."""
        deep = self.cut(self.resampled(grid, path).size)[0]
        return int(deep.stop - deep.start)

    def apply(self, array: Array, grid: FileGrid, path: Path) -> tuple[Array, FileGrid]:
        """Turn, resample and cut an array (z, y, x) of physical values: (D, H, W) float32 and its grid."""
        planned = Planned(self, array, grid, path)
        return planned.slices(0, planned.grid.size[2]), planned.grid


class Planned:
    """A volume as a plan wants it. Slices are made when they are asked for, so that it is never in memory as float32 as a whole.

    Args:
        array: (z, y, x) in physical values, as its file has it.
        grid: of the array.
        path: what errors name.

    Raises: DataError as `VolumePlan.resampled` does.
    """

    def __init__(self, plan: VolumePlan, array: Array, grid: FileGrid, path: Path) -> None:
        order, flips, turned = _turn(grid, plan.slices)
        view = array.transpose([2 - order[w] for w in (2, 1, 0)])
        self._view = view[tuple(slice(None, None, -1) if flips[w] else slice(None) for w in (2, 1, 0))]
        new = plan.resampled(grid, path)
        self._old, self._new = turned.size, new.size
        self._box = plan.cut(new.size)
        self.grid = cut_grid(new, self._box)
        self._smallest: float | None = None
        self._recent: dict[int, Array] = {}

    def slices(self, first: int, end: int) -> Array:
        """(end - first, H, W) float32, of its own memory."""
        deep, rows, columns = self._box
        numbers = range(deep.start + first, deep.start + end)
        if self._old == self._new:
            return np.array(self._view[numbers.start : numbers.stop, rows, columns], np.float32, order="C")
        found = np.empty((len(numbers), rows.stop - rows.start, columns.stop - columns.start), np.float32)
        kept = {n: self._recent[n] for n in numbers if n in self._recent}  # the windows of a volume overlap
        for begin in range(0, len(numbers), BLOCK):
            block = numbers[begin : begin + BLOCK]
            for n, plane in zip(block, self._resampled(block, kept), strict=True):
                found[n - numbers.start] = plane[rows, columns]
                if len(numbers) <= 2 * BLOCK:
                    kept[n] = plane
        self._recent = kept if len(numbers) <= 2 * BLOCK else {}
        return found

    def _resampled(self, numbers: range, kept: dict[int, Array]) -> Iterator[Array]:
        """Slices of the new grid, each from the two of the old one that it lies between."""
        steps = [old / new for old, new in zip(self._old, self._new, strict=True)]
        # the numbers that ITK has for a whole volume, so that its rounding is the same
        places = {n: (steps[2] - 1) / 2 + steps[2] * n for n in numbers if n not in kept}
        last = self._old[2] - 1
        pairs = {n: (min(max(math.floor(z), 0), last), min(max(math.floor(z) + 1, 0), last)) for n, z in places.items()}
        low = min((pair[0] for pair in pairs.values()), default=0)
        high = max((pair[1] for pair in pairs.values()), default=-1)
        stored = np.array(self._view[low : high + 1], np.float32, order="C")
        if self._smallest is None:
            self._smallest = float(np.float32(np.nanmin(self._view)))
        for n in numbers:
            if n in kept:
                yield kept[n]
                continue
            above, below = pairs[n]
            slab = stored[above - low : below + 1 - low]
            yield _resample(slab, self._new[:2], steps, places[n] - above, self._smallest)


def whole_volume(array: Array, grid: plugin.Grid, notes: tuple[str, ...] = ()) -> plugin.Sample:
    """A whole volume as a sample: an array (z, y, x) on the grid of its file, turned to (1, D, H, W) float32 in place.

    Raises: DataError where the array does not have the grid's size.
    """
    if array.shape != grid.size[::-1]:
        raise DataError(f"an array of {_by(array.shape[::-1])} voxels on a grid of {_by(grid.size)}")
    file_grid = FileGrid(grid.size, grid.spacing, grid.origin, grid.direction, notes=notes)
    turned, place = VolumePlan().apply(array, file_grid, Path())
    spacing = None if place.spacing is None else place.spacing[::-1]
    return plugin.Sample(turned[None], spacing, place.origin, place.direction, place.notes, stored=grid)


def restored(array: Array, stored: plugin.Grid) -> Array:
    """An array (D, H, W) with axes turned to L, P, S back on the grid of its file: (z, y, x). The inverse of turning."""
    order, flips, _ = _turn(FileGrid(stored.size, stored.spacing, stored.origin, stored.direction))
    array = array[tuple(slice(None, None, -1) if flips[w] else slice(None) for w in (2, 1, 0))]
    turned = [2 - order[w] for w in (2, 1, 0)]  # what `VolumePlan.apply` transposes by
    return np.ascontiguousarray(array.transpose(np.argsort(turned)))


def cut_grid(grid: FileGrid, box: tuple[slice, slice, slice]) -> FileGrid:
    """The grid of array[box]; `box` has the array's order (D, H, W)."""
    size = tuple(box[2 - a].stop - box[2 - a].start for a in range(3))
    origin = grid.origin
    if origin is not None and grid.spacing is not None and grid.direction is not None:
        steps = np.array([box[2 - a].start for a in range(3)]) * np.array(grid.spacing)
        first = np.array(origin) + np.array(grid.direction).reshape(3, 3) @ steps
        origin = tuple(float(x) for x in first)  # type: ignore[assignment]
    return replace(grid, size=size, origin=origin)


def _resample(slab: Array, size: tuple[int, ...], steps: list[float], place: float, outside: float) -> Array:
    """One slice between those of a slab, linear, over the same field of view. The authors resample cubically; this is lighter.

    Args:
        size: columns and rows of the slice.
        steps: of x, y, z in voxels of the slab.
        place: of the slice, in slices of the slab.
    """
    import SimpleITK as sitk  # noqa: N813 - its users' name for it

    image = sitk.GetImageFromArray(slab)
    result = sitk.Resample(
        image,
        (*size, 1),
        sitk.Transform(),
        sitk.sitkLinear,
        [*((step - 1) / 2 for step in steps[:2]), place],
        steps,
        image.GetDirection(),
        outside,
        sitk.sitkFloat32,
    )
    plane: Array = np.asarray(sitk.GetArrayFromImage(result))[0]
    return plane


def windows(depth: int, window: int, stride: int) -> list[tuple[int, int]]:
    """(first, end) of each window along depth; the last is shifted back to fit; one of all slices where too shallow."""
    if depth <= window:
        return [(0, depth)]
    starts = list(range(0, depth - window + 1, stride))
    if starts[-1] != depth - window:
        starts.append(depth - window)
    return [(start, start + window) for start in starts]
