"""DICOM slices put together to volumes: which belong together, in which order, and whether one is missing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import bits, dicom, kind_of, pixels, plainly
from medcoss_cli.kit.readers.dicom import DicomHeader, Frame
from medcoss_cli.kit.readers.slices import Slice, by_folders, placed_apart, separated
from medcoss_cli.kit.readers.straighten import STRAIGHTENED, Offsets, straight_grid, straightened
from medcoss_cli.kit.readers.volume import Array, FileGrid
from medcoss_cli.plugin import Skipped

GAP = 1.5
"""A step of so many usual steps means that a slice is missing."""
SAME = 0.1
"""Share of the usual step within which two slices are at one place, written with other roundings."""
EVEN = 0.05
"""Of a step, by which slices may lie beside an even grid."""
COPY = 0.01
"""mm between two positions of one slice, written with other digits."""
ALIKE = 1e-2
"""Largest difference of direction cosines from right angles and from length 1."""
ONE_SLICE = "one slice (2D) where a volume is expected"
"""The reason of an image that is left out."""
REPEATED = "the same slice as another file"
"""The reason of a copy that is left out."""
TILT = 0.9998
"""Cosine of 1 degree: slices shifted sideways by more come from a tilted gantry."""
TILTED = "slices are shifted sideways (tilted gantry): not corrected"
UNEVEN = "uneven steps between slices: the median is used"
"""Notes on volumes whose voxels do not lie where their grid says."""
COPIED = "a copy of a series in another folder"
"""A note on a volume whose slices are all read in another volume as well."""
UNLIKE = "several different images at one position"


@dataclass(frozen=True, slots=True)
class Series:
    """Slices (or frames of one file) that make a volume."""

    source: Path
    """The folder that holds them all, or the one file."""
    key: str
    """Changes with names, sizes and times of the files."""
    files: tuple[Path, ...]
    """In order of position; once each where a file holds several frames."""
    slices: tuple[tuple[Path, int], ...]
    """(file, frame) in order of position."""
    grid: FileGrid
    patient: str | None
    offsets: Offsets = ()
    """Where its slices lie, if not on the grid: see `straighten`."""
    notes: tuple[str, ...] = ()
    """What became of the slices around it; the grid has notes of its own."""

    @property
    def frames(self) -> tuple[int, ...]:
        """Of the one file, in order of position; none where each file is a slice."""
        return tuple(frame for _, frame in self.slices) if len(self.files) < len(self.slices) else ()

    def straight(self) -> Series:
        """The same slices, to be read on an even grid; itself where they lie on one, or do not say where they lie."""
        if not self.offsets or self.grid.spacing is None or STRAIGHTENED in self.grid.notes:
            return self
        return replace(self, grid=straight_grid(self.grid, self.offsets, (TILTED, UNEVEN)))


def find(
    paths: Sequence[Path],
    codes: tuple[str, ...] | None,
    *,
    placed: bool = False,
    allow: Sequence[str] = tuple(dicom.RISKS),
    patients: dict[Path, str | None] | None = None,
) -> Iterator[Series | Skipped]:
    """The volumes in these DICOM files, and what is left out. Each header is read once.

    Slices of one series may lie in several folders. A series is split where its images differ physically; see `slices`.

    Args:
        paths: DICOM files.
        codes: the modalities that are read; None for all.
        placed: take slices without positions for single images, instead of ordering them by InstanceNumber.
        allow: of `dicom.RISKS`, what is read; all of them where nothing is trained on what is found.
        patients: of each file, as a manifest has it: slices of different ones never make one volume.
    """
    series: dict[object, list[Slice]] = {}
    for path in paths:
        try:
            header = dicom.read_header(path)
        except DataError as error:
            yield Skipped(path, error.what, bad=True)
            continue
        reason = header.not_an_image or (header.not_of(codes) if codes is not None else None)
        reason = reason or header.not_allowed(allow)
        if reason is None and header.unreadable is not None:
            yield Skipped(path, header.unreadable, bad=True)
            continue
        reason = reason or _not_slices(header)
        if reason is not None:
            yield Skipped(path, reason)
        elif placed and header.places[0].position is None:
            yield Skipped(path, ONE_SLICE)
        else:
            place = path if header.frames > 1 else (header.series or path.parent)
            group = (patients or {}).get(path)
            key = (place, header.study, header.modality, header.rows, header.columns, header.patient, group)
            series.setdefault(key, []).extend(Slice(header, frame) for frame in header.places)
    for slices in series.values():
        yield from _volumes(slices)


def _not_slices(header: DicomHeader) -> str | None:
    if not header.grey:
        return "a colour image where a volume is expected"
    if header.frames > 1 and (not header.places or any(frame.position is None for frame in header.places)):
        return "several frames without positions: an image sequence, not a volume"
    return None


def _volumes(slices: list[Slice]) -> Iterator[Series | Skipped]:
    """The volumes of one series, whose slices may be dealt out over folders; a copy in another folder is a volume of its own."""
    seen: dict[object, Slice] = {}
    for group in by_folders(slices):
        is_copy = bool(seen) and all(_is_seen(item, seen) for item in group)
        for item in _split(group):
            if isinstance(item, Series) and is_copy:
                item = replace(item, notes=(*item.notes, COPIED))
            yield item
        seen |= {_place(item): item for item in group}


def _is_seen(item: Slice, seen: dict[object, Slice]) -> bool:
    """True where a slice of the same place has the same pixels: instance UIDs may all be one, or all be new."""
    other = seen.get(_place(item))
    return other is not None and _same_pixels(item, other)


def _split(slices: list[Slice]) -> Iterator[Series | Skipped]:
    """Slices of one series, split where they differ physically, and each part put together."""
    parts: list[tuple[list[Slice], str]] = []
    alike = placed_apart(slices)
    apart = "orientation or spacing" if sum(len(group) > 1 for group in alike) > 1 else ""
    for group in alike:
        parts += [(part, difference or apart) for part, difference in separated(group)]
    volumes = sum(len(part) > 1 for part, _ in parts)
    for part, difference in parts:
        note = f"one of {volumes} volumes of its series, split by {difference}" if difference else ""
        yield from _assembled(part, note)


def _assembled(slices: list[Slice], note: str) -> Iterator[Series | Skipped]:
    source = _source(slices)
    if len({_place(item) for item in slices}) == 1:  # one slice, perhaps in several forms
        yield from (Skipped(path, ONE_SLICE) for path in dict.fromkeys(item.header.path for item in slices))
        return
    try:
        slices, repeated = _without_repeats(slices)
        order, grid = _ordered(slices, source)
        grid = grid.check(source)
        read = {(item.header.path, item.frame.number) for item in order}
        repeated += [item for item in slices if (item.header.path, item.frame.number) not in read]
        yield from (Skipped(item.header.path, REPEATED) for item in repeated)
    except DataError as error:
        yield Skipped(source, f"series of {len(slices)} slices: {error.what}", bad=True)
        return
    notes = [note] if note else []
    notes += [f"{len(repeated)} duplicate slices were used once"] if repeated else []
    header_notes = dict.fromkeys(text for item in slices for text in item.header.notes)
    digest = hashlib.sha256()
    for item in order:
        try:
            stat = item.header.path.stat()
        except OSError:
            yield Skipped(source, f"series of {len(slices)} slices: a file was deleted meanwhile", bad=True)
            return
        digest.update(
            repr((item.header.path.name, item.frame.number, stat.st_size, stat.st_mtime_ns)).encode(
                "utf-8", "backslashreplace"
            )
        )
    yield Series(
        _source(order),
        digest.hexdigest()[:12],
        tuple(dict.fromkeys(item.header.path for item in order)),
        tuple((item.header.path, item.frame.number) for item in order),
        replace(grid, notes=(*grid.notes, *header_notes)),
        slices[0].header.patient,
        _offsets(order, grid),
        tuple(notes),
    )


def _offsets(slices: Sequence[Slice], grid: FileGrid) -> Offsets:
    if grid.direction is None or grid.origin is None or not {TILTED, UNEVEN} & set(grid.notes):
        return ()
    points = np.array([item.frame.position for item in slices], dtype=float) - np.array(grid.origin)
    return tuple((float(x), float(y), float(z)) for x, y, z in points @ np.array(grid.direction).reshape(3, 3))


def _source(slices: Sequence[Slice]) -> Path:
    paths = {item.header.path for item in slices}
    if len(paths) == 1:
        return slices[0].header.path
    return Path(os.path.commonpath([path.parent for path in paths]))


def _without_repeats(slices: list[Slice]) -> tuple[list[Slice], list[Slice]]:
    """Slices once each, and copies: at the same place with the same pixels. Raises DataError for unlike ones."""
    first_at: dict[object, Slice] = {}
    repeated = []
    for item in slices:
        other = first_at.setdefault(_place(item), item)
        if other is item:
            continue
        if not _same_pixels(item, other):
            raise DataError(UNLIKE, where=item.header.path)
        repeated.append(item)
    return list(first_at.values()), repeated


def _place(item: Slice) -> object:
    """Equal for slices that are at one place; without a position, of one number; without either, never equal."""
    if item.frame.position:
        return tuple(round(x, 3) for x in item.frame.position)
    return item.header.path if item.header.number is None else item.header.number


def _same_pixels(a: Slice, b: Slice) -> bool:
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
    usual = float(np.median(steps[steps > COPY])) if (steps > COPY).any() else 0.0
    kept = order[:1]
    for n in order[1:]:
        if along[n] - along[kept[-1]] > SAME * usual or not _same_pixels(slices[n], slices[kept[-1]]):
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


def open_series(source: Path, key: str, files: Iterable[Path] = ()) -> Series:
    """The series of that key among its files, else in a folder or one file. Raises DataError where it no longer exists."""
    paths = list(files)
    with plainly(source):
        if not paths:
            paths = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        paths = [path for path in paths if path.is_file() and kind_of(path) == "dicom"]
    for item in find(paths, None):
        if isinstance(item, Series) and item.key == key:
            return item
    raise DataError("the files of the series have changed since it was found", where=source)


def read(item: Series) -> tuple[Array, FileGrid]:
    """Decode the slices of a series, or the frames of one file: (z, y, x) float32 in physical units, and the grid.

    Raises DataError, naming the file.
    """
    volume = np.full((len(item.slices), *item.grid.size[1::-1]), np.nan, np.float32)
    padding = np.zeros(volume.shape, bool)
    extents: bits.Extents = {}
    frames: dict[int, pixels.DicomFrame] = {}
    for place in range(len(item.slices)):
        frames[place] = _decoded_into(volume, padding, item, place, extents)
    for (
        place,
        frame,
    ) in frames.items():  # a slice may show only later that others need more of their bits than they seemed to
        if frame.layout is not None and frame.rule != bits.rule_of(frame.layout, extents[frame.layout]):
            frames[place] = _decoded_into(volume, padding, item, place, extents)
    notes = dict.fromkeys(note for frame in frames.values() for note in frame.notes)
    data = pixels.open_dataset(item.slices[-1][0])
    volume, padding_notes = pixels.without_padding(volume, padding, data)
    if STRAIGHTENED in item.grid.notes:
        volume = straightened(volume, item.grid, item.offsets)
    return volume, replace(item.grid, notes=(*item.grid.notes, *notes, *padding_notes))


def _decoded_into(volume: Array, padding: Array, item: Series, place: int, extents: bits.Extents) -> pixels.DicomFrame:
    """A slice, decoded and written at its place; without its values, so that a series is not kept twice."""
    path, number = item.slices[place]
    frame = pixels.decode(path, pixels.open_dataset(path), number, extents)
    if frame.values.shape != volume.shape[1:]:
        raise DataError("the decoded slice is not of the size that its header says", where=path)
    volume[place] = frame.values
    padding[place] = False if frame.padding is None else frame.padding
    return replace(frame, values=frame.values[:0], padding=None)
