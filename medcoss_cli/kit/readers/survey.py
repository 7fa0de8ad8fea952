"""What can be read under a folder, whatever modality it is meant for: every file and series is decoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit import sources
from medcoss_cli.kit.layout import layout_of
from medcoss_cli.kit.manifest import Entry, entries, every_file
from medcoss_cli.kit.mask_names import DERIVED, MASK
from medcoss_cli.kit.readers import IMAGES, SOURCES, VOLUMES, WHAT, dicom, image, kind_of, nifti, pixels, series, table
from medcoss_cli.kit.readers.rows import SPREADSHEETS
from medcoss_cli.kit.readers.volume import Array
from medcoss_cli.plugin import Skipped

INDEX = "a DICOMDIR: an index; the files that it lists are read by themselves"
Kind = Literal["image", "volume", "text", "signal", "other"]

_CLAIMS = frozenset(
    ".png .jpg .jpeg .tif .tiff .bmp .dcm .dicom .ima .nii .gz .nrrd .mha .mhd .npy .txt".split()  # noqa: SIM905
)
"""Endings that promise data: a file that does not keep it is quarantined, any other is passed over."""


@dataclass(frozen=True, slots=True)
class SurveyEntry:
    """What became of one file, or of one series of slices."""

    path: str
    """Relative to the folder that was surveyed; for a series, of its folder."""
    kind: Kind
    verdict: Literal["read", "quarantine", "ignored"]
    reason: str = ""
    """Why not; for what was read, its size."""
    notes: tuple[str, ...] = ()
    what: str = ""
    """What a person calls it: CT, image (PNG), a mask."""
    shape: tuple[int, ...] = ()
    """(channels, *size) of an image, (1, *size) of a volume; empty for what was not read, and for text."""
    parts: int = 1
    """Pages, frames, rows or volumes, each a sample."""
    files: int = 1
    group: str | None = None
    """The patient, by a manifest, a DICOM header, or the folder's layout."""


def survey(root: Path, seen: Callable[[int], None] = lambda files: None) -> list[SurveyEntry]:
    """Try to read everything under `root` as what it is, sorted by path; files first decide, series follow.

    A manifest's splits do not matter here, and one with faults is an entry of its own.

    Args:
        seen: called with the number of files that were just looked at; in all with as many as `files_in` has.

    Raises: DataError where nothing is there.
    """
    slices: dict[Path, Entry] = {}
    verdicts: list[SurveyEntry] = []
    items, fault = _listed(root)
    if fault is not None:
        verdicts.append(fault)
    sidecars = {file for item in items if _path(item).is_file() for file in _sidecars(_path(item))}
    for item in items:
        path = _path(item)
        name = _relative(root, path)
        before = len(slices)
        if isinstance(item, Skipped) and item.bad:
            verdicts.append(SurveyEntry(name, "other", "quarantine", item.reason))
        elif isinstance(item, Skipped) and item.reason.startswith((MASK, DERIVED)):
            verdicts.append(SurveyEntry(name, "other", "ignored", item.reason, what=MASK))
        elif path not in sidecars:
            entry = item if isinstance(item, Entry) else Entry(path)
            verdicts.extend(replace(found, group=found.group or entry.group) for found in _file(entry, name, slices))
        if path.is_file() and len(slices) == before:  # slices are counted when their series is read
            seen(1)
    verdicts.extend(_dicom(root, slices, seen))
    return sorted(verdicts, key=lambda verdict: verdict.path)


def files_in(root: Path) -> list[Path]:
    """The files that a survey looks at. Raises: DataError where nothing is there."""
    return [path for item in _listed(root)[0] if (path := _path(item)).is_file()]


def _listed(root: Path) -> tuple[list[Entry | Skipped], SurveyEntry | None]:
    """What lies under the root, and what is wrong with its manifest."""
    try:
        return list(entries(root, "all")), None
    except DataError as error:
        if not root.is_dir():
            raise
        layout = layout_of(root, files := every_file(root))
        reasons = {path: layout.reason(path) for path in files}
        where = str(error.where or "").removeprefix(f"{root}/")
        fault = SurveyEntry(where or ".", "other", "quarantine", error.what, what="a manifest", files=0)
        items = [Entry(path) if reasons[path] is None else Skipped(path, str(reasons[path])) for path in files]
        return items, fault


def _path(item: Entry | Skipped) -> Path:
    return item.path if isinstance(item, Entry) else item.source


def _sidecars(path: Path) -> tuple[Path, ...]:
    try:
        return nifti.sidecars(path)
    except DataError:
        return ()  # the file's own verdict says why


