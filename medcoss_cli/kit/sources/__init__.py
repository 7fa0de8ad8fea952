"""Containers of many samples: arrays in a file, or files in a file. One module a format, chosen by content.

An array is a sample, or a stack of samples along its first axis. Records have the part ("key", name) or ("key", name,
"index", n). What is read goes through the same rules as a file: grey or colour, size, range, Hounsfield units.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import IMAGES, VOLUMES, WHAT, kind_of, plainly
from medcoss_cli.kit.readers.image import MIN_SIDE, check_size
from medcoss_cli.kit.readers.volume import Array, FileGrid
from medcoss_cli.plugin import Record, Skipped

_MODULES = {
    "npy": "numpy_files",
    "npz": "numpy_files",
    "hdf5": "hdf5",
    "zarr": "zarr_store",
    "parquet": "parquet",
    "tar": "tar",
}
FILES = frozenset({"parquet", "tar"})
"""Those that hold files; the others hold arrays."""
_EXTRAS = {"hdf5": ("h5py", "hdf5"), "zarr": ("zarr", "zarr"), "parquet": ("pyarrow", "parquet")}
_MASK = re.compile(r"(^|[_/.\- ])(mask|label|seg|segmentation|gt|target|annotation)s?([_/.\- ]|$)", re.IGNORECASE)
"""Keys of a container are its author's names for what it holds: these are what images are compared with."""


@dataclass(frozen=True, slots=True)
class Item:
    """One array of a container, or one file in it."""

    key: str
    shape: tuple[int, ...] | None = None
    """Of an array; None for a file."""
    kind: str = "f"
    """Of an array: numpy's letter for its type. Of a file: a key of `readers.WHAT`."""
    spacing: tuple[float, ...] | None = None
    """mm along the axes of one sample, where the container says it."""
    group: str | None = None


class Source(Protocol):
    """What a module of this folder brings, as functions."""

    def items(self, path: Path) -> Iterator[Item]:
        """What the container holds, without decoding it."""
        ...

    def array(self, path: Path, key: str, index: int | None) -> Array:
        """An array, or one of a stack."""
        ...

    def content(self, path: Path, key: str) -> bytes:
        """The bytes of a file in the container."""
        ...


def source_of(path: Path, kind: str | None = None) -> Source:
    """The module that reads a container. Raises: DataError where the package that it needs is not installed."""
    kind = kind or kind_of(path)
    try:
        return cast(Source, import_module(f"medcoss_cli.kit.sources.{_MODULES[kind]}"))
    except ModuleNotFoundError as error:
        package, extra = _EXTRAS[kind]
        raise DataError(
            f'{WHAT[kind]}, which is read with {package}: pip install "medcoss[{extra}]"', where=path
        ) from error


def images(path: Path, kind: str, group: str | None) -> Iterator[Record | Skipped]:
    """A record for each image in a container, and what in it is none."""
    for item in _items(path, kind):
        if isinstance(item, Skipped):
            yield item
        elif item.shape is None and item.kind not in IMAGES:
            yield Skipped(path, f"{WHAT[item.kind]} in it where an image is expected")
        elif item.shape is None:
            yield Record(path, ("key", item.key), group or item.group)
        elif (count := _count(item.shape, 2)) is None or item.kind not in "uif":
            yield Skipped(path, f"an array of {_by(item.shape)} where an image is expected")
        else:
            yield from (Record(path, part, group or item.group) for part in _parts(item.key, count))


def volumes(path: Path, kind: str, group: str | None) -> Iterator[tuple[Record, FileGrid] | Skipped]:
    """A record for each volume in a container with its grid, and what in it is none."""
    from medcoss_cli.kit.readers import nifti

    for item in _items(path, kind):
        if isinstance(item, Skipped):
            yield item
        elif item.shape is None:
            if item.kind not in VOLUMES:
                yield Skipped(path, f"{WHAT[item.kind]} in it where a volume is expected")
                continue
            record = Record(path, ("key", item.key), group or item.group)
            try:
                yield record, nifti.read_header(extracted(path, item.key))
            except DataError as error:
                yield Skipped(path, error.what, bad="where a volume is expected" not in error.what)
        elif (count := _count(item.shape, 3)) is None or item.kind not in "uif":
            yield Skipped(path, f"an array of {_by(item.shape)} where a volume is expected")
        else:
            sides = _sides(item.shape[1:] if count else item.shape, 3)
            grid = FileGrid(sides[::-1], None if item.spacing is None else item.spacing[::-1])  # type: ignore[arg-type]
            for part in _parts(item.key, count):
                yield Record(path, part, group or item.group), grid


