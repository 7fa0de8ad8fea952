"""Which files of a folder are data: all of them, or those that a manifest lists.

A `manifest.csv` (or .tsv, .xlsx) with a column `path` rules its folder and everything below. Further columns, all optional:
`split` (in all rows or none), `group` (patient or document), `index` (a data row of a table, counted from 0), `mask` (a file that
is never a sample), `label`. Paths are relative to the manifest, or absolute, and stay inside its folder. A `path` may be a
folder: all its files count. Under `naming` columns may have other names, and then any table of the folder may be its manifest.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from medcoss_cli.errors import DataError
from medcoss_cli.kit.layout import layout_of
from medcoss_cli.kit.paths import inside, is_foreign
from medcoss_cli.kit.readers import is_store
from medcoss_cli.kit.readers.rows import filled, number_of, read_rows
from medcoss_cli.plugin import Skipped

NAME = "manifest.csv"
NAMES = (NAME, "manifest.tsv", "manifest.xlsx")
"""What a manifest is called, in small or capital letters."""
TABLES = (".csv", ".tsv", ".xlsx", ".xlsm")
_JUNK = frozenset({"thumbs.db", "desktop.ini", "licences.csv", "licenses.csv", "quarantine.csv"})
_PAPERS = re.compile(r"(readme|licen[cs]e|copying|changelog).*|notice")
"""Of a name without its endings. Reports may be called NOTICE_of_…"""

_SPLITS = {"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"}

_FREE = ("split", "group", "index", "mask", "fold")
"""Columns in which nothing needs to stand."""
_NUMBERED = ("group", "label")
"""Columns whose whole numbers are names: 1 and 1.0 are one, whoever wrote them."""

_names: ContextVar[Mapping[str, str]] = ContextVar("names of a manifest's columns")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that may hold samples."""

    path: Path
    group: str | None = None
    """From the manifest; without one, what the folder's layout says of the patient."""
    rows: Mapping[int, str | None] | None = None
    """Data rows to take from a table, with their groups; None: all of it."""
    inferred: bool = False
    """The group is from the folder's layout: what a file's header says of the patient is better."""

    def patient(self, header: str | None) -> str | None:
        """The manifest's group, else the patient of the file's header, else of the folder's layout."""
        return header or self.group if self.inferred else self.group or header


@dataclass(frozen=True)
class Unmatched(Skipped):
    """A row of a manifest that names a file which is not there."""


@contextmanager
def naming(columns: Mapping[str, str] | None) -> Iterator[None]:
    """Inside, manifests have their columns under these names: {"path": "Datei", "group": "PID"}.

    A context, since loaders of plugins call `entries` with a folder and a split alone.
    """
    token = _names.set(columns or {})
    try:
        yield
    finally:
        _names.reset(token)


def entries(root: Path, split: str = "train") -> Iterator[Entry | Skipped]:
    """The files under `root` (a folder, one file, or a manifest), sorted by path; those that are no samples as Skipped.

    Hidden files, what operating systems leave behind, licences and READMEs are passed over in silence. Where no manifest
    rules, masks beside images are left out, and patients are inferred from the folder's layout (kit/layout.py).

    Raises:
        DataError: nothing is there, or a manifest is wrong (it cannot be parsed, has no column `path`, a path outside its
            folder, one file in two splits).
    """
    if is_store(root):
        yield Entry(root)
        return
    given = manifest_of(root)
    if root.is_file():
        if given is None:
            yield Entry(root)
            return
        root = root.parent
    if not root.is_dir():
        raise DataError("the file or folder does not exist", where=root)
    free, ruled = _walk(root, given)
    if _names.get({}) and not ruled:
        raise absent(root)
    layout = layout_of(root, free)
    listed: list[Entry | Skipped] = []
    for path in free:
        reason = layout.reason(path)
        group = layout.patient(path)
        listed.append(Entry(path, group, inferred=group is not None) if reason is None else Skipped(path, reason))
    for manifest, files in ruled.items():
        listed.extend(_ruled(manifest, files, split))
    yield from sorted(listed, key=_place)


def _place(item: Entry | Skipped) -> tuple[str, ...]:
    return (item.path if isinstance(item, Entry) else item.source).parts