def _relative(root: Path, path: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


def _file(entry: Entry, name: str, slices: dict[Path, Entry]) -> Iterator[SurveyEntry]:
    kind: Kind = "other"
    what, path = "", entry.path
    ending = path.suffix.lower()
    try:
        what = kind_of(path)
        if what == "empty":
            raise DataError("the file is empty", where=path)
        if what == "dicom":
            slices[path] = entry
        elif what in IMAGES:
            kind = "image"
            yield _image(path, name, what)
        elif what in VOLUMES:
            kind = "volume"
            yield _volume(path, name, what)
        elif what in SOURCES and not (what == "npy" and _is_signal(path)):
            yield from _contained(entry, name, what)
        elif what == "npy":
            kind = "signal"
            shape = table.read_signal(path)[0].shape
            yield SurveyEntry(name, kind, "read", _by(shape), what="a NumPy array", shape=shape)
        elif (what == "text" and ending in (*table.DOCUMENTS, *table.TABLES)) or (
            what == "zip" and ending in SPREADSHEETS
        ):
            kind = "text"
            yield from _text(path, name)
        elif what == "unknown" and ending == ".txt":
            raise DataError("not text", where=path)
        elif ending in _CLAIMS:
            raise DataError(f"not what its name says, but {WHAT[what]}", where=path)
        else:
            yield SurveyEntry(name, kind, "ignored", WHAT[what], what=WHAT[what])
    except DataError as error:
        yield SurveyEntry(name, kind, "quarantine", error.what, what=WHAT.get(what, ""))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _check_content(array: Array, path: Path) -> tuple[str, ...]:
    """Notes. Raises DataError for an array without content."""
    low, high, is_whole = np.inf, -np.inf, True
    for plane in array:  # so that a large volume needs no second copy
        if plane.dtype.kind == "f":
            finite = np.isfinite(plane)
            if not finite.all():
                is_whole, plane = False, plane[finite]
        if plane.size:
            low, high = min(low, plane.min()), max(high, plane.max())
    if low > high:
        raise DataError("no finite value", where=path)
    if low == high:
        raise DataError("no content: all values are the same", where=path)
    return () if is_whole else ("NaN or infinite values",)


def _image(path: Path, name: str, what: str) -> SurveyEntry:
    notes: list[str] = []
    pages = image.read_header(path).pages
    for page in range(pages):
        array, page_notes = image.read(path, page)
        notes += [*page_notes, *_check_content(array, path)]
    if pages > 1:
        notes.append(f"{pages} pages, each an image")
    return SurveyEntry(
        name, "image", "read", _by(array.shape), tuple(dict.fromkeys(notes)), WHAT[what], array.shape, pages
    )


def _volume(path: Path, name: str, what: str) -> SurveyEntry:
    grid = nifti.read_header(path)
    notes = list(grid.notes)
    for array in nifti.each(path):
        notes = list(dict.fromkeys((*notes, *_check_content(array, path))))
    if grid.volumes > 1:
        notes.append(f"{grid.volumes} volumes (4D)")
    size = grid.size[::-1]
    return SurveyEntry(
        name, "volume", "read", _by(size), tuple(dict.fromkeys(notes)), WHAT[what], (1, *size), grid.volumes
    )


def _is_signal(path: Path) -> bool:
    """A .npy of two axes is channels and time; one of whole numbers that are never below 0 is an image."""
    item = next(iter(sources.source_of(path, "npy").items(path)))
    shape = item.shape or ()
    return len(shape) <= 2 and not (len(shape) == 2 and item.kind == "u" and min(shape) >= image.MIN_SIDE)


def _contained(entry: Entry, name: str, what: str) -> Iterator[SurveyEntry]:
    """The samples of a container; those of one outcome, size and patient are one entry, and the first counts the file."""
    counts: Counter[SurveyEntry] = Counter()
    if what == "parquet" and (rows := _parquet_texts(entry.path)):
        counts[SurveyEntry(name, "text", "read", f"{rows} rows", what=WHAT[what])] = rows
    for item in () if counts else sources.samples(entry.path, what, entry.patient):
        if isinstance(item, Skipped):
            verdict: Literal["quarantine", "ignored"] = "quarantine" if item.bad else "ignored"
            counts[SurveyEntry(name, "other", verdict, item.reason, what=WHAT[what])] += 1
            continue
        kind, record = item
        try:
            if kind == "image":
                array, notes = sources.read_image(record)
            else:
                array, grid = sources.read_volume(entry.path, record.part or ())
                array, notes = array[None], grid.notes
            notes = tuple(dict.fromkeys((*record.notes, *notes, *_check_content(array, entry.path))))
            shape = array.shape
            size = _by(shape if kind == "image" else shape[1:])
            found = SurveyEntry(name, kind, "read", size, notes, WHAT[what], shape, group=record.group)
        except DataError as error:
            found = SurveyEntry(name, kind, "quarantine", error.what, what=WHAT[what])
        counts[found] += 1
    for number, (found, count) in enumerate(counts.items()):
        yield replace(found, parts=count, files=int(number == 0))


def _parquet_texts(path: Path) -> int:
    """Rows of a Parquet file with a column `text`, 0 without."""
    try:
        return len(sources.texts(path, "text", None))
    except DataError as error:
        if "no column" not in error.what:
            raise
        return 0


def _text(path: Path, name: str) -> Iterator[SurveyEntry]:
    if path.suffix.lower() in table.DOCUMENTS:
        text, notes = table.read_document(path)
        yield SurveyEntry(name, "text", "read", f"{len(text.split())} words", notes, "a document")
        return
    try:
        content = table.read_table(path, "text")
    except DataError as error:
        if "no column" not in error.what:
            raise
        try:
            array, notes = table.read_signal(path)
        except DataError:
            reason = f"a table without a column 'text' ({error.what})"
            yield SurveyEntry(name, "other", "ignored", reason, what="a table")
        else:
            yield SurveyEntry(name, "signal", "read", _by(array.shape), notes, "numbers", array.shape)
        return
    count = len(content.rows)
    row_notes = dict.fromkeys(note for row in content.rows for note in row.notes)
    notes = (*content.notes, *row_notes, *content.broken)
    yield SurveyEntry(name, "text", "read", f"{count} rows", notes, "a table of texts", parts=count)


def _dicom(root: Path, slices: dict[Path, Entry], seen: Callable[[int], None]) -> Iterator[SurveyEntry]:
    left = len(slices)
    for item in series.find(list(slices), None, placed=True):
        if isinstance(item, Skipped):
            count = int(item.source.is_file())
            yield _single(root, item, slices.get(item.source))
        else:
            count = len(item.files)
            yield _series(root, item, slices[item.files[0]])
        count = min(count, left)
        left -= count
        seen(count)
    seen(left)


def _series(root: Path, item: series.Series, entry: Entry) -> SurveyEntry:
    name, count = _relative(root, item.source), len(item.files)
    what, group = dicom.read_header(item.files[0]).modality, entry.patient(item.patient)
    try:
        array, grid = series.read(item)
        notes = (*item.notes, *grid.notes, *_check_content(array, item.source))
    except DataError as error:
        reason = f"series of {len(item.slices)} slices: {error.what}"
        return SurveyEntry(name, "volume", "quarantine", reason, what=what, files=count, group=group)
    size = array.shape
    return SurveyEntry(name, "volume", "read", _by(size), notes, what, (1, *size), files=count, group=group)


def _single(root: Path, item: Skipped, entry: Entry | None) -> SurveyEntry:
    """A DICOM file that is no part of a volume: an image by itself, or none."""
    name = _relative(root, item.source)
    if item.reason == series.REPEATED:
        return SurveyEntry(name, "volume", "ignored", item.reason)
    if item.bad or item.source.is_dir():
        kind: Kind = "volume" if item.source.is_dir() else "other"
        return SurveyEntry(name, kind, "quarantine", item.reason, what="DICOM")
    what = "DICOM"
    try:
        header = dicom.read_header(item.source)
        if header.not_an_image is not None and "Media Storage Directory" in header.not_an_image:
            return SurveyEntry(name, "other", "ignored", INDEX, what=INDEX)
        if header.not_an_image is not None:
            raise DataError(header.not_an_image, where=item.source)
        what = header.modality or what
        notes: list[str] = []
        for frame in range(header.frames):
            array, spacing, frame_notes = pixels.read_frame(item.source, frame)
            notes += [*frame_notes, *_check_content(array, item.source)]
        notes += [risk] if (risk := header.not_allowed(())) else []
        notes += ["no pixel spacing"] if spacing is None else []
        notes += [f"{header.frames} frames, each an image"] if header.frames > 1 else []
        group = header.patient if entry is None else entry.patient(header.patient)
        shape, kept = array.shape, tuple(dict.fromkeys(notes))
        return SurveyEntry(name, "image", "read", _by(shape), kept, what, shape, header.frames, group=group)
    except DataError as error:
        return SurveyEntry(name, "image", "quarantine", error.what, what=what)