def read_image(record: Record) -> tuple[Array, tuple[str, ...]]:
    """(C, H, W) as stored, without alpha, and notes. Raises DataError."""
    from medcoss_cli.kit.readers import image

    key, index = _place(record.part or ())
    source = source_of(record.source)
    with plainly(record.source):
        if kind_of(record.source) in FILES:
            path = extracted(record.source, key)
            if (pages := image.read_header(path).pages) > 1:
                raise DataError(f"{pages} pages in one file of a container, where one is expected", where=record.source)
            return image.read(path)
        array = source.array(record.source, key, index)
    array, notes = _channels_first(array), ()
    if len(array) == 4:
        array, notes = array[:3], ("alpha channel dropped",)  # type: ignore[assignment]
    check_size(array.shape[2], array.shape[1], record.source)
    return array, notes


def read_volume(path: Path, part: tuple[str | int, ...]) -> tuple[Array, FileGrid]:
    """(z, y, x) and its grid. Raises DataError."""
    from medcoss_cli.kit.readers import nifti

    key, index = _place(part)
    source = source_of(path)
    with plainly(path):
        if kind_of(path) in FILES:
            return nifti.read(extracted(path, key))
        array = source.array(path, key, index)
        array = array.reshape(_sides(array.shape, 3) if array.ndim > 3 else array.shape)
        spacing = next((item.spacing for item in source.items(path) if item.key == key), None)
    return array, FileGrid(array.shape[::-1], None if spacing is None else spacing[::-1]).check(path)  # type: ignore[arg-type]


def texts(path: Path, column: str, group: str | None) -> list[tuple[str | None, str | None]]:
    """Text and group of each row of a Parquet file. Raises DataError."""
    return _texts(path, column, group, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _texts(path: Path, column: str, group: str | None, changed: int) -> list[tuple[str | None, str | None]]:
    source: Any = source_of(path, "parquet")
    with plainly(path):
        found: list[tuple[str | None, str | None]] = source.texts(path, column, group)
    return found


def extracted(path: Path, key: str) -> Path:
    """A file of a container as a file by itself, kept until another one is asked for. Raises DataError."""
    stat = path.stat()
    folder, name = _extracted(path, key, stat.st_mtime_ns, stat.st_size)
    return Path(folder.name) / name


@lru_cache(maxsize=1)
def _extracted(path: Path, key: str, changed: int, size: int) -> tuple[tempfile.TemporaryDirectory[str], str]:
    folder = tempfile.TemporaryDirectory(prefix="medcoss-", ignore_cleanup_errors=True)
    (Path(folder.name) / "file").write_bytes(source_of(path).content(path, key))
    return folder, "file"


def _items(path: Path, kind: str) -> Iterator[Item | Skipped]:
    """What a container holds, masks and arrays that cannot be samples as Skipped; a broken container as one."""
    found = 0
    try:
        with plainly(path):
            for item in source_of(path, kind).items(path):
                found += 1
                if _MASK.search(item.key):
                    yield Skipped(path, f"named as a mask or a label ({item.key})")
                else:
                    yield item
    except DataError as error:
        yield Skipped(path, error.what, bad=True)
        return
    if not found:
        yield Skipped(path, "nothing in it")


def _place(part: tuple[str | int, ...]) -> tuple[str, int | None]:
    index = int(part[3]) if part[2:3] == ("index",) else None
    return str(part[1]), index


def _parts(key: str, count: int) -> Iterator[tuple[str | int, ...]]:
    """The parts of an array of so many samples; 0: it is one itself."""
    if not count:
        yield ("key", key)
    yield from (("key", key, "index", n) for n in range(count))


def _count(shape: tuple[int, ...], dims: int) -> int | None:
    """Samples along the first axis, 0 where the array is one sample; None where it is none."""
    if _sides(shape, dims):
        return 0
    return shape[0] if len(shape) > dims and shape[0] and _sides(shape[1:], dims) else None


def _sides(shape: tuple[int, ...], dims: int) -> tuple[int, ...]:
    """Height and width, or depth, height and width, of one sample; () where the shape is of none.

    One axis more holds channels: the last one of 1, 3 or 4, or the first of 1 or 3; of a volume 1.
    """
    if len(shape) == dims + 1:
        if shape[-1] == 1 or (dims == 2 and shape[-1] in (3, 4)):
            shape = shape[:-1]
        elif shape[0] == 1 or (dims == 2 and shape[0] == 3):
            shape = shape[1:]
    return shape if len(shape) == dims and min(shape[-2:]) >= MIN_SIDE and 1 not in shape else ()


def _channels_first(array: Array) -> Array:
    if array.ndim == 2:
        return array[None]
    return np.moveaxis(array, -1, 0) if array.shape[-1] <= 4 else array


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "no axes"
