"""Tar files of samples, as WebDataset writes them: members whose names are equal up to the first dot belong together."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from medcoss_cli.errors import DataError
from medcoss_cli.kit.layout import layout_of
from medcoss_cli.kit.readers import HEAD, kind_of_bytes
from medcoss_cli.kit.readers.volume import MAX_HELD, Array
from medcoss_cli.kit.sources import Item
from medcoss_cli.kit.sources.meaning import as_text, sample_of

LONGEST = 4096
"""Bytes of a label."""


def items(path: Path) -> Iterator[Item]:
    """Each regular member."""
    with path.open("rb") as file:
        for name, (offset, size) in _members(path).items():
            file.seek(offset)
            yield Item(name, kind=kind_of_bytes(file.read(min(size, HEAD))))


def array(path: Path, key: str, index: int | None) -> Array:
    """Raises DataError: there are no arrays in it."""
    raise DataError("there are no arrays in a tar file", where=path)


def content(path: Path, key: str) -> bytes:
    """The bytes of a member."""
    members = _members(path)
    if key not in members:
        raise DataError(f"{key} is no longer in it", where=path)
    offset, size = members[key]
    if size > MAX_HELD:
        raise DataError(f"the member {key} has {size:,} bytes, more than the limit of {MAX_HELD:,}", where=path)
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise DataError("the file is truncated", where=path)
    return data


def keys(path: Path) -> list[str]:
    """The endings of members (cls, txt), "folder" for the folder they lie in, and "patient" where folders name patients."""
    names = list(_members(path))
    endings = sorted({PurePosixPath(name).name.partition(".")[2] for name in names} - {""})
    is_known = layout_of(path, [path / name for name in names]).rule is not None
    return [*endings, "folder", *(["patient"] if is_known else [])]


def values(path: Path, key: str) -> dict[int, str]:
    """For each sample the text of its member with this ending, or what its folder is called."""
    members, numbers = _members(path), _numbers(path)
    layout = layout_of(path, [path / name for name in members]) if key == "patient" else None
    found: dict[int, str] = {}
    for name, (_, size) in members.items():
        place, sample = PurePosixPath(name), numbers[sample_of(name)]
        if key == "folder":
            found[sample] = place.parent.name
        elif layout is not None:
            found[sample] = layout.patient(path / name) or ""
        elif place.name.partition(".")[2] == key:
            if size > LONGEST:
                raise DataError(f"the member {name} is too long for a label", where=path)
            found[sample] = as_text(content(path, name).strip())
    return found


def number(path: Path, key: str) -> int:
    """The place of a member's sample among all."""
    return _numbers(path)[sample_of(key)]


def _numbers(path: Path) -> dict[str, int]:
    stat = path.stat()
    return _numbered(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _numbered(path: Path, changed: int, size: int) -> dict[str, int]:
    samples = dict.fromkeys(sample_of(name) for name in _indexed(path, changed, size))
    return {sample: number for number, sample in enumerate(samples)}


def _members(path: Path) -> dict[str, tuple[int, int]]:
    stat = path.stat()
    return _indexed(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _indexed(path: Path, changed: int, size: int) -> dict[str, tuple[int, int]]:
    """Where the bytes of each member are, so that none is searched for twice."""
    try:
        with tarfile.open(path, "r:") as archive:
            return {member.name: (member.offset_data, member.size) for member in archive if member.isreg()}
    except tarfile.TarError as error:
        raise DataError("the file is truncated or damaged", where=path) from error
