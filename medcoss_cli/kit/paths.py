"""The file that a row of a manifest names, as spreadsheets and other machines write paths."""

from __future__ import annotations

import functools
import os
import unicodedata
from pathlib import Path

from medcoss_cli.errors import DataError, shortage
from medcoss_cli.kit.readers.encoding import mended


def inside(folder: Path, name: str, where: str) -> Path:
    """The file that a manifest names, whether it exists or not.

    An absolute path may lie in the folder, or end as a file of the folder does (`D:\\export\\p1\\a.png` for p1/a.png) if no other
    file of the folder ends so, and none of its folders is called as the one above (export). A name that differs from the only
    such file in capital letters, in how an accent is written, or by its ending stands for it.

    Raises: DataError for a path that leaves the folder, or may mean several files.
    """
    path = Path(os.path.normpath(name.strip().replace("\\", "/")))
    fault = DataError(f"the path {name!r} leaves the folder", where=where, fix="write it relative to the manifest")
    if path.parts[:1] == ("..",):
        raise fault
    if any(len(os.fsencode(part)) > 255 for part in path.parts):  # more than a file system has room for
        raise DataError(
            f"no file has a name as long as {name[:40]!r}…", where=where, fix="name the column of paths with --columns"
        )
    if path.is_absolute() or (len(str(path)) > 1 and str(path)[1] == ":"):
        for base in _bases(folder):
            if path.is_relative_to(base):
                return _located(folder, path.relative_to(base))
        tails = (_located(folder, Path(*path.parts[n:])) for n in range(1, len(path.parts)))
        found = next((file for file in tails if file.exists()), None)
        if found is None:
            raise fault
        _check_tail(folder, path, found, where)
        return found
    return _located(folder, path)


@functools.lru_cache(maxsize=64)
def _bases(folder: Path) -> tuple[Path, Path]:
    return folder.absolute(), folder.resolve()


def is_foreign(folder: Path, name: str) -> bool:
    """Is this an absolute path of another place, of which only the end is found in the folder?"""
    path = Path(name.strip().replace("\\", "/"))
    return str(path)[1:2] == ":" or (path.is_absolute() and not any(map(path.is_relative_to, _bases(folder))))


def _check_tail(folder: Path, path: Path, found: Path, where: str) -> None:
    """Raises: DataError where another file of the folder may be meant: p1/a.png is not D:\\export\\p2\\a.png."""
    tail = found.relative_to(folder).parts
    folded = tuple(map(_folded, tail))
    above = path.parts[-len(tail) - 1]
    names, folders = _below(folder, folder.stat().st_mtime_ns)
    alike = [other for other in names.get(folded[-1], ()) if other[-len(tail) :] == folded]
    if len(alike) > 1 or (_folded(above) in folders and above != folder.name):
        raise DataError(
            f"the path {str(path)!r} is of another place, and which file it means here is not certain",
            where=where,
            fix=f"write it relative to the manifest (is it {'/'.join(tail)}?)",
        )


@functools.lru_cache(maxsize=4)
def _below(folder: Path, changed: int) -> tuple[dict[str, list[tuple[str, ...]]], set[str]]:
    """All that lies below a folder: folded parts of its path by its folded name; and the folded names of folders."""
    names: dict[str, list[tuple[str, ...]]] = {}
    found: set[str] = set()
    for place, folders, files in os.walk(folder):
        parts = tuple(map(_folded, Path(place).relative_to(folder).parts))
        found.update(map(_folded, folders))
        for name in map(_folded, (*folders, *files)):
            names.setdefault(name, []).append((*parts, name))
    return names, found


def _located(folder: Path, path: Path) -> Path:
    """The file below the folder, by its name or by the only one that differs as `inside` says; else folder / path."""
    if (folder / path).exists():
        return folder / path
    place = folder
    for part in path.parts:
        if not (place / part).exists():
            try:
                names = _similar(place, place.stat().st_mtime_ns).get(_folded(part), ())
            except OSError as error:
                if (fault := shortage(error, place)) is not None:
                    raise fault from error
                return folder / path
            if len(names) != 1:
                return folder / path
            part = names[0]
        place = place / part
    return place


@functools.lru_cache(maxsize=64)
def _similar(folder: Path, changed: int) -> dict[str, list[str]]:
    """Names in a folder by their folded form and, for files, by that without the ending."""
    names: dict[str, list[str]] = {}
    for path in folder.iterdir():
        folded = _folded(path.name)
        names.setdefault(folded, []).append(path.name)
        bare = folded.removesuffix(".gz").rpartition(".")[0]
        if bare and path.is_file():
            names.setdefault(bare, []).append(path.name)
    return names


def _folded(name: str) -> str:
    """A name in small letters, its accents composed; bytes that are not UTF-8 as Windows-1252 has them."""
    return unicodedata.normalize("NFC", mended(os.fsencode(name))).casefold()
