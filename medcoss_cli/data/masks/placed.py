"""Masks that say in millimetres where they lie: DICOM Segmentations and RT Structure Sets, laid on their image's grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from medcoss_cli import plugin
from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import attributes, plainly
from medcoss_cli.kit.readers.bounds import check_deflated
from medcoss_cli.kit.readers.codecs import decoded
from medcoss_cli.kit.readers.dicom import quietly
from medcoss_cli.kit.readers.straighten import STRAIGHTENED
from medcoss_cli.kit.readers.volume import FileGrid, VolumePlan
from medcoss_cli.plugin import Sample

Array = np.ndarray[Any, Any]

APART = 0.25
"""Of a voxel, by which a mask's voxels or contours may lie beside the image's."""
EDGE = 1e-2
"""Of a pixel, within which its centre lies on a contour."""
INSIDE = 0.99
"""Share of a segment that lies in another one, from which it is a part of that one."""
SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"


def read_placed(path: Path, sample: Sample, source: Path | None = None) -> Array:
    """The labels (D, H, W) uint16 of a DICOM Segmentation or RT Structure Set on the grid of a volume.

    A label is the number of the segment or of the ROI. Of two that overlap one must lie in the other: it is painted over it.

    Args:
        sample: the whole volume, its axes turned.
        source: a DICOM file of it, whose frame of reference is compared.

    Raises: DataError for another kind of object, and for a mask that does not lie on the volume.
    """
    with quietly(path):
        with path.open("rb") as file:
            check_deflated(file)
        data = pydicom.dcmread(path, force=True)
    kind = str(data.get("SOPClassUID") or "")
    if kind not in (*SEGMENTATION, STRUCTURES):
        raise DataError(
            "a DICOM image where the mask of a volume is expected",
            where=path,
            fix="give a DICOM Segmentation, an RT Structure Set, or NIfTI",
        )
    grid = sample.stored
    if grid is None or grid.spacing is None or grid.origin is None or grid.direction is None:
        raise DataError(
            "the image does not say where its voxels lie, so a mask in millimetres cannot be laid on it",
            where=path,
            fix="save the mask as NIfTI with the size of the image",
        )
    _check_reference(data, source, path)
    # on a series that was straightened the slices' own masks lie up to half a pixel beside the grid
    aside = np.array([0.5, 0.5, APART] if STRAIGHTENED in sample.notes else [APART] * 3)
    with quietly(path):
        parts = _structures(data, grid, path) if kind == STRUCTURES else _segments(data, grid, aside, path)
        labels = _painted(parts, grid.size[::-1], path)
    turned = VolumePlan().apply(labels, FileGrid(grid.size, grid.spacing, grid.origin, grid.direction), path)[0]
    return turned.astype(np.uint16)


def _check_reference(data: Any, source: Path | None, path: Path) -> None:
    own = data.get("FrameOfReferenceUID")
    for item in data.get("ReferencedFrameOfReferenceSequence") or ():
        own = own or item.get("FrameOfReferenceUID")
    if source is None or not source.is_file() or not own:
        return
    with quietly(source):
        theirs = pydicom.dcmread(
            source, force=True, stop_before_pixels=True, specific_tags=["FrameOfReferenceUID"]
        ).get("FrameOfReferenceUID")
    if theirs and theirs != own:
        raise DataError(
            "the mask belongs to another frame of reference than the image",
            where=path,
            fix="give the mask of this very series",
        )


def to_index(grid: plugin.Grid) -> Any:
    """A function of points in mm (n, 3), LPS, to places in voxels (n, 3), in the grid's order (x, y, z)."""
    assert grid.direction is not None
    assert grid.spacing is not None
    matrix = np.linalg.inv(np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing))
    return lambda points: (np.asarray(points, float) - np.array(grid.origin)) @ matrix.T


Part = tuple[int, Array]
"""The number of a segment, and places (n,) of some of its voxels in an array (z, y, x) that is one row."""


