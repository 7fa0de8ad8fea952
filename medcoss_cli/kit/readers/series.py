"""DICOM slices put together to volumes: which belong together, in which order, and whether one is missing."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import bits, dicom, kind_of, pixels, plainly
from medcoss_cli.kit.readers.dicom import DicomHeader
from medcoss_cli.kit.readers.held import Held
from medcoss_cli.kit.readers.ordering import TILTED, UNEVEN, place_of, put_together, same_pixels
from medcoss_cli.kit.readers.pixels import Padding
from medcoss_cli.kit.readers.slices import Slice, by_folders, placed_apart, separated
from medcoss_cli.kit.readers.straighten import STRAIGHTENED, Offsets, straight_grid, straightened
from medcoss_cli.kit.readers.volume import Array, FileGrid
from medcoss_cli.plugin import Skipped

ONE_SLICE = "one slice (2D) where a volume is expected"
"""The reason of an image that is left out."""
REPEATED = "the same slice as another file"
"""The reason of a copy that is left out."""
COPIED = "a copy of a series in another folder"
"""A note on a volume whose slices are all read in another volume as well."""
STRAY = "not of the acquisition that the rest of its series is of"
"""The reason of the few slices that do not fit in a volume."""
ENOUGH = 4
"""Slices of a volume beside which a few others may be left out."""


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
            key = (place, header.study, header.modality, header.patient, group)
            series.setdefault(key, []).extend(Slice(header, frame) for frame in header.places)
    for slices in series.values():
        sizes: dict[object, list[Slice]] = {}
        for item in slices:
            sizes.setdefault((item.header.rows, item.header.columns), []).append(item)
        for same in sizes.values():
            yield from _volumes(same, len(slices) - len(same))


def _not_slices(header: DicomHeader) -> str | None:
    if not header.grey:
        return "a colour image where a volume is expected"
    if header.frames > 1 and not header.places:
        return "several frames without positions: an image sequence, not a volume"
    return None


def _volumes(slices: list[Slice], others: int) -> Iterator[Series | Skipped]:
    """The volumes of one series, whose slices may be dealt out over folders; a copy in another folder is a volume of its own.

    Args:
        others: slices of the series that have another size.
    """
    seen: dict[object, Slice] = {}
    note = (_left_out(others, "size"),) if 0 < others <= _few(len(slices)) else ()
    for group in by_folders(slices):
        is_copy = bool(seen) and all(_is_seen(item, seen) for item in group)
        for item in _split(group):
            if isinstance(item, Series):
                item = replace(item, notes=(*item.notes, *note, *((COPIED,) if is_copy else ())))
            yield item
        seen |= {place_of(item): item for item in group}


def _few(count: int) -> int:
    """How many slices may be left out of a series without a guess which of its parts is the volume."""
    return max(1, count // 10) if count >= ENOUGH else 0


def _left_out(count: int, difference: str) -> str:
    return f"{count} slice{'s' * (count > 1)} of another {difference} left out"


def _is_seen(item: Slice, seen: dict[object, Slice]) -> bool:
    """True where a slice of the same place has the same pixels: instance UIDs may all be one, or all be new."""
    other = seen.get(place_of(item))
    return other is not None and same_pixels(item, other)


def _split(slices: list[Slice]) -> Iterator[Series | Skipped]:
    """Slices of one series, split where they differ physically, and each part put together."""
    parts: list[tuple[list[Slice], str]] = []
    try:
        alike = placed_apart(slices)
    except DataError as error:
        yield Skipped(_source(slices), f"series of {len(slices)} slices: {error.what}", bad=True)
        return
    apart = "orientation or spacing" if len(alike) > 1 else ""
    for group in alike:
        parts += [(part, difference or apart) for part, difference in separated(group)]
    volumes = sum(len(part) > 1 for part, _ in parts)
    for part, difference in parts:
        note = f"one of {volumes} volumes of its series, split by {difference}"
        if volumes == 1:
            note = _left_out(len(slices) - len(part), difference)
        yield from _assembled(part, note if difference else "")


def _assembled(slices: list[Slice], note: str) -> Iterator[Series | Skipped]:
    source = _source(slices)
    if len({place_of(item) for item in slices}) == 1:  # one slice, perhaps in several forms
        yield from (Skipped(path, ONE_SLICE) for path in dict.fromkeys(item.header.path for item in slices))
        return
    reason: str | None = None
    try:
        order, grid, repeated = put_together(slices, source)
    except DataError as error:
        reason, order = error.what, []
    if reason is not None or UNEVEN in grid.notes:
        main, name = _main_part(slices, order, source)
        if main:
            kept = {item.header.path for item in main}
            others = dict.fromkeys(item.header.path for item in slices)
            yield from (Skipped(path, STRAY) for path in others if path not in kept)
            left_out = _left_out(len(slices) - len(main), name)
            yield from _assembled(main, " and ".join(filter(None, (note, left_out))))
            return
    if reason is not None:
        yield Skipped(source, f"series of {len(slices)} slices: {reason}", bad=True)
        return
    yield from (Skipped(item.header.path, REPEATED) for item in repeated)
    notes = [note] if note else []
    notes += [f"{len(repeated)} duplicate slices were used once"] if repeated else []
    header_notes = dict.fromkeys(text for item in slices for text in item.header.notes)
    digest = hashlib.sha256()
    for item in order:
        try:
            stat = item.header.path.stat()
        except FileNotFoundError:
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


def _main_part(slices: list[Slice], order: list[Slice], source: Path) -> tuple[list[Slice], str]:
    """Slices of one acquisition that are an even volume where only a few others are not of it, and what these differ by.

    Args:
        order: all of them in their order where they are a volume, although an uneven one: then the others must lie between.
    """
    for name in dict(slices[0].frame.acquisition):
        groups: dict[str, list[Slice]] = {}
        for item in slices:
            groups.setdefault(dict(item.frame.acquisition)[name], []).append(item)
        main = max(groups.values(), key=len)
        places = [
            n
            for n, item in enumerate(order)
            if dict(item.frame.acquisition)[name] == dict(main[0].frame.acquisition)[name]
        ]
        is_in_one_piece = bool(places) and places[-1] - places[0] + 1 == len(places)
        if 0 < len(slices) - len(main) <= _few(len(main)) and not is_in_one_piece:
            with contextlib.suppress(DataError):
                grid = put_together(main, source)[1]
                if grid.spacing is not None and UNEVEN not in grid.notes:
                    return main, name
    return [], ""


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
    """Decode the slices of a series, or the frames of one file: (z, y, x) in physical units as `Held` keeps them, and the grid.

    Raises DataError, naming the file.
    """
    shape = (len(item.slices), *item.grid.size[1::-1])
    beside = item.files[0].stat().st_size if item.frames else 0  # a file of several frames is in memory as a whole
    held, padding = Held(shape, np.dtype(np.float32), item.source, beside), Padding(shape)
    extents: bits.Extents = {}
    frames: dict[int, pixels.DicomFrame] = {}
    for place in range(len(item.slices)):
        frames[place] = _decoded_into(held, padding, item, place, extents)
    # a slice may show only later that others need more of their bits than they seemed to
    for place, frame in frames.items():
        if frame.layout is not None and frame.rule != bits.rule_of(frame.layout, extents[frame.layout]):
            frames[place] = _decoded_into(held, padding, item, place, extents)
    notes = dict.fromkeys(note for frame in frames.values() for note in frame.notes)
    data = pixels.open_dataset(item.slices[-1][0])
    volume, padding_notes = padding.filled(held.array, data)
    if STRAIGHTENED in item.grid.notes:
        volume = straightened(volume.astype(np.float32), item.grid, item.offsets)
    return volume, replace(item.grid, notes=(*item.grid.notes, *notes, *padding_notes))


def _decoded_into(held: Held, padding: Padding, item: Series, place: int, extents: bits.Extents) -> pixels.DicomFrame:
    """A slice, decoded and written at its place; without its values, so that a series is not kept twice."""
    path, number = item.slices[place]
    frame = pixels.decode(path, pixels.open_dataset(path), number, extents)
    if frame.values.shape != item.grid.size[1::-1]:
        raise DataError("the decoded slice is not of the size that its header says", where=path)
    held.put(place * frame.values.size, frame.values.reshape(-1))
    padding.put(place, frame.padding)
    # an array of its own: a slice of no length would keep them all
    return replace(frame, values=np.empty(0, frame.values.dtype), padding=None)