def is_junk(path: Path) -> bool:
    """True for hidden files, leftovers of operating systems, licences and READMEs."""
    name = path.name.lower()
    is_paper = path.suffix.lower() in ("", ".txt", ".md", ".rst", ".csv", ".pdf", ".html")
    return name.startswith(".") or name in _JUNK or (is_paper and bool(_PAPERS.fullmatch(name.partition(".")[0])))


def is_special(path: Path) -> bool:
    """Is this a pipe, a socket or a device, which opening would wait for?"""
    return path.exists() and not is_present(path)


def is_present(path: Path) -> bool:
    """Is there a file, or a folder, of this name?"""
    return path.is_file() or path.is_dir()


def walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, through links too, but every folder once; without pipes, sockets and devices, which are no files."""
    visited: set[str] = set()
    for place, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:  # a link back up
            folders.clear()
            continue
        visited.add(real)
        yield place, folders, [name for name in names if not is_special(Path(place, name))]


def outside(root: Path, files: Iterable[Path]) -> int:
    """How many of the files lie elsewhere, and are reached through links. Links are how people lay out large data."""
    base = os.path.realpath(root if root.is_dir() else root.parent)

    @functools.cache  # most files of a folder are no links themselves
    def is_inside(folder: Path) -> bool:
        return Path(os.path.realpath(folder)).is_relative_to(base)

    return sum(not is_inside(file if file.is_symlink() else file.parent) for file in set(files))


def _walk(root: Path, given: Path | None) -> tuple[list[Path], dict[Path, list[Path]]]:
    """Files that no manifest rules, and for each manifest the files it rules.

    Args:
        given: the manifest of the root, if it has one.
    """
    free: list[Path] = []
    ruled: dict[Path, list[Path]] = {}
    ruler: dict[str, Path] = {}  # folder -> the outermost manifest above
    for folder, names in _folders(root):
        above = given if folder == root else ruler.get(str(folder.parent))
        if above is None and folder != root and any(name.lower() in NAMES for name in names):
            above = manifest_of(folder)
        if above is not None:
            ruler[str(folder)] = above
            ruled.setdefault(above, [])
        files = [folder / name for name in names if name.lower() not in NAMES and not is_junk(folder / name)]
        (free if above is None else ruled[above]).extend(file for file in files if file != above)
    return free, ruled


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders and the names of their files (a Zarr store is one), sorted; without hidden ones."""
    for place, folders, names in walk(root):
        stores = [name for name in folders if is_store(Path(place, name))]
        hidden = {name for name in folders if name.startswith(".") or name == "__MACOSX"}
        folders[:] = sorted({*folders} - hidden - {*stores})
        yield Path(place), sorted([*names, *stores])


def every_file(root: Path) -> list[Path]:
    """The files under a folder, whatever its manifests say of them; without manifests and junk."""
    files = (folder / name for folder, names in _folders(root) for name in names if name.lower() not in NAMES)
    return sorted(file for file in files if not is_junk(file))


def manifest_of(root: Path) -> Path | None:
    """The manifest of a folder, or the root itself where it is one; None without.

    Raises: DataError for several, or one that cannot be used.
    """
    if root.is_file():
        is_manifest = root.name.lower() in NAMES or ("path" in _names.get({}) and root.suffix.lower() in TABLES)
        return root if is_manifest and _columns(root) else None
    if not root.is_dir():
        return None
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLES and path.is_file())
    candidates = [path for path in tables if path.name.lower() in NAMES]
    if not candidates and "path" in _names.get({}):
        candidates = [path for path in tables if not is_junk(path) and _has(path, _names.get({})["path"])]
    if len(candidates) > 1:
        names = " and ".join(path.name for path in candidates)
        raise DataError(
            f"{names} are manifests of one folder", where=root, fix="keep one, or name it in place of the folder"
        )
    return candidates[0] if candidates and _columns(candidates[0]) else None


def absent(root: Path) -> DataError:
    """That a folder has no manifest, with what to do about it."""
    path = _names.get({}).get("path")
    if path is not None:
        what = f"no table in this folder has the column {path!r}"
        return DataError(what, where=root, fix=f"correct --columns path={path}, or put the table beside the files")
    what = f"there is no {NAME} in this folder; it lists labels and splits"
    fix = f"write one: medcoss data manifest folder --root {root}"
    return DataError(what, where=root, fix=fix + "; or name a table's columns: --columns path=File,label=Finding")


