"""Which files of a folder are data: all of them, or those that a `manifest.csv` lists.

A `manifest.csv` with a column `path` rules its folder and everything below. Further columns, all optional: `split`,
`group` (patient or document), `index` (a data row of a table, counted from 0), `mask` (a file that is never a sample),
`label`. Paths are relative to the manifest and stay inside its folder. A `path` may be a folder: all its files count.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import is_store
from medcoss_cli.plugin import Skipped

NAME = "manifest.csv"
_JUNK = frozenset({"thumbs.db", "desktop.ini", "licences.csv", "licenses.csv", "quarantine.csv"})
_PAPERS = ("readme", "licence", "license", "notice", "copying", "changelog")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that may hold samples."""

    path: Path
    group: str | None = None
    """From the manifest."""
    rows: Mapping[int, str | None] | None = None
    """Data rows to take from a table, with their groups; None: all of it."""


def entries(root: Path, split: str = "train") -> Iterator[Entry | Skipped]:
    """The files under `root` (a folder, or one file), sorted by path; those a manifest keeps out as Skipped.

    Hidden files, what operating systems leave behind, licences and READMEs are passed over in silence.

    Raises:
        DataError: nothing is there, or a manifest is wrong (a path outside its folder, one file in two splits).
    """
    if root.is_file() or is_store(root):
        yield Entry(root)
        return
    if not root.is_dir():
        raise DataError("the file or folder does not exist", where=root)
    free, ruled = _walk(root)
    listed: list[Entry | Skipped] = [Entry(path) for path in free]
    for folder, files in ruled.items():
        listed.extend(_ruled(folder, files, split))
    yield from sorted(listed, key=_place)


def _place(item: Entry | Skipped) -> tuple[str, ...]:
    return (item.path if isinstance(item, Entry) else item.source).parts


def is_junk(path: Path) -> bool:
    """True for hidden files, leftovers of operating systems, licences and READMEs."""
    name = path.name.lower()
    paper = name.startswith(_PAPERS) and path.suffix.lower() in ("", ".txt", ".md", ".rst", ".csv", ".pdf", ".html")
    return name.startswith(".") or name in _JUNK or paper


def walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, through links too, but every folder once."""
    visited: set[str] = set()
    for place, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:  # a link back up
            folders.clear()
            continue
        visited.add(real)
        yield place, folders, names


def _walk(root: Path) -> tuple[list[Path], dict[Path, list[Path]]]:
    """Files that no manifest rules, and for each folder with a manifest the files under it."""
    free: list[Path] = []
    ruled: dict[Path, list[Path]] = {}
    ruler: dict[str, Path] = {}  # folder -> the outermost folder above with a manifest
    for place, folders, names in walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        folder = Path(place)
        above = ruler.get(str(folder.parent)) if folder != root else None
        if above is None and NAME in names and "path" in _columns(folder / NAME):
            above = folder
            ruled[folder] = []
        if above is not None:
            ruler[str(folder)] = above
        stores = [name for name in folders if is_store(folder / name)]
        folders[:] = [name for name in folders if name not in stores]
        names = sorted([*names, *stores])
        files = [folder / name for name in names if name != NAME and not is_junk(folder / name)]
        (free if above is None else ruled[above]).extend(files)
    return free, ruled


def _columns(manifest: Path) -> list[str]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            return [name.strip() for name in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("the manifest cannot be read as CSV in UTF-8", where=manifest) from error


def rows_of(manifest: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, values by column) of a manifest. Raises: DataError."""
    columns = _columns(manifest)
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            next(reader, None)
            for fields in reader:
                if any(field.strip() for field in fields):
                    pairs = zip(columns, fields, strict=False)
                    yield reader.line_num, {column: field.strip() for column, field in pairs}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("the manifest cannot be read as CSV in UTF-8", where=manifest) from error


def inside(folder: Path, name: str, where: str) -> Path:
    """A path as a manifest writes it. Raises: DataError for one that leaves the folder."""
    path = Path(os.path.normpath(name.replace("\\", "/")))
    if path.is_absolute() or path.parts[:1] == ("..",) or (len(name) > 1 and name[1] == ":"):
        raise DataError(f"the path {name!r} leaves the folder", where=where, fix="write it relative to the manifest")
    return folder / path


def _ruled(folder: Path, files: list[Path], split: str) -> Iterator[Entry | Skipped]:
    manifest = folder / NAME
    masks: set[Path] = set()
    group_of: dict[Path, str | None] = {}
    rows: dict[Path, dict[int, str | None]] = {}
    elsewhere: dict[Path, str] = {}
    for line, row in rows_of(manifest):
        where = f"{manifest}:{line}"
        if row.get("mask"):
            masks.add(inside(folder, row["mask"], where))
        if not row.get("path"):
            continue
        path = inside(folder, row["path"], where)
        of, group, index = row.get("split", ""), row.get("group") or None, row.get("index", "")
        if of and split not in ("all", of):
            elsewhere[path] = of
        elif index:
            if not index.isdecimal():
                raise DataError(f"the index {index!r} is not a row number (0, 1, 2, …)", where=where)
            rows.setdefault(path, {})[int(index)] = group
        else:
            group_of[path] = group
        if path in group_of and path in elsewhere:
            raise DataError("one file is listed in two splits", where=where)
    yield from _listed(folder, files, masks, group_of, rows, elsewhere)


def _listed(
    folder: Path,
    files: list[Path],
    masks: set[Path],
    group_of: dict[Path, str | None],
    rows: dict[Path, dict[int, str | None]],
    elsewhere: dict[Path, str],
) -> Iterator[Entry | Skipped]:
    visited: set[Path] = set()
    for path in files:
        chain = [path, *path.parents]
        chain = chain[: chain.index(folder)]  # the file, and the folders between it and the manifest
        visited.update(chain)
        if any(place in masks for place in chain):
            continue
        if path in rows:
            yield Entry(path, rows=rows[path])
            continue
        listed = next((place for place in chain if place in group_of), None)
        split = next((elsewhere[place] for place in chain if place in elsewhere), None)
        if listed is not None:
            yield Entry(path, group=group_of[listed])
        elif split is not None:
            yield Skipped(path, f"of split {split!r}")
        else:
            yield Skipped(path, f"not listed in its {NAME}")
    for path in (group_of.keys() | rows.keys()) - visited - masks:
        yield Skipped(path, f"listed in {NAME}, but missing", bad=True)
