"""Containers of many samples: arrays in a file, or files in a file. One module a format, chosen by content.

An array is a sample, or a stack of samples along its first axis. Records have the part ("key", name) or ("key", name,
"index", n). What is read goes through the same rules as a file: grey or colour, size, range, Hounsfield units.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import IMAGES, SOURCES, VOLUMES, WHAT, is_store, kind_of, plainly
from medcoss_cli.kit.readers.image import MIN_SIDE, check_size
from medcoss_cli.kit.readers.volume import MAX_HELD, Array, FileGrid
from medcoss_cli.kit.sources import meaning
from medcoss_cli.plugin import Record, Skipped

Patient = Callable[[str | None], str | None]
"""Whose a sample is, from what its container says: a manifest's word goes before, a folder's after it."""

_MODULES = {
    "npy": "numpy_files",
    "npz": "numpy_files",
    "hdf5": "hdf5",
    "zarr": "zarr_store",
    "parquet": "parquet",
    "tar": "tar",
}
FREE, GROWTH = 2**26, 1000
"""An array may be of so many bytes, and of so many times more than are stored of it, as compressed ones are."""
FILES = frozenset({"parquet", "tar"})
"""Those that hold files; the others hold arrays."""
STACK = "an array of three axes without a spacing: images, or one volume, as the modality has it"
_EXTRAS = {"hdf5": ("h5py", "hdf5"), "zarr": ("zarr", "zarr"), "parquet": ("pyarrow", "parquet")}


@dataclass(frozen=True, slots=True)
class Item:
    """One array of a container, or one file in it."""

    key: str
    shape: tuple[int, ...] | None = None
    """Of an array; None for a file."""
    kind: str = "f"
    """Of an array: numpy's letter for its type. Of a file: a key of `readers.WHAT`."""
    spacing: Any = None
    """mm along the axes of one sample, as the container says it; None: it does not."""
    group: str | None = None
    """The patient, where the container says it."""
    groups: tuple[str, ...] = ()
    """The patient of each sample of a stack."""
    size: int = 0
    """Bytes of an array, as the container declares it."""
    most: int | None = None
    """Bytes of it that the container can hold, by what is stored; None: as many as it declares."""
    stacked: bool = False
    """The container has an entry for each of the first axis, so these are samples and no channels."""

    def patient(self, number: int | None) -> str | None:
        """The patient of the sample of this number in a stack, or of an item that is one sample."""
        return (self.groups[number] if self.groups and number is not None else self.group) or None


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

    def keys(self, path: Path) -> list[str]:
        """What `values` can be asked for."""
        ...

    def values(self, path: Path, key: str) -> dict[int, str]:
        """An entry for each sample, by its number (see `number_of`)."""
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


def images(path: Path, kind: str, patient: Patient) -> Iterator[Record | Skipped]:
    """A record for each image in a container, and what in it is none."""
    for item in _items(path, kind):
        if isinstance(item, Skipped):
            yield item
        elif item.shape is None and item.kind not in IMAGES:
            yield Skipped(path, f"{WHAT[item.kind]} in it where an image is expected")
        elif item.shape is None:
            yield Record(path, ("key", item.key), _owner(item, None, patient))
        elif (count := _count(item.shape, 2, item.stacked)) is None or item.kind not in "uif":
            yield Skipped(path, f"an array of {described(item)} where an image is expected")
        elif (reason := _excess(item, count, 2, path)) is not None:
            yield Skipped(path, reason, bad=True)
        else:
            for number, part in _parts(item.key, count):
                yield Record(path, part, _owner(item, number, patient))


def volumes(path: Path, kind: str, patient: Patient) -> Iterator[tuple[Record, FileGrid] | Skipped]:
    """A record for each volume in a container with its grid, and what in it is none."""
    from medcoss_cli.kit.readers import nifti

    for item in _items(path, kind):
        if isinstance(item, Skipped):
            yield item
        elif item.shape is None:
            if item.kind not in VOLUMES:
                yield Skipped(path, f"{WHAT[item.kind]} in it where a volume is expected")
                continue
            record = Record(path, ("key", item.key), _owner(item, None, patient))
            try:
                yield record, nifti.read_header(extracted(path, item.key))
            except DataError as error:
                yield Skipped(path, error.what, bad="where a volume is expected" not in error.what)
        elif (count := _count(item.shape, 3)) is None or item.kind not in "uif":
            yield Skipped(path, f"an array of {described(item)} where a volume is expected")
        else:
            sides = _sides(item.shape[1:] if count else item.shape, 3)
            if (reason := _excess(item, count, 3, path)) is not None:
                yield Skipped(path, reason, bad=True)
                continue
            try:
                grid = FileGrid(sides[::-1], _spacing(item, path)).check(path)  # type: ignore[arg-type]  # three of three
            except DataError as error:
                yield Skipped(path, error.what, bad=True)
                continue
            for number, part in _parts(item.key, count):
                yield Record(path, part, _owner(item, number, patient)), grid