def _segments(data: Any, grid: plugin.Grid, aside: Array, path: Path) -> Iterator[Part]:
    """Parts of the segments of a DICOM Segmentation, frame by frame: all frames at once are many times the labels."""
    index = to_index(grid)
    is_map = str(data.get("SegmentationType") or "") == "LABELMAP"
    half = int(data.get("MaximumFractionalValue") or 1) / 2 if data.get("SegmentationType") == "FRACTIONAL" else 0
    last = np.array([int(data.Rows), int(data.Columns)]) - 1
    corners = np.array([(0, 0), (last[0], 0), (0, last[1]), last])
    for number in range(int(data.get("NumberOfFrames") or 1)):
        position = attributes.numbers(data, "ImagePositionPatient", 3, number)
        turn = attributes.numbers(data, "ImageOrientationPatient", 6, number)
        spacing = attributes.numbers(data, "PixelSpacing", 2, number)
        if position is None or turn is None or spacing is None:
            raise DataError("a frame of the segmentation does not say where it lies", where=path)
        across, down = np.array(turn[:3]) * spacing[1], np.array(turn[3:]) * spacing[0]
        steps = np.abs(index(np.array(position) + np.array([across, down])) - index([position]))
        is_finer = np.abs(np.sort(steps, axis=1) - [0, 0, 1]).max() > EDGE
        apart = index(np.array(position) + corners[:, :1] * down + corners[:, 1:] * across)
        if is_finer or (np.abs(apart - np.rint(apart)) > aside + 1e-6).any():
            raise DataError(
                "the voxels of the segmentation do not lie on those of the image",
                where=path,
                fix="resample the mask to the image's grid",
            )
        with plainly(path):
            frame = decoded(data, number)
        where = np.argwhere(frame > half)
        if not len(where):
            continue
        places = np.rint(index(np.array(position) + where[:, :1] * down + where[:, 1:] * across)).astype(int)
        if places.min() < 0 or (places.max(axis=0) >= grid.size).any():
            raise DataError("the segmentation reaches beyond the image", where=path, fix="give the mask of this series")
        flat = np.ravel_multi_index(tuple(places[:, ::-1].T), grid.size[::-1])
        if not is_map:
            yield _segment_of(data, number, path), flat
            continue
        values = frame[tuple(where.T)]
        for value in np.unique(values):
            yield int(value), flat[values == value]


def _segment_of(data: Any, frame: int, path: Path) -> int:
    item = attributes.group_of(data, frame, "SegmentIdentificationSequence")
    number = item.get("ReferencedSegmentNumber") if item is not None else None
    if number is None:
        raise DataError("a frame of the segmentation does not say which segment it is", where=path)
    return int(number)


def _structures(data: Any, grid: plugin.Grid, path: Path) -> Iterator[Part]:
    """Parts of the ROIs that are drawn with closed contours, one slice each."""
    index = to_index(grid)
    for roi in data.get("ROIContourSequence") or ():
        drawn: dict[int, list[Array]] = {}
        for contour in roi.get("ContourSequence") or ():
            points = np.array([float(x) for x in contour.get("ContourData") or ()]).reshape(-1, 3)
            if not str(contour.get("ContourGeometricType") or "CLOSED").startswith("CLOSED") or len(points) < 3:
                continue  # a marker or a line, without an inside
            places = index(points)
            depth = int(np.rint(places[:, 2].mean()))
            if np.abs(places[:, 2] - depth).max() > APART:
                raise DataError(
                    "a contour of the structure set lies between two slices of the image, or across them",
                    where=path,
                    fix="give the structure set of this series, or save the mask as NIfTI",
                )
            if not 0 <= depth < grid.size[2]:
                raise DataError(
                    "the structure set reaches beyond the image", where=path, fix="give that of this series"
                )
            drawn.setdefault(depth, []).append(places[:, :2])
        for depth, contours in drawn.items():
            filled = np.flatnonzero(_filled(contours, (grid.size[1], grid.size[0])))
            if len(filled):
                yield int(roi.get("ReferencedROINumber") or 0), filled + depth * grid.size[0] * grid.size[1]


