"""DICOM slices put together to volumes: which belong together, in which order, and whether one is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.pixels import apply_rescale

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import dicom, kind_of, plainly
from medcoss_cli.kit.readers.dicom import DicomHeader
from medcoss_cli.kit.readers.volume import Array, FileGrid
from medcoss_cli.plugin import Skipped

GAP = 1.5
"""A step of so many usual steps means that a slice is missing."""
ALIKE = 1e-2
"""Direction cosines, and shares of a spacing, by which slices of one series may differ."""
ONE_SLICE = "one slice (2D) where a volume is expected"
"""The reason of an image that is left out."""
REPEATED = "the same slice as another file"
"""The reason of a copy that is left out."""
TILT = 0.9998
"""Cosine of 1 degree: slices shifted sideways by more come from a tilted gantry."""
TILTED = "slices are shifted sideways (tilted gantry): not corrected"
UNEVEN = "uneven steps between slices: the median is used"
"""Notes on volumes whose voxels do not lie where their grid says."""


@dataclass(frozen=True, slots=True)
class Series:
    """Slices (or the frames of one file) that make a volume."""

    source: Path
    """Their folder, or the one file."""
    key: str
    """Changes with names, sizes and times of the files."""
    files: tuple[Path, ...]
    """In order of position."""
    frames: tuple[int, ...]
    """Of the one file, in order of position."""
    grid: FileGrid
    patient: str | None


@dataclass(frozen=True, slots=True)
class _Order:
    """Slices or frames from first to last, and where they lie."""

    numbers: list[int]
    grid: FileGrid


def find(paths: Sequence[Path], codes: tuple[str, ...] | None, *, placed: bool = False) -> Iterator[Series | Skipped]:
    """The volumes in these DICOM files, and what is left out.

    Args:
        paths: DICOM files.
        codes: the modalities that are read; None for all.
        placed: take slices without positions for single images, instead of ordering them by InstanceNumber.
    """
    groups: list[list[DicomHeader]] = []
    for path in paths:
        try:
            header = dicom.read_header(path)
        except DataError as error:
            yield Skipped(path, error.what, bad=True)
            continue
        reason = header.not_an_image or (header.not_of(codes) if codes is not None else None) or _not_a_slice(header)
        if reason is not None:
            yield Skipped(path, reason)
        elif placed and header.positions is None:
            yield Skipped(path, ONE_SLICE)
        elif header.frames > 1:
            groups.append([header])
        else:
            _join(groups, header)
    for group in groups:
        yield from _assembled(group)


def _not_a_slice(header: DicomHeader) -> str | None:
    if not header.grey:
        return "a colour image where a volume is expected"
    if header.frames > 1 and header.positions is None:
        return "several frames without positions: an image sequence, not a volume"
    return None


def _join(groups: list[list[DicomHeader]], header: DicomHeader) -> None:
    """Add a slice to the group it belongs to, or begin one."""
    for group in groups:
        first = group[0]
        is_one_grid = all(
            getattr(first, name) == getattr(header, name) for name in ("series", "phase", "modality", "rows", "columns")
        )
        if (
            is_one_grid
            and first.frames == 1
            and first.path.parent == header.path.parent
            and _close(first.orientation, header.orientation, 1.0)
            and _close(first.spacing, header.spacing, max(first.spacing or (1.0,)))
        ):
            group.append(header)
            return
    groups.append([header])


def _close(a: tuple[float, ...] | None, b: tuple[float, ...] | None, unit: float) -> bool:
    if a is None or b is None:
        return a is b
    return all(abs(x - y) <= ALIKE * unit for x, y in zip(a, b, strict=True))


def _assembled(group: list[DicomHeader]) -> Iterator[Series | Skipped]:
    first = group[0]
    if first.frames == 1 and len({_place(header) for header in group}) == 1:  # one slice, perhaps in several forms
        yield from (Skipped(header.path, ONE_SLICE) for header in group)
        return
    source = first.path if len(group) == 1 else first.path.parent
    try:
        group, repeated = _without_repeats(group)
        yield from (Skipped(header.path, REPEATED) for header in repeated)
        order = _ordered(group, source)
        grid = order.grid.check(source)
    except DataError as error:
        yield Skipped(source, f"series of {len(group) * first.frames} slices: {error.what}", bad=True)
        return
    files = [group[n] for n in order.numbers] if first.frames == 1 else group
    digest = hashlib.sha256()
    for header in files:
        stat = header.path.stat()
        digest.update(repr((header.path.name, stat.st_size, stat.st_mtime_ns)).encode())
    paths = tuple(header.path for header in files)
    frames = tuple(order.numbers) if first.frames > 1 else ()
    if repeated:
        grid = replace(grid, notes=(*grid.notes, f"{len(repeated)} duplicate slices were used once"))
    yield Series(source, digest.hexdigest()[:12], paths, frames, grid, first.patient)


def _without_repeats(group: list[DicomHeader]) -> tuple[list[DicomHeader], list[DicomHeader]]:
    """Slices once each, and copies: at the same place with the same pixels. Raises DataError for unlike ones."""
    if group[0].frames > 1:
        return group, []
    first_at: dict[object, DicomHeader] = {}
    repeated = []
    for header in group:
        other = first_at.setdefault(_place(header), header)
        if other is header:
            continue
        if header.instance == other.instance or _pixels(header) == _pixels(other):
            repeated.append(header)
        else:
            raise DataError("several different images at one position", where=header.path)
    return list(first_at.values()), repeated


def _place(header: DicomHeader) -> object:
    """Equal for slices that are at one place; without a position, of one number; without either, never equal."""
    if header.positions:
        return tuple(round(x, 3) for x in header.positions[0])
    return header.path if header.number is None else header.number


def _pixels(header: DicomHeader) -> bytes:
    """The stored pixels as they are in the file: only ever read of two slices at one place."""
    with plainly(header.path), header.path.open("rb") as file:
        file.seek(header.at)
        return file.read()


def _ordered(group: list[DicomHeader], source: Path) -> _Order:
    """Slices or frames by position along their normal. Raises DataError where one is missing or two share a place."""
    first = group[0]
    size = (first.columns, first.rows, len(group) * first.frames)
    places = first.positions if first.frames > 1 else tuple((h.positions or (None,))[0] for h in group)
    if first.orientation is None or places is None or None in places:
        return _by_number(group, size)
    cosines = np.array(first.orientation).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if np.abs(lengths - 1).max() > ALIKE or abs(cosines[0] @ cosines[1]) > ALIKE:
        raise DataError("the orientation in the header is not at right angles", where=source)
    cosines = cosines / lengths[:, None]
    normal = np.cross(cosines[0], cosines[1])
    points = np.array(places, dtype=float)
    along = points @ normal
    numbers = [int(n) for n in np.argsort(along, kind="stable")]
    gap, notes = _steps(along[numbers], source)
    travel = points[numbers[-1]] - points[numbers[0]]
    if abs(travel @ normal) < TILT * float(np.linalg.norm(travel)):
        notes = (*notes, TILTED)
    spacing = None if first.spacing is None else (first.spacing[1], first.spacing[0], gap)
    direction = np.column_stack([cosines[0], cosines[1], normal])
    x, y, z = (float(v) for v in points[numbers[0]])
    return _Order(numbers, FileGrid(size, spacing, (x, y, z), tuple(float(v) for v in direction.flatten()), 1, notes))


def _steps(along: Array, source: Path) -> tuple[float, tuple[str, ...]]:
    """The usual step between slices in mm."""
    steps = np.diff(along)
    usual = float(np.median(steps))
    if usual < 1e-3 or steps.min() < 1e-3:
        raise DataError("several different images at one position", where=source)
    gaps = np.flatnonzero(steps > GAP * usual)
    if len(gaps):
        where = ", ".join(f"after slice {n + 1}: {steps[n]:.4g} mm" for n in gaps[:3])
        raise DataError(f"slices are missing ({where}, where {usual:.4g} mm is usual)", where=source)
    uneven = float(np.abs(steps / usual - 1).max()) > 0.05
    return usual, (UNEVEN,) if uneven else ()


def _by_number(group: list[DicomHeader], size: tuple[int, int, int]) -> _Order:
    """Without positions the files' own count is all there is; how far apart slices are is then not known."""
    if any(header.number is None for header in group):
        raise DataError(
            "the slices have neither positions nor instance numbers, so their order is unknown", where=group[0].path
        )
    numbers = sorted(range(len(group)), key=lambda n: group[n].number or 0)
    spacing = group[0].spacing
    in_plane = None if spacing is None else (spacing[1], spacing[0])
    notes = ("no positions: slices ordered by InstanceNumber",)
    return _Order(numbers, FileGrid(size, notes=notes, in_plane=in_plane))


