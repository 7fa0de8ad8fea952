"""NumPy's .npy and .npz, never with pickled objects."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import kind_of
from medcoss_cli.kit.readers.volume import Array
from medcoss_cli.kit.sources import Item
from medcoss_cli.kit.sources.meaning import entries_of, lists


def items(path: Path) -> Iterator[Item]:
    """The array of a .npy, or those of a .npz by name, from their headers; "spacing" of a .npz is mm per axis."""
    if kind_of(path) == "npy":
        with path.open("rb") as file:
            shape, dtype = _header(file)
        yield Item("", shape, dtype.kind)
        return
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        spacing = None
        if "spacing.npy" in names:
            with archive.open("spacing.npy") as file:
                shape, dtype = _header(file)
            readable = dtype.kind != "O" and int(np.prod(shape)) <= 16
            spacing = _loaded(path, "spacing") if readable else f"an array of {dtype}"
        for name in sorted(names):
            with archive.open(name) as file:
                shape, dtype = _header(file)
            if name != "spacing.npy":
                yield Item(name.removesuffix(".npy"), shape, dtype.kind, spacing)


def array(path: Path, key: str, index: int | None) -> Array:
    """An array, or one of a stack."""
    if kind_of(path) == "npy":
        whole: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        return np.array(whole if index is None else whole[index])
    stat = path.stat()
    whole = _member(path, key, stat.st_mtime_ns, stat.st_size)
    return whole if index is None else whole[index]


def content(path: Path, key: str) -> bytes:
    """Raises DataError: there are no files in it."""
    raise DataError("there are no files in a NumPy file", where=path)


def keys(path: Path) -> list[str]:
    """The arrays that may have an entry for each sample."""
    return [item.key for item in items(path) if lists(item)]


def values(path: Path, key: str) -> dict[int, str]:
    """The entries of an array by the number of their sample."""
    return entries_of(_loaded(path, key))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, np.dtype(object) if dtype.hasobject else dtype


@lru_cache(maxsize=1)  # of the samples of one stack
def _member(path: Path, key: str, changed: int, size: int) -> Array:
    return _loaded(path, key)


def _loaded(path: Path, key: str) -> Array:
    with np.load(path, allow_pickle=False) as archive:
        found: Array = archive[key]
    return found
