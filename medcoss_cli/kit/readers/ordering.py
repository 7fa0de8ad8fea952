"""Slices of one volume in their order: which are copies, where they lie, and whether one is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import pixels, plainly
from medcoss_cli.kit.readers.dicom import DicomHeader, Frame
from medcoss_cli.kit.readers.slices import Slice
from medcoss_cli.kit.readers.volume import Array, FileGrid

GAP = 1.5
"""A step of so many usual steps means that a slice is missing."""
SAME = 0.1
"""Share of the usual step within which two slices are at one place, written with other roundings."""
EVEN = 0.05
"""Of a step, by which slices may lie beside an even grid."""
LARGE = 0.9
"""Share of all steps that are smaller than one between two slices, in a series that was exported up to nine times."""
ALIKE = 1e-2
"""Largest difference of direction cosines from right angles and from length 1."""
TILT = 0.9998
"""Cosine of 1 degree: slices shifted sideways by more come from a tilted gantry."""
TILTED = "slices are shifted sideways (tilted gantry): not corrected"
UNEVEN = "uneven steps between slices: the median is used"
"""Notes on volumes whose voxels do not lie where their grid says."""
UNLIKE = "several different images at one position"


def put_together(slices: list[Slice], source: Path) -> tuple[list[Slice], FileGrid, list[Slice]]:
    """Slices once each in their order, their grid, and copies. Raises DataError where they make no volume."""
    once, repeated = _without_repeats(slices)
    order, grid = _ordered(once, source)
    grid = grid.check(source)
    read = {(item.header.path, item.frame.number) for item in order}
    return order, grid, repeated + [item for item in once if (item.header.path, item.frame.number) not in read]


def _without_repeats(slices: list[Slice]) -> tuple[list[Slice], list[Slice]]:
    """Slices once each, and copies: at the same place with the same pixels. Raises DataError for unlike ones."""
    first_at: dict[object, Slice] = {}
    repeated = []
    for item in slices:
        other = first_at.setdefault(place_of(item), item)
        if other is item:
            continue
        if not same_pixels(item, other):
            raise DataError(UNLIKE, where=item.header.path)
        repeated.append(item)
    return list(first_at.values()), repeated


def place_of(item: Slice) -> object:
    """Equal for slices that are at one place; without a position, of one number; without either, never equal."""
    if item.frame.position:
        return tuple(round(x, 3) for x in item.frame.position)
    return item.header.path if item.header.number is None else item.header.number


def same_pixels(a: Slice, b: Slice) -> bool:
    """Compared as they are in the file, else (another compression of one instance) decoded; only ever for one place."""
    if a.header.frames == b.header.frames == 1 and _encoded(a.header) == _encoded(b.header):
        return True
    if a.header.instance != b.header.instance and a.header.path != b.header.path:
        return False
    first, second = (_decoded(item).values for item in (a, b))
    return bool(np.array_equal(first, second))


def _encoded(header: DicomHeader) -> bytes:
    with plainly(header.path), header.path.open("rb") as file:
        file.seek(header.at)
        return file.read()


def _decoded(item: Slice) -> pixels.DicomFrame:
    path = item.header.path
    return pixels.decode(path, pixels.read_dataset(path), item.frame.number)


def _ordered(slices: list[Slice], source: Path) -> tuple[list[Slice], FileGrid]:
    """Slices by position along their normal, and their grid. Raises DataError where one is missing or two share a place."""
    first = slices[0]
    if any(item.frame.position is None for item in slices):
        return _by_number(slices, source)
    points = np.array([item.frame.position for item in slices], dtype=float)
    if first.frame.orientation is None:
        return _along_travel(slices, points, source)
    cosines = np.array(first.frame.orientation).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if np.abs(lengths - 1).max() > ALIKE or abs(cosines[0] @ cosines[1]) > ALIKE:
        raise DataError("the orientation in the header is not at right angles", where=source)
    cosines = cosines / lengths[:, None]
    normal = np.cross(cosines[0], cosines[1])
    order = [int(n) for n in np.argsort(points @ normal, kind="stable")]
    order = _without_near(slices, order, points @ normal)
    gap, notes = _steps((points @ normal)[order], source)
    travel = points[order] - points[order[0]]
    aside = np.linalg.norm(travel - np.outer(travel @ normal, normal), axis=1)
    is_bent = float(aside.max()) > max(first.frame.spacing or (1.0,))
    if is_bent or abs(travel[-1] @ normal) < TILT * float(np.linalg.norm(travel[-1])):
        notes = (*notes, TILTED)
    x, y, z = (float(v) for v in points[order[0]])
    direction = tuple(float(v) for v in np.column_stack([cosines[0], cosines[1], normal]).flatten())
    size = (first.header.columns, first.header.rows, len(order))
    return [slices[n] for n in order], FileGrid(size, _spacing(first.frame, gap), (x, y, z), direction, 1, notes)


def _spacing(frame: Frame, gap: float | None) -> tuple[float, float, float] | None:
    if frame.spacing is None or gap is None:
        return None
    return frame.spacing[1], frame.spacing[0], gap


def _without_near(slices: list[Slice], order: list[int], along: Array) -> list[int]:
    """Without copies whose position was rounded otherwise: nearer than a tenth of the usual step, with the same pixels."""
    if len(order) < 4:
        return order
    steps = np.diff(along[order])
    usual = float(np.quantile(steps, LARGE))
    kept = order[:1]
    for n in order[1:]:
        if along[n] - along[kept[-1]] > SAME * usual or not same_pixels(slices[n], slices[kept[-1]]):
            kept.append(n)
    return kept


def _steps(along: Array, source: Path) -> tuple[float, tuple[str, ...]]:
    """The usual step between slices in mm."""
    steps = np.diff(along)
    usual = float(np.median(steps))
    if usual < 1e-3 or steps.min() < max(1e-3, SAME * usual):
        raise DataError(UNLIKE, where=source)
    gaps = np.flatnonzero(steps > GAP * usual)
    if len(gaps):
        where = ", ".join(f"after slice {n + 1}: {steps[n]:.4g} mm" for n in gaps[:3])
        raise DataError(f"slices are missing ({where}, where {usual:.4g} mm is usual)", where=source)
    # positions are rounded in the header, steps between them all the more: the whole way is what the step is of
    numbers = np.arange(len(along))
    mean, first = float(along[-1] - along[0]) / len(steps), float(along[0])
    for step, begin in ((mean, first), np.polyfit(numbers, along, 1)):
        if float(np.abs(along - begin - step * numbers).max()) <= EVEN * usual:
            return float(step), ()
    return usual, (UNEVEN,)


def _along_travel(slices: list[Slice], points: Array, source: Path) -> tuple[list[Slice], FileGrid]:
    """Positions without an orientation: ordered along the axis on which they move, how the pixels lie is not known."""
    axis = int(np.ptp(points, axis=0).argmax())
    order = [int(n) for n in np.argsort(points[:, axis], kind="stable")]
    gap, notes = _steps(points[order, axis], source)
    size = (slices[0].header.columns, slices[0].header.rows, len(order))
    grid = FileGrid(size, _spacing(slices[0].frame, gap), notes=(*notes, "no orientation: slices ordered by position"))
    return [slices[n] for n in order], grid


def _by_number(slices: list[Slice], source: Path) -> tuple[list[Slice], FileGrid]:
    """Without positions the files' own count is all there is; how far apart slices are is then not known."""
    if any(item.header.number is None for item in slices):
        raise DataError(
            "the slices have neither positions nor instance numbers, so their order is unknown", where=source
        )
    if any(item.frame.position is not None for item in slices):
        raise DataError("some of the slices have no position", where=source)
    order = sorted(slices, key=lambda item: item.header.number or 0)
    size = (order[0].header.columns, order[0].header.rows, len(order))
    notes = ("no positions: slices ordered by InstanceNumber",)
    spacing = order[0].frame.spacing
    in_plane = None if spacing is None else (spacing[1], spacing[0])
    return order, FileGrid(size, notes=notes, in_plane=in_plane)
