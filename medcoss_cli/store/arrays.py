"""Arrays in files of numpy, written and read back: by name in an .npz, or one in an .npy that is mapped into memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import CheckpointError, MedcossError, is_of_the_machine
from medcoss_cli.store import atomic

Array = np.ndarray[Any, Any]


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name; object arrays are refused by numpy."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **dict(arrays))
    atomic.write(path, content.getvalue())


def load_arrays(
    path: Path,
    names: Collection[str] = (),
    *,
    fix: str = "remove it; the same command makes it again",
    error: type[MedcossError] = CheckpointError,
    what: str = "the file",
) -> dict[str, Array]:
    """What `save_arrays` wrote. Raises: `error` for a damaged file, one of something else, or without one of the names."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names or file.files}
    except Exception as fault:  # numpy raises anything for what is no array
        if is_of_the_machine(fault):
            raise
        raise error(f"{what} is damaged ({_short(fault)})", where=path, fix=fix) from fault
    if wrong := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise error(f"{what} is damaged ({wrong[0]} is no array)", where=path, fix=fix)
    return arrays


def open_array(
    path: Path, shaped: Callable[[tuple[int, ...]], bool], kinds: str, *, fix: str, error: type[MedcossError], what: str
) -> Array:
    """An .npy file, mapped into memory.

    Args:
        shaped: can this be its shape?
        kinds: of numpy's dtypes: "iu" are whole numbers.

    Raises: `error` for a damaged file, or another array than was written.
    """
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        found = array.shape
    except Exception as fault:  # numpy raises anything for what is no array, and gives what has no shape for an archive
        if is_of_the_machine(fault):
            raise
        raise error(f"{what} is damaged ({_short(fault)})", where=path, fix=fix) from fault
    if not shaped(found) or not is_plain(array, kinds):
        raise error(f"{what} is damaged (it holds {array.dtype} of {' x '.join(map(str, found))})", where=path, fix=fix)
    return array


def is_plain(array: Array, kinds: str) -> bool:
    """Is it of one of these kinds, and in an order and size of bytes that torch takes?"""
    return array.dtype.kind in kinds and array.dtype.isnative and array.dtype.itemsize <= 8


def _short(fault: Exception) -> str:
    """What numpy says, without what may be long in it."""
    return (str(fault).splitlines() or [""])[0][:150] or type(fault).__name__