def open_series(source: Path, key: str) -> Series:
    """The series of that key in a folder, or in one file. Raises DataError where it no longer exists."""
    with plainly(source):
        paths = sorted(path for path in source.iterdir() if path.is_file()) if source.is_dir() else [source]
    for item in find([path for path in paths if kind_of(path) == "dicom"], None):
        if isinstance(item, Series) and item.key == key:
            return item
    raise DataError("the files of the series have changed since it was found", where=source)


def read(item: Series) -> tuple[Array, FileGrid]:
    """Decode the slices of a series, or the frames of one file: (z, y, x) float32 in physical units, and the grid.

    Raises DataError, naming the file.
    """
    if len(item.files) == 1:
        return _frames(item.files[0], item.frames), item.grid
    volume = np.empty(item.grid.size[::-1], np.float32)
    for place, path in enumerate(item.files):
        data = dicom.read_dataset(path)
        with plainly(path):
            volume[place] = apply_rescale(dicom.stored(path, data, 0), data)
    return volume, item.grid


def _frames(path: Path, numbers: tuple[int, ...]) -> Array:
    data = dicom.read_dataset(path)
    stored = dicom.stored(path, data, None)
    volume = np.empty(stored.shape, np.float32)
    with plainly(path):
        for place, frame in enumerate(numbers):
            rule = dicom.group_of(data, frame, "PixelValueTransformationSequence")
            slope = float(getattr(rule, "RescaleSlope", None) or data.get("RescaleSlope") or 1)
            intercept = float(getattr(rule, "RescaleIntercept", None) or data.get("RescaleIntercept") or 0)
            volume[place] = stored[frame] * np.float32(slope) + np.float32(intercept)
    return volume
