"""What can be read under a folder, whatever modality it is meant for: every file and series is decoded once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.manifest import Entry, entries
from medcoss_cli.kit.readers import IMAGES, VOLUMES, WHAT, dicom, image, kind_of, nifti, pixels, series, table
from medcoss_cli.kit.readers.volume import Array
from medcoss_cli.plugin import Skipped

Kind = Literal["image", "volume", "text", "signal", "other"]

_CLAIMS = frozenset(
    {
        ".png",
        ".jpg",
        ".jpeg",
        ".tif",
        ".tiff",
        ".bmp",
        ".dcm",
        ".dicom",
        ".ima",
        ".nii",
        ".gz",
        ".nrrd",
        ".mha",
        ".mhd",
        ".npy",
        ".txt",
    }
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


def survey(root: Path) -> Iterator[SurveyEntry]:
    """Try to read everything under `root` as what it is, sorted by path; files first decide, series follow.

    A manifest's splits and masks do not matter here. Raises DataError where nothing is there.
    """
    slices: list[Path] = []
    verdicts: list[SurveyEntry] = []
    items = [(item, item.path if isinstance(item, Entry) else item.source) for item in entries(root, "all")]
    sidecars = {file for _, path in items if path.is_file() for file in _sidecars(path)}
    for item, path in items:
        if path in sidecars:
            continue
        if isinstance(item, Skipped) and item.bad:
            verdicts.append(SurveyEntry(_relative(root, path), "other", "quarantine", item.reason))
            continue
        verdicts.extend(_file(path, _relative(root, path), slices))
    verdicts.extend(_dicom(root, slices))
    yield from sorted(verdicts, key=lambda verdict: verdict.path)


def _sidecars(path: Path) -> tuple[Path, ...]:
    try:
        return nifti.sidecars(path)
    except DataError:
        return ()  # the file's own verdict says why


def _relative(root: Path, path: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


def _file(path: Path, name: str, slices: list[Path]) -> Iterator[SurveyEntry]:
    kind: Kind = "other"
    try:
        what = kind_of(path)
        if what == "empty":
            raise DataError("the file is empty", where=path)
        if what == "dicom":
            slices.append(path)
        elif what in IMAGES:
            kind = "image"
            yield _image(path, name)
        elif what in VOLUMES:
            kind = "volume"
            yield _volume(path, name)
        elif what == "npy":
            kind = "signal"
            yield SurveyEntry(name, kind, "read", _by(table.read_signal(path)[0].shape))
        elif what == "text" and path.suffix.lower() in (*table.DOCUMENTS, *table.TABLES):
            kind = "text"
            yield from _text(path, name)
        elif what == "unknown" and path.suffix.lower() == ".txt":
            raise DataError("not text", where=path)
        elif path.suffix.lower() in _CLAIMS:
            raise DataError(f"not what its name says, but {WHAT[what]}", where=path)
        else:
            yield SurveyEntry(name, kind, "ignored", WHAT[what])
    except DataError as error:
        yield SurveyEntry(name, kind, "quarantine", error.what)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _check_content(array: Array, path: Path) -> tuple[str, ...]:
    """Notes. Raises DataError for an array without content."""
    finite = np.isfinite(array)
    if not finite.any():
        raise DataError("no finite value", where=path)
    values = array[finite]
    if values.min() == values.max():
        raise DataError("no content: all values are the same", where=path)
    return () if finite.all() else ("NaN or infinite values",)


def _image(path: Path, name: str) -> SurveyEntry:
    notes: list[str] = []
    pages = image.read_header(path).pages
    for page in range(pages):
        array, page_notes = image.read(path, page)
        notes += [*page_notes, *_check_content(array, path)]
    if pages > 1:
        notes.append(f"{pages} pages, each an image")
    return SurveyEntry(name, "image", "read", _by(array.shape), tuple(dict.fromkeys(notes)))


def _volume(path: Path, name: str) -> SurveyEntry:
    grid = nifti.read_header(path)
    notes = list(grid.notes)
    for number in range(grid.volumes):
        notes += _check_content(nifti.read(path, number)[0], path)
    if grid.volumes > 1:
        notes.append(f"{grid.volumes} volumes (4D)")
    return SurveyEntry(name, "volume", "read", _by(grid.size[::-1]), tuple(dict.fromkeys(notes)))


def _text(path: Path, name: str) -> Iterator[SurveyEntry]:
    if path.suffix.lower() in table.DOCUMENTS:
        text, notes = table.read_document(path)
        yield SurveyEntry(name, "text", "read", f"{len(text.split())} words", notes)
        return
    try:
        content = table.read_table(path, "text")
    except DataError as error:
        if "no column" not in error.what:
            raise
        try:
            array, notes = table.read_signal(path)
        except DataError:
            yield SurveyEntry(name, "other", "ignored", f"a table without a column 'text' ({error.what})")
        else:
            yield SurveyEntry(name, "signal", "read", _by(array.shape), notes)
        return
    yield SurveyEntry(name, "text", "read", f"{len(content.rows)} rows", (*content.notes, *content.broken))


def _dicom(root: Path, paths: list[Path]) -> Iterator[SurveyEntry]:
    for item in series.find(paths, None, placed=True):
        if isinstance(item, Skipped):
            yield from _single(root, item)
            continue
        name = _relative(root, item.source)
        try:
            array, grid = series.read(item)
            notes = (*item.notes, *grid.notes, *_check_content(array, item.source))
        except DataError as error:
            yield SurveyEntry(name, "volume", "quarantine", f"series of {len(item.files)} slices: {error.what}")
        else:
            yield SurveyEntry(name, "volume", "read", _by(array.shape), notes)


def _single(root: Path, item: Skipped) -> Iterator[SurveyEntry]:
    """A DICOM file that is no part of a volume: an image by itself, or none."""
    name = _relative(root, item.source)
    if item.reason == series.REPEATED:
        yield SurveyEntry(name, "volume", "ignored", item.reason)
        return
    if item.bad or item.source.is_dir():
        yield SurveyEntry(name, "volume" if item.source.is_dir() else "other", "quarantine", item.reason)
        return
    try:
        header = dicom.read_header(item.source)
        if header.not_an_image is not None:
            raise DataError(header.not_an_image, where=item.source)
        notes: list[str] = []
        for frame in range(header.frames):
            array, spacing, frame_notes = pixels.read_frame(item.source, frame)
            notes += [*frame_notes, *_check_content(array, item.source)]
        notes += ["no pixel spacing"] if spacing is None else []
        notes += [f"{header.frames} frames, each an image"] if header.frames > 1 else []
        yield SurveyEntry(name, "image", "read", _by(array.shape), tuple(dict.fromkeys(notes)))
    except DataError as error:
        yield SurveyEntry(name, "image", "quarantine", error.what)
