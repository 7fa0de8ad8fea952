"""What every volume goes through after decoding: axes turned, resampling, cropping, windows along depth.

A grid's index order is (x, y, z): x runs fastest in memory. Arrays have the reverse order (z, y, x).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medcoss_cli import plugin
from medcoss_cli.errors import DataError

Array = np.ndarray[Any, Any]
Slices = Literal["axial", "acquired"]

MAX_VOXELS = 2**29
"""Of one volume, from the header before decoding, and again after resampling: 2 GiB as float32, 2,048 slices of 512 x 512."""
MAX_BYTES = 2**31
"""Of one volume as it is decoded, before it becomes float32."""
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
                f"{_by(self.size)} voxels are more than the limit of 2^29 (2,048 slices of 512 x 512)",
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
        order, flips, turned_grid = _turn(grid, self.slices)
        array = array.transpose([2 - order[w] for w in (2, 1, 0)])
        array = array[tuple(slice(None, None, -1) if flips[w] else slice(None) for w in (2, 1, 0))]
        array = np.ascontiguousarray(array, dtype=np.float32)
        new = self.resampled(grid, path)
        if new.size != turned_grid.size:
            array = _resample(array, new.size)
        box = self.cut(new.size)
        return np.ascontiguousarray(array[box]), cut_grid(new, box)


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


def _resample(array: Array, size: tuple[int, int, int]) -> Array:
    """Linear, over the same field of view. The authors resample cubically; this is lighter."""
    import SimpleITK as sitk  # noqa: N813 - its users' name for it

    image = sitk.GetImageFromArray(array)
    old = image.GetSize()
    steps = [a / b for a, b in zip(old, size, strict=True)]
    result = sitk.Resample(
        image,
        size,
        sitk.Transform(),
        sitk.sitkLinear,
        [(step - 1) / 2 for step in steps],
        steps,
        image.GetDirection(),
        float(np.nanmin(array)),
        sitk.sitkFloat32,
    )
    return np.asarray(sitk.GetArrayFromImage(result))


def windows(depth: int, window: int, stride: int) -> list[tuple[int, int]]:
    """(first, end) of each window along depth; the last is shifted back to fit; one of all slices where too shallow."""
    if depth <= window:
        return [(0, depth)]
    starts = list(range(0, depth - window + 1, stride))
    if starts[-1] != depth - window:
        starts.append(depth - window)
    return [(start, start + window) for start in starts]