def _has(table: Path, column: str) -> bool:
    try:
        return read_rows(table, column).place(column) is not None
    except DataError:
        return False


def _columns(manifest: Path) -> dict[str, int]:
    return _parsed(manifest, tuple(sorted(_names.get({}).items())), *_stamp(manifest))[0]


def notes_of(manifest: Path) -> tuple[str, ...]:
    """What a user should know of how it was read."""
    return _parsed(manifest, tuple(sorted(_names.get({}).items())), *_stamp(manifest))[2]


def rows_of(manifest: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, values by column) of a manifest; a column's name is as in the header, and in small letters.

    Raises: DataError with line and reason for a table that cannot be parsed, or has no column `path`.
    """
    yield from _parsed(manifest, tuple(sorted(_names.get({}).items())), *_stamp(manifest))[1]


def _stamp(file: Path) -> tuple[int, int]:
    try:
        return file.stat().st_mtime_ns, file.stat().st_size
    except OSError as error:
        raise DataError("the manifest cannot be opened", where=file) from error


_Parsed = tuple[dict[str, int], list[tuple[int, dict[str, str]]], tuple[str, ...]]


@functools.lru_cache(maxsize=8)  # a manifest is asked for by several, and a workbook takes seconds
def _parsed(manifest: Path, names: tuple[tuple[str, str], ...], changed: int, size: int) -> _Parsed:
    """Places of the columns, rows, and notes."""
    renamed = dict(names)
    path_column = renamed.get("path", "path")
    table = read_rows(manifest, path_column)
    found = ", ".join(table.columns[:20])
    columns = {name.casefold(): place for place, name in reversed(list(enumerate(table.columns)))}
    columns |= {name: place for place, name in reversed(list(enumerate(table.columns))) if name}
    for name, column in renamed.items():
        place = table.place(column)
        if place is None:
            raise DataError(
                f"there is no column {column!r}; found: {found}",
                where=manifest,
                fix=f"correct --columns {name}={column}",
            )
        columns[name] = place
    if "path" not in columns:
        likely = _likely(manifest.parent, table.columns, [row.fields for row in table.rows[:20]])
        raise DataError(
            f"the manifest has no column 'path'; found: {found}",
            where=f"{manifest}:{table.line}",
            fix=f"did you mean --columns path={likely}?" if likely else "name it, as in --columns path=File",
        )
    rows, short = [], []
    for row in table.rows:
        fault = table.fault(row)
        if fault is not None:
            raise DataError(fault, where=f"{manifest}:{row.line}", fix="correct the row, or the separator of the table")
        if any(field.strip() for field in row.fields):
            fields = [field.strip() for field in row.fields]
            values = {name: fields[at] for name, at in columns.items() if at < len(fields)}
            rows.append((row.line, values | {name: filled(values[name]) for name in _FREE if name in values}))
            rows[-1][1].update({name: number_of(rows[-1][1][name]) for name in _NUMBERED if name in values})
            short += [str(row.line)] if len(row.fields) < len(table.columns) else []
    _check_splits(manifest, rows)
    _check_foreign(manifest, rows)
    notes = (*table.notes, *(note for row in table.rows for note in row.notes))
    if short:
        lines = ", ".join(short[:10]) + (", …" if len(short) > 10 else "")
        notes += (f"{len(short)} rows have fewer fields than the header (lines {lines}); what they lack is empty",)
    return columns, rows, tuple(dict.fromkeys(notes))


def _check_splits(manifest: Path, rows: list[tuple[int, dict[str, str]]]) -> None:
    """Raises: DataError for a row without a split among rows with one: it would be trained and tested on."""
    lines = [line for line, row in rows if row.get("path") and not row.get("split")]
    if lines and any(row.get("split") for _, row in rows):
        more = f" (and {len(lines) - 1} rows more)" if len(lines) > 1 else ""
        raise DataError(
            f"line {lines[0]} has no split, where other rows have one{more}",
            where=f"{manifest}:{lines[0]}",
            fix="write train, val or test in each row, or drop the row",
        )


def _check_foreign(manifest: Path, rows: list[tuple[int, dict[str, str]]]) -> None:
    """Raises: DataError for absolute paths from elsewhere that differ in their folder, and end as one file does."""
    first: dict[Path, tuple[int, str]] = {}
    for line, row in rows:
        name = row.get("path", "").replace("\\", "/")
        if not is_foreign(manifest.parent, name):
            continue
        where = f"{manifest}:{line}"
        before, other = first.setdefault(inside(manifest.parent, name, where), (line, name))
        if other.split("/")[-2:] != name.split("/")[-2:]:
            raise DataError(
                f"line {line} and line {before} name files in two folders elsewhere, of which one file is found here",
                where=where,
                fix="write paths relative to the manifest",
            )


def _likely(folder: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str | None:
    """The column in which most entries are files of this folder."""
    counts = dict.fromkeys(columns, 0)
    for fields in rows:
        for name, field in zip(columns, fields, strict=False):
            try:
                counts[name] += bool(field.strip()) and inside(folder, field, "").exists()
            except (DataError, OSError):
                continue
    best = max(counts, key=lambda name: counts[name], default=None)
    return best if best is not None and counts[best] else None


def split_of(word: str) -> str:
    """The name of a split: train, val, test, or another in small letters."""
    return _SPLITS.get(word.strip().lower(), word.strip().lower())


def _ruled(manifest: Path, files: list[Path], split: str) -> Iterator[Entry | Skipped]:
    folder = manifest.parent
    masks: dict[Path, int] = {}  # with the line that says so
    group_of: dict[Path, str | None] = {}
    rows: dict[Path, dict[int, str | None]] = {}
    elsewhere: dict[Path, str] = {}
    named: dict[Path, tuple[int, str]] = {}
    listed: dict[tuple[Path, str], tuple[str, str | None]] = {}
    for line, row in rows_of(manifest):
        where = f"{manifest}:{line}"
        if row.get("mask"):
            masks.setdefault(inside(folder, row["mask"], where), line)
        if not row.get("path"):
            continue
        path = inside(folder, row["path"], where)
        of, group, index = split_of(row.get("split", "")), row.get("group") or None, number_of(row.get("index", ""))
        before = listed.setdefault((path, index), (of, group))
        if before != (of, group):
            what = "in two splits" if before[0] != of else "with two groups (patients)"
            raise DataError(
                f"one {'row' if index else 'file'} is listed {what}", where=where, fix="keep one of the two"
            )
        if not of or split_of(split) in ("all", of):
            named.setdefault(path, (line, row["path"]))
        if of and split_of(split) not in ("all", of):
            elsewhere[path] = of
        elif index:
            if not index.isdecimal():
                raise DataError(f"the index {index!r} is not a row number (0, 1, 2, …)", where=where)
            rows.setdefault(path, {})[int(index)] = group
        else:
            group_of[path] = group
    layout = layout_of(folder, [path for path in files if path in group_of or path in rows], chosen=True)
    for item in _listed(manifest, files, masks, group_of, rows, elsewhere):
        if isinstance(item, Entry) and item.rows is None and item.group is None:
            item = Entry(item.path, layout.patient(item.path), inferred=True)
        yield item
    for path, (line, name) in named.items():
        if path not in masks and not is_present(path):
            yield Unmatched(path, f"line {line} of {manifest.name} names {name!r}, which is not there", bad=True)


def _listed(
    manifest: Path,
    files: list[Path],
    masks: dict[Path, int],
    group_of: dict[Path, str | None],
    rows: dict[Path, dict[int, str | None]],
    elsewhere: dict[Path, str],
) -> Iterator[Entry | Skipped]:
    for path in files:
        chain = [path, *path.parents]
        # the file, the folders between it and the manifest, and the manifest's own (a path of ".")
        chain = chain[: chain.index(manifest.parent) + 1]
        mask = next((place for place in chain if place in masks), None)
        if mask is not None:
            if path in group_of or path in rows or path in elsewhere:
                yield Skipped(path, f"listed, and a mask in line {masks[mask]} of {manifest.name}: a mask is no sample")
            continue
        if path in rows:
            yield Entry(path, rows=rows[path])
            continue
        # the nearest row counts: that of a file before that of its folder
        nearest = next((place for place in chain if place in group_of or place in elsewhere), None)
        if nearest in group_of:
            yield Entry(path, group=group_of[nearest])
        elif nearest is not None:
            yield Skipped(path, f"of split {elsewhere[nearest]!r}")
        else:
            yield Skipped(path, f"not listed in its {manifest.name}")
