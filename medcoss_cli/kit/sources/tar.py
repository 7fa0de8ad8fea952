"""Tar files of samples, as WebDataset writes them: members whose names are equal up to the first dot belong together."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import HEAD, kind_of_bytes
from medcoss_cli.kit.readers.volume import Array
from medcoss_cli.kit.sources import Item


def items(path: Path) -> Iterator[Item]:
    """Each regular member; of a sample's members the name without endings is the group."""
    with path.open("rb") as file:
        for name, (offset, size) in _members(path).items():
            file.seek(offset)
            place = PurePosixPath(name)
            group = str(place.with_name(place.name.partition(".")[0]))
            yield Item(name, kind=kind_of_bytes(file.read(min(size, HEAD))), group=group)


def array(path: Path, key: str, index: int | None) -> Array:
    """Raises DataError: there are no arrays in it."""
    raise DataError("there are no arrays in a tar file", where=path)


def content(path: Path, key: str) -> bytes:
    """The bytes of a member."""
    members = _members(path)
    if key not in members:
        raise DataError(f"{key} is no longer in it", where=path)
    offset, size = members[key]
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise DataError("the file is truncated", where=path)
    return data


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
