"""NumPy's .npy and .npz, never with pickled objects."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import kind_of
from medcoss_cli.kit.readers.volume import MAX_HELD, Array, check_bytes
from medcoss_cli.kit.sources import Item
from medcoss_cli.kit.sources.meaning import entries_of, lists

MAX_MEMBER = 2**28
"""Bytes of a stack in a .npz that is decoded as a whole; of a larger one each sample is decoded when it is read."""


def items(path: Path) -> Iterator[Item]:
    """The array of a .npy, or those of a .npz by name, from their headers; "spacing" of a .npz is mm per axis."""
    if kind_of(path) == "npy":
        with path.open("rb") as file:
            shape, dtype, _ = _header(file)
            size, most = _size(shape, dtype), path.stat().st_size - file.tell()
        yield Item("", shape, dtype.kind, size=size, most=most)
        return
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        spacing = None
        if "spacing.npy" in names:
            with archive.open("spacing.npy") as file:
                shape, dtype, _ = _header(file)
            readable = dtype.kind != "O" and int(np.prod(shape)) <= 16
            spacing = _loaded(path, "spacing") if readable else f"an array of {dtype}"
        for name in sorted(names):
            with archive.open(name) as file:
                shape, dtype, _ = _header(file)
            if name != "spacing.npy":
                size, most = _size(shape, dtype), archive.getinfo(name).file_size
                yield Item(name.removesuffix(".npy"), shape, dtype.kind, spacing, size=size, most=most)


def array(path: Path, key: str, index: int | None) -> Array:
    """An array, or one of a stack."""
    if kind_of(path) == "npy":
        whole: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        return np.array(whole if index is None else whole[index])
    stat = path.stat()
    stack = _stack(path, key, stat.st_mtime_ns, stat.st_size)
    if index is not None and stack.size > MAX_MEMBER and not stack.is_mixed:
        return stack.read(index)
    check_bytes(1, stack.size, path, MAX_HELD)
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


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape, type, and whether the first axis runs fastest."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    return shape, np.dtype(object) if dtype.hasobject else dtype, is_fortran


def _size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize


class _Stack:
    """A member that stays open: it is compressed as a whole, and its samples are asked for in order."""

    def __init__(self, path: Path, key: str) -> None:
        self._archive = zipfile.ZipFile(path)
        self._file = self._archive.open(f"{key}.npy")
        self._shape, self._dtype, self.is_mixed = _header(self._file)
        self._begin, self.size = self._file.tell(), _size(self._shape, self._dtype)

    def read(self, index: int) -> Array:
        """One sample. Raises: IndexError."""
        if not 0 <= index < self._shape[0]:
            raise IndexError(index)
        size = self.size // self._shape[0]
        self._file.seek(self._begin + index * size)
        return np.frombuffer(self._file.read(size), self._dtype).reshape(self._shape[1:])


@lru_cache(maxsize=1)
def _stack(path: Path, key: str, changed: int, size: int) -> _Stack:
    return _Stack(path, key)


@lru_cache(maxsize=1)  # of the samples of one stack
def _member(path: Path, key: str, changed: int, size: int) -> Array:
    return _loaded(path, key)


def _loaded(path: Path, key: str) -> Array:
    with np.load(path, allow_pickle=False) as archive:
        found: Array = archive[key]
    return found
