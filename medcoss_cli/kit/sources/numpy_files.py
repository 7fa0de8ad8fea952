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


def items(path: Path) -> Iterator[Item]:
    """The array of a .npy, or those of a .npz by name, from their headers; "spacing" of a .npz is mm per axis."""
    if kind_of(path) == "npy":
        with path.open("rb") as file:
            shape, dtype = _header(file, path)
        yield Item("", shape, dtype.kind)
        return
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        is_spaced = "spacing.npy" in names and archive.getinfo("spacing.npy").file_size < 1024
        spacing = tuple(float(step) for step in _loaded(path, "spacing")) if is_spaced else None
        for name in sorted(names):
            with archive.open(name) as file:
                shape, dtype = _header(file, path)
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


def _header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise DataError("its array holds Python objects, which are never loaded", where=path)
    return shape, dtype


@lru_cache(maxsize=1)  # of the samples of one stack
def _member(path: Path, key: str, changed: int, size: int) -> Array:
    return _loaded(path, key)


def _loaded(path: Path, key: str) -> Array:
    with np.load(path, allow_pickle=False) as archive:
        found: Array = archive[key]
    return found
