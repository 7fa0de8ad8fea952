"""Arrays in files of numpy, written and read back: by name in an .npz, or one in an .npy that is mapped into memory."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import CheckpointError, MedcossError, is_of_the_machine
from medcoss_cli.store import atomic

Array = np.ndarray[Any, Any]


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name, as np.savez does; arrays of objects are a ValueError."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                # savez of numpy below 2.1 takes allow_pickle for the name of an array
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
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
        with zipfile.ZipFile(path) as archive:
            if sum(entry.compress_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("its entries lie over each other")
            found = names or [name.removesuffix(".npy") for name in archive.namelist()]
            return {name: _entry(archive, archive.getinfo(f"{name}.npy")) for name in found}
    except Exception as fault:  # numpy raises anything for what is no array
        if is_of_the_machine(fault):
            raise
        raise error(f"{what} is damaged ({_short(fault)})", where=path, fix=fix) from fault


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    """An array of an archive, in no more memory than its bytes take. Raises: ValueError, and whatever numpy and zipfile do."""
    name = entry.filename[:40]
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(
            f"{name} is compressed, as medcoss never writes it"
        )  # and may become a thousand times as large
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        # numpy takes the memory before it sees that there are no such values; values of no bytes are in no file
        count, held = math.prod(shape), entry.file_size - file.tell()
        if count * max(1, dtype.itemsize) != held:
            raise ValueError(f"{name} has {held} bytes for {count} values")
        file.seek(0)
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


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
