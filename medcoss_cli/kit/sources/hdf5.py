"""HDF5: every data set of numbers, at any depth; its attribute "spacing" is mm per axis of one sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers.volume import Array
from medcoss_cli.kit.sources import Item


def items(path: Path) -> Iterator[Item]:
    """The data sets by their names; links to other files are not followed."""
    found: list[Item] = []

    def take(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            spacing = node.attrs.get("spacing")
            steps = None if spacing is None else tuple(float(step) for step in spacing)
            found.append(Item(name, tuple(node.shape or ()), node.dtype.kind, steps))

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


def content(path: Path, key: str) -> bytes:
    """Raises DataError: there are no files in it."""
    raise DataError("there are no files in an HDF5 file", where=path)