def _filled(contours: list[Array], shape: tuple[int, int]) -> Array:
    """Pixels (H, W) bool of the contours of one slice; one inside another is a hole.

    Many programs draw a contour through the centres of the outermost pixels of the structure: these belong to it.
    """
    filled = np.zeros(shape, bool)
    once = {np.round(corners, 2).tobytes(): corners for corners in contours}  # one stored twice is no hole of itself
    for corners in sorted(once.values(), key=_area, reverse=True):
        nudged = [inside_of(corners + EDGE * np.array(step), shape) for step in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        with_edge, without_edge = np.logical_or.reduce(nudged), np.logical_and.reduce(nudged)
        if without_edge.any() and filled[without_edge].all():
            filled &= ~without_edge
        else:
            filled |= with_edge
    return filled


def _area(corners: Array) -> float:
    following = np.roll(corners, -1, axis=0)
    return abs(float((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum())) / 2


def inside_of(corners: Array, shape: tuple[int, int]) -> Array:
    """Pixels (H, W) bool whose centre lies in a polygon of corners (n, 2), x and y in pixels, by the even-odd rule."""
    height, width = shape
    inside = np.zeros(shape, bool)
    begins, ends = corners, np.roll(corners, -1, axis=0)
    columns = np.arange(width)
    first, last = max(0, int(np.ceil(corners[:, 1].min()))), min(height - 1, int(np.floor(corners[:, 1].max())))
    for row in range(first, last + 1):
        crosses = (begins[:, 1] <= row) != (ends[:, 1] <= row)
        a, b = begins[crosses], ends[crosses]
        at = a[:, 0] + (row - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
        inside[row] = (columns[:, None] >= at).sum(axis=1) % 2 == 1
    return inside


def _painted(parts: Iterable[Part], shape: Sequence[int], path: Path) -> Array:
    """One label a voxel (z, y, x): of several segments there the smallest, which must lie in the larger ones.

    Voxels of several segments are kept aside, so that a segment needs no volume of its own.
    """
    labels = np.zeros(shape, np.uint16)
    flat = labels.reshape(-1)
    sizes = np.zeros(2**16, int)
    shared: list[tuple[Array, Array]] = []
    for number, at in parts:
        if not 0 < number < 2**16:
            raise DataError(f"the number {number} of a segment is not from 1 to 65535", where=path)
        before = flat[at]
        flat[at[before == 0]] = number
        sizes[number] += np.count_nonzero(before == 0)
        others = at[(before != 0) & (before != number)]
        shared.append((others, np.full(len(others), number, np.uint16)))
    if not labels.any():
        raise DataError("the mask has no segment with an inside", where=path)
    at, segments = (np.concatenate(columns) for columns in zip(*shared, strict=True))
    if len(at):
        several = np.unique(at)
        # a voxel and a segment in one number
        pairs = np.concatenate([several << 16 | flat[several], at << 16 | segments])
        pairs = np.unique(pairs)
        at, segments = pairs >> 16, pairs & 0xFFFF
        sizes += np.bincount(segments, minlength=2**16) - np.bincount(flat[several], minlength=2**16)
        order = np.lexsort((segments, -sizes[segments], at))  # of a voxel the largest segment first
        at, segments = at[order], segments[order]
        _check_nested(at, segments, sizes, path)
        is_last = np.append(at[1:] != at[:-1], True)
        flat[at[is_last]] = segments[is_last]
    return labels


def _check_nested(at: Array, segments: Array, sizes: Array, path: Path) -> None:
    """Raise DataError where a segment lies upon another one, and not in it.

    Args:
        at: voxels of several segments, as often as they have segments.
        segments: which, of a voxel from large to small.
        sizes: voxels of each segment.
    """
    is_same = at[1:] == at[:-1]
    for pair in np.unique(segments[:-1][is_same] << 16 | segments[1:][is_same]):
        below, above = pair >> 16, pair & 0xFFFF
        both = np.intersect1d(at[segments == below], at[segments == above], assume_unique=True)
        if len(both) < INSIDE * sizes[above]:
            one, other = sorted((int(below), int(above)))
            raise DataError(
                f"the segments {one} and {other} overlap, and neither lies in the other",
                where=path,
                fix="save them as masks of their own, or correct one of them",
            )
