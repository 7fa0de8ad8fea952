"""HDF5: every data set of numbers, at any depth; its attribute "spacing" is mm per axis of one sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers.volume import Array
from medcoss_cli.kit.sources import FREE, GROWTH, Item
from medcoss_cli.kit.sources.meaning import entries_of, group_in, lists


def items(path: Path) -> Iterator[Item]:
    """The data sets by their names; links to other files are not followed."""
    found: list[Item] = []

    def take(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            kind = "U" if h5py.check_string_dtype(node.dtype) is not None else node.dtype.kind
            group = group_in(node.attrs) or group_in(node.parent.attrs)
            shape = tuple(node.shape or ())
            size, most = math.prod(shape) * node.dtype.itemsize, FREE + GROWTH * node.id.get_storage_size()
            spacing = node.attrs.get("spacing")
            found.append(Item(name, shape, kind, spacing, group, size=size, most=most))

    with h5py.File(path, "r") as file:
        file.visititems(take)
    yield from found


def array(path: Path, key: str, index: int | None) -> Array:
    """A data set, or one sample of it."""
    with h5py.File(path, "r") as file:
        node = file[key]
        if node.external or node.is_virtual:
            raise DataError("its values are in other files, which are not read", where=path)
        return np.asarray(node[()] if index is None else node[index])


def keys(path: Path) -> list[str]:
    """The data sets that may have an entry for each sample."""
    return [item.key for item in items(path) if lists(item)]


def values(path: Path, key: str) -> dict[int, str]:
    """The entries of a data set by the number of their sample."""
    return entries_of(array(path, key, None))


def content(path: Path, key: str) -> bytes:
    """Raises DataError: there are no files in it."""
    raise DataError("there are no files in an HDF5 file", where=path)
