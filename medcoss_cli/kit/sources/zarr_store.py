"""Zarr: a folder of chunks. Every array of numbers, at any depth; its attribute "spacing" is mm per axis of one sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers.volume import Array
from medcoss_cli.kit.sources import Item

_CODECS = frozenset(
    {
        *("bytes", "transpose", "sharding_indexed", "crc32c", "crc32", "adler32", "fletcher32"),
        *("regular", "default", "v2"),  # grids of chunks, and how they are called
        *("blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma"),
        *("shuffle", "delta", "fixedscaleoffset", "quantize", "packbits", "bitround", "astype"),
    }
)
"""Names in the metadata of arrays that are read: Zarr would also run the codec "pickle", and with it a file's own code."""
_METADATA = (".zarray", ".zmetadata", "zarr.json")
_LONGEST = 2**24


def items(path: Path) -> Iterator[Item]:
    """The arrays by their names; an array by itself has the name "". Raises DataError for codecs that are not known."""
    _check_codecs(path)
    yield from _within(zarr.open(str(path), mode="r"), "")


def _within(node: Any, name: str) -> Iterator[Item]:
    if isinstance(node, zarr.Array):
        spacing = node.attrs.get("spacing")
        steps = None if spacing is None else tuple(float(step) for step in spacing)
        yield Item(name, tuple(node.shape), np.dtype(node.dtype).kind, steps)
        return
    for key, member in sorted(node.members()):
        yield from _within(member, f"{name}/{key}".lstrip("/"))


def _check_codecs(path: Path) -> None:
    """Before Zarr opens anything."""
    for file in path.rglob("*"):
        if file.name in _METADATA:
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
            elif key != "attributes" and not key.endswith(".zattrs"):
                yield from _names(part)


def array(path: Path, key: str, index: int | None) -> Array:
    """An array, or one sample of it."""
    _check_codecs(path)
    node: Any = zarr.open(str(path), mode="r")
    if key:
        node = node[key]
    return np.asarray(node[...] if index is None else node[index])


def content(path: Path, key: str) -> bytes:
    """Raises DataError: there are no files in it."""
    raise DataError("there are no files in a Zarr store", where=path)