def samples(path: Path, kind: str, patient: Patient) -> Iterator[tuple[Literal["image", "volume"], Record] | Skipped]:
    """Every sample in a container, whatever loader it is meant for. Three axes are images, with a spacing a volume."""
    for item in _items(path, kind):
        if isinstance(item, Skipped):
            yield item
        elif item.shape is None:
            record = Record(path, ("key", item.key), _owner(item, None, patient))
            if item.kind in IMAGES or item.kind in VOLUMES:
                yield ("image" if item.kind in IMAGES else "volume"), record
            else:
                yield Skipped(path, f"{WHAT[item.kind]} in it")
        else:
            as_image, as_volume = (
                _count(item.shape, dims, item.stacked and dims == 2) if item.kind in "uif" else None for dims in (2, 3)
            )
            is_volume = as_image is None or (item.spacing is not None and as_volume is not None)
            count = as_volume if is_volume else as_image
            if count is None:
                yield Skipped(path, f"an array of {described(item)}: neither images nor volumes")
                continue
            if (reason := _excess(item, count, 3 if is_volume else 2, path)) is not None:
                yield Skipped(path, reason, bad=True)
                continue
            notes = (STACK,) if not is_volume and as_volume == 0 else ()
            for number, part in _parts(item.key, count):
                record = Record(path, part, _owner(item, number, patient), notes=notes)
                yield ("volume" if is_volume else "image"), record


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
        array = _array(source, record.source, key, index)
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
        array = _array(source, path, key, index)
        array = array.reshape(_sides(array.shape, 3) if array.ndim > 3 else array.shape)
        spacing = next((_spacing(item, path) for item in source.items(path) if item.key == key), None)
    return array, FileGrid(array.shape[::-1], spacing).check(path)


def _excess(item: Item, count: int, dims: int, path: Path) -> str | None:
    """Why an array is not read, from what its container declares: more than is stored, or a sample that is too large.

    Args:
        count: samples along its first axis; 0: it is one itself.
        dims: of a sample.
    """
    shape = item.shape or ()
    if item.most is not None and item.size > item.most:
        return f"an array of {item.size:,} bytes, of which the file cannot hold more than {item.most:,}"
    if (size := item.size // max(1, count)) > MAX_HELD:
        return f"a sample of {size:,} bytes, more than the limit of {MAX_HELD:,}"
    sides = _sides(shape[1:] if count else shape, dims)
    try:
        if dims == 2:
            check_size(sides[1], sides[0], path, size // math.prod(sides) if item.size > math.prod(shape) else 1)
        else:
            FileGrid(sides[::-1]).check(path)  # type: ignore[arg-type]  # three of three
    except DataError as error:
        return error.what
    return None


def _array(source: Source, path: Path, key: str, index: int | None) -> Array:
    try:
        return source.array(path, key, index)
    except (KeyError, IndexError) as error:
        raise DataError(f"the array {key!r} is no longer in it, or is shorter", where=path) from error


def _spacing(item: Item, path: Path) -> tuple[float, float, float] | None:
    """The spacing of a volume (x, y, z) as its container says it (z, y, x). Raises DataError."""
    if item.spacing is None:
        return None
    try:
        steps = [float(step) for step in np.ravel(item.spacing).tolist()]
    except (TypeError, ValueError) as error:
        raise DataError(f"a spacing of {str(item.spacing)[:60]!r}, which is no numbers in mm", where=path) from error
    if len(steps) != 3:
        raise DataError(f"a spacing of {len(steps)} numbers where a volume has 3 axes (z, y, x)", where=path)
    return steps[2], steps[1], steps[0]


def holds_samples(path: Path) -> bool:
    """Is it a container that may say something of each sample, as labels?"""
    return (path.is_file() or is_store(path)) and kind_of(path) in SOURCES - {"npy"}


def rows(path: Path, columns: Mapping[str, str]) -> list[dict[str, str]]:
    """What a container says of each sample, as the rows of a manifest (see `meaning.rows`). Raises DataError."""
    with plainly(path):
        return meaning.rows(path, source_of(path), columns)


def number_of(record: Record) -> int | None:
    """The number of a record's sample in its container: of a stack, a column, or among the samples of a tar file."""
    part = record.part or ()
    if part[:1] != ("key",):
        return None
    key, index = _place(part)
    kind = kind_of(record.source)
    if kind in FILES:
        number: int = cast(Any, source_of(record.source, kind)).number(record.source, key)
        return number
    return index or 0


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
    try:
        with plainly(path):
            source = source_of(path, kind)
            items = list(source.items(path))
            masks = meaning.masks(path, items, kind)
            items = list(meaning.grouped(path, items, kind, source))
    except DataError as error:
        yield Skipped(path, error.what, bad=True)
        return
    if not items:
        yield Skipped(path, "nothing in it")
    for item in items:
        if item.kind == "O":
            yield Skipped(path, "its array holds Python objects, which are never loaded", bad=len(items) == 1)
        elif item.key in masks:
            yield Skipped(path, masks[item.key])
        else:
            yield item


def _owner(item: Item, number: int | None, patient: Patient) -> str | None:
    """Whose a sample is. The members of a tar file that are one sample are at least of one group."""
    group = patient(item.patient(number))
    return meaning.sample_of(item.key) if group is None and item.shape is None and "." in item.key else group


def _place(part: tuple[str | int, ...]) -> tuple[str, int | None]:
    index = int(part[3]) if part[2:3] == ("index",) else None
    return str(part[1]), index


def _parts(key: str, count: int) -> Iterator[tuple[int | None, tuple[str | int, ...]]]:
    """Numbers and parts of an array of so many samples; 0: it is one itself."""
    if not count:
        yield None, ("key", key)
    yield from ((n, ("key", key, "index", n)) for n in range(count))


def _count(shape: tuple[int, ...], dims: int, stacked: bool = False) -> int | None:
    """Samples along the first axis, 0 where the array is one sample; None where it is none."""
    if _sides(shape, dims) and not (stacked and len(shape) > dims and _sides(shape[1:], dims)):
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


def described(item: Item) -> str:
    """The shape of an array, and its type where that is none of numbers."""
    other = {"b": "true or false", "c": "complex numbers", "V": "records", "M": "dates", "m": "times"}
    words = "text" if item.kind in "SUTa" else other.get(item.kind)
    return _by(item.shape or ()) + (f" ({words})" if words else "")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "no axes"
