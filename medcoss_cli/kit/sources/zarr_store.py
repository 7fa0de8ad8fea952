"""Zarr: a folder of chunks. Every array of numbers, at any depth; its attribute "spacing" is mm per axis of one sample."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers.volume import Array
from medcoss_cli.kit.sources import FREE, GROWTH, Item
from medcoss_cli.kit.sources.meaning import entries_of, group_in, lists

_CODECS = frozenset(
    {
        *("bytes", "transpose", "sharding_indexed", "crc32c", "crc32", "adler32", "fletcher32"),
        *("regular", "default", "v2"),  # grids of chunks, and how they are called
        *("blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma"),
        *("shuffle", "delta", "fixedscaleoffset", "quantize", "packbits", "bitround", "astype"),
        "vlen-utf8",  # the one codec that is read of those that give objects: texts
    }
)
"""Names in the metadata of arrays that are read: Zarr would also run the codec "pickle", and with it a file's own code."""
_METADATA = (".zarray", ".zmetadata", "zarr.json")
_LONGEST = 2**24


def items(path: Path) -> Iterator[Item]:
    """The arrays by their names; an array by itself has the name "". Raises DataError for codecs that are not known."""
    _check_codecs(path)
    yield from _within(zarr.open(str(path), mode="r"), "", path)


def _within(node: Any, name: str, folder: Path, group: str | None = None) -> Iterator[Item]:
    if isinstance(node, zarr.Array):
        group = group_in(dict(node.attrs)) or group
        kind = np.dtype(node.dtype).kind.replace("O", "U")
        shape, spacing = tuple(node.shape), node.attrs.get("spacing")
        size, most = math.prod(shape) * np.dtype(node.dtype).itemsize, None
        if size > FREE:  # to look at all chunks takes its time
            most = FREE + GROWTH * sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        yield Item(name, shape, kind, spacing, group, size=size, most=most)
        return
    group = group_in(dict(node.attrs)) or group
    for key, member in sorted(node.members()):
        yield from _within(member, f"{name}/{key}".lstrip("/"), folder / key, group)


def _check_codecs(path: Path) -> None:
    """Before Zarr opens anything."""
    _check_metadata(path, [file for file in path.rglob("*") if file.name in _METADATA])


def _check_metadata(path: Path, files: Iterable[Path]) -> None:
    for file in files:
        if file.is_file():
            if file.stat().st_size > _LONGEST:
                raise DataError(f"metadata of more than {_LONGEST:,} bytes", where=path)
            for name in _names(json.loads(file.read_text(encoding="utf-8"))):
                if name.removeprefix("numcodecs.") not in _CODECS:
                    raise DataError(f"the codec {name[:40]!r} is not read", where=path)


def _names(value: Any) -> Iterator[str]:
    """Names of codecs, grids and key encodings, at any depth; attributes are the user's own."""
    if isinstance(value, list):
        for part in value:
            yield from _names(part)
    elif isinstance(value, dict):
        for key, part in value.items():
            if key in ("id", "name"):
                yield str(part)
            elif key not in ("attributes", "data_type") and not key.endswith(".zattrs"):
                yield from _names(part)


def array(path: Path, key: str, index: int | None) -> Array:
    """An array, or one sample of it."""
    # those that are read for it alone: to look through all chunks for each sample would take the square of their number
    folders = [path]
    for part in key.split("/") if key else ():
        folders.append(folders[-1] / part)
    _check_metadata(path, [folder / name for folder in folders for name in _METADATA])
    node: Any = zarr.open(str(path), mode="r")
    if key:
        node = node[key]
    return np.asarray(node[...] if index is None else node[index])


def keys(path: Path) -> list[str]:
    """The arrays that may have an entry for each sample."""
    return [item.key for item in items(path) if lists(item)]


def values(path: Path, key: str) -> dict[int, str]:
    """The entries of an array by the number of their sample."""
    return entries_of(array(path, key, None))


def content(path: Path, key: str) -> bytes:
    """Raises DataError: there are no files in it."""
    raise DataError("there are no files in a Zarr store", where=path)
