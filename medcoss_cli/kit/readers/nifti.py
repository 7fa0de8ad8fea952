"""Volumes in one file: NIfTI 1 and 2 (also gzipped), and by their own modules NRRD and MetaImage."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import HEAD, kind_of, metaimage, nrrd, plainly
from medcoss_cli.kit.readers.held import STEP, Held
from medcoss_cli.kit.readers.volume import Array, FileGrid, NiftiPlace, check_bytes, is_square

SLACK = 2**20
"""Bytes a gzip stream may hold beyond what its header declares before it is refused."""
MAX_VOLUMES = 10_000
"""Of one file."""
MAX_ALL = 2**31
"""Bytes of all volumes of a file, which `data check` decodes: seven seconds of a compressed one."""
LABEL = 1002
"""NIFTI_INTENT_LABEL: the values are labels."""

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_UNITS = {1: 1000.0, 2: 1.0, 3: 0.001}
_OTHERS = {"nrrd": nrrd, "metaimage": metaimage}


@dataclass(frozen=True, slots=True)
class NiftiHeader:
    """What is needed to find and read the voxels of a NIfTI file."""

    grid: FileGrid
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float

    @property
    def volume_bytes(self) -> int:
        """Of one volume, as it is stored."""
        return math.prod(self.grid.size) * self.dtype.itemsize


def read_header(path: Path) -> FileGrid:
    """The grid of a volume file, from its header. Raises DataError."""
    kind = kind_of(path)
    if kind == "nifti":
        return _nifti_header(path).grid
    if kind in _OTHERS:
        grid: FileGrid = _OTHERS[kind].read_header(path)
        return grid
    raise DataError("the file is empty" if kind == "empty" else "not a volume", where=path)


def read(path: Path, volume: int = 0) -> tuple[Array, FileGrid]:
    """Decode one volume: (z, y, x) in physical values, and its grid. Raises DataError."""
    kind = kind_of(path)
    if kind == "nifti":
        return _nifti(path, volume)
    if kind in _OTHERS:
        volume_and_grid: tuple[Array, FileGrid] = _OTHERS[kind].read(path)
        return volume_and_grid
    raise DataError("the file is empty" if kind == "empty" else "not a volume", where=path)


def sidecars(path: Path) -> tuple[Path, ...]:
    """The files beside an NRRD or MetaImage header that hold its voxels; none where they follow the header.

    Raises: DataError where the header names voxels outside its folder: only files inside it are opened.
    """
    kind = kind_of(path)
    return _OTHERS[kind].sidecars(path) if kind in _OTHERS else ()


@contextmanager
def _stream(path: Path) -> Iterator[IO[bytes]]:
    with plainly(path):
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        opened: Any = gzip.open if zipped else open
        with opened(path, "rb") as file:
            yield file


def _nifti_header(path: Path) -> NiftiHeader:
    with _stream(path) as file:
        head = file.read(HEAD)
    if len(head) < 352:
        raise DataError("the file is truncated inside its header", where=path)
    with plainly(path):
        return _Fields(head, path).header()


class _Fields:
    """The fields of a NIfTI header, of either version and byte order."""

    def __init__(self, head: bytes, path: Path) -> None:
        self.head, self.path = head, path
        self.order = "<" if struct.unpack_from("<i", head)[0] in (348, 540) else ">"
        self.second = struct.unpack_from(self.order + "i", head)[0] == 540
        if self.second and len(head) < 544:
            raise DataError("the file is truncated inside its header", where=path)

    def of(self, first: tuple[str, int], second: tuple[str, int]) -> tuple[Any, ...]:
        """Unpack (format, offset) of the version at hand."""
        code, offset = second if self.second else first
        return struct.unpack_from(self.order + code, self.head, offset)

    def header(self) -> NiftiHeader:
        dims = self.of(("8h", 40), ("8q", 16))
        code = self.of(("h", 70), ("h", 12))[0]
        offset = int(self.of(("f", 108), ("q", 168))[0])
        slope, intercept = self.of(("2f", 112), ("2d", 176))
        size, volumes = self._size(dims)
        if code not in _TYPES:
            raise DataError(f"voxels of NIfTI type {code} (colour, complex or bits) are not read", where=self.path)
        if not 0 <= offset < 2**31:
            raise DataError("the header is damaged (position of the voxels)", where=self.path)
        if not math.isfinite(slope) or slope == 0:
            slope, intercept = 1.0, 0.0  # the standard's way to say: not scaled
        if not math.isfinite(intercept):
            raise DataError(f"the header scales the voxels by {slope:g} and adds {intercept:g}", where=self.path)
        intent = self.of(("h", 68), ("i", 504))[0]
        grid = replace(self._placed(size, volumes).check(self.path), labels=intent == LABEL)
        least = 544 if self.second else 352
        if offset < least:  # some programs leave it 0
            note = "the header does not say where its voxels begin: behind the header"
            offset, grid = least, replace(grid, notes=(*grid.notes, note))
        itemsize = np.dtype(_TYPES[code]).itemsize
        check_bytes(math.prod(size), itemsize, self.path)
        if volumes > MAX_VOLUMES:
            raise DataError(f"{volumes:,} volumes in one file, more than the limit of {MAX_VOLUMES:,}", where=self.path)
        check_bytes(math.prod(size) * volumes, itemsize, self.path, MAX_ALL)
        return NiftiHeader(grid, np.dtype(self.order + _TYPES[code]), offset, slope, intercept)

    def _size(self, dims: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
        count = dims[0]
        if not 1 <= count <= 7 or min(dims[1 : count + 1]) < 1:
            raise DataError("the header is damaged (number of axes)", where=self.path)
        if count < 3 or (1 in dims[1:4] and max((1, *dims[4 : count + 1])) == 1):
            raise DataError("an image (2D) where a volume is expected", where=self.path)
        if any(n > 1 for n in dims[5 : count + 1]):
            raise DataError(f"{count} axes where 3 are expected", where=self.path)
        return (dims[1], dims[2], dims[3]), dims[4] if count >= 4 else 1

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # of a damaged header: what comes out is checked
    def _placed(self, size: tuple[int, int, int], volumes: int) -> FileGrid:
        place, matrix = self._place(), None
        notes: tuple[str, ...] = ()
        unit, steps = _UNITS.get(place.units & 7, 1.0), np.abs(place.pixdim[1:4])
        if not {*self.of(("2h", 252), ("2i", 344))} <= set(range(6)):
            notes = ("a code of sform or qform that the standard does not have is taken as 0",)  # as nibabel does
        if min(place.pixdim[1:4]) < 0:
            notes = (
                *notes,
                "a voxel spacing below 0 is taken without its sign",
            )  # as nibabel does
        if place.sform_code > 0:
            matrix = np.array(place.sform, float).reshape(3, 4)
            if not is_square(matrix):
                matrix, notes = None, (*notes, "axes of the sform are not at right angles: its qform is used")
                if place.qform_code <= 0:
                    raise DataError("the axes of the grid are not at right angles (sheared sform)", where=self.path)
        if matrix is None and not (np.isfinite(steps) & (steps > 0)).all():
            text = " x ".join(f"{step:g}" for step in steps)
            raise DataError(f"a voxel spacing of {text} mm is impossible", where=self.path)
        if matrix is None and place.qform_code > 0:
            matrix = self._quaternion(place)
        if matrix is None:  # the sizes are known, the place is not
            spacing = tuple(float(step) * unit for step in steps)
            return FileGrid(size, spacing, volumes=volumes, notes=notes, nifti=place)  # type: ignore[arg-type]
        matrix = matrix * unit
        matrix[:2] *= -1  # RAS, as NIfTI has it, to LPS
        lengths = np.linalg.norm(matrix[:, :3], axis=0)
        if not np.abs(lengths / unit / steps - 1).max() <= 0.01:  # also where a step is 0 or NaN
            notes = (*notes, "the header's voxel sizes and its affine differ: the affine is used")
        cosines = matrix[:, :3] / lengths
        return FileGrid(
            size,
            tuple(float(x) for x in lengths),  # type: ignore[arg-type]  # three of three, which mypy cannot count
            tuple(float(x) for x in matrix[:, 3]),  # type: ignore[arg-type]
            tuple(float(x) for x in cosines.flatten()),
            volumes,
            notes,
            nifti=place,
        )

    def _place(self) -> NiftiPlace:
        qcode, scode = (code if code in range(6) else 0 for code in self.of(("2h", 252), ("2i", 344)))
        units = self.of(("B", 123), ("i", 500))[0]
        quaternion, rows = self.of(("6f", 256), ("6d", 352)), self.of(("12f", 280), ("12d", 400))
        return NiftiPlace(self.of(("8f", 76), ("8d", 104)), units, qcode, scode, quaternion, rows)

    def _quaternion(self, place: NiftiPlace) -> Array:
        b, c, d, *shift = place.quaternion
        rest = 1 - (b * b + c * c + d * d)
        if not math.isfinite(rest) or rest < -1e-3:
            raise DataError("the header is damaged (qform)", where=self.path)
        a = math.sqrt(max(rest, 0.0))
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        steps = np.abs(place.pixdim[1:4]) * np.array([1, 1, -1 if place.pixdim[0] < 0 else 1])
        return np.column_stack([turn * steps, shift])


def _nifti(path: Path, volume: int) -> tuple[Array, FileGrid]:
    header = _nifti_header(path)
    if header.grid.volumes == 1:
        with _stream(path) as file:
            _skip(file, header.offset)
            return _decoded(file, header, path, is_last=True), header.grid
    stat = path.stat()
    _check_length(path, stat.st_mtime_ns, stat.st_size)
    stack = _stack(path, stat.st_mtime_ns, stat.st_size)
    return stack.read(volume), header.grid


def each(path: Path) -> Iterator[Array]:
    """The volumes of a file, decoded as `read` does, in one go. Raises DataError."""
    header = _nifti_header(path) if kind_of(path) == "nifti" else None
    if header is None:
        yield read(path)[0]
        return
    with _stream(path) as file:
        _skip(file, header.offset)
        for volume in range(header.grid.volumes):
            yield _decoded(file, header, path, is_last=volume == header.grid.volumes - 1)


def _decoded(file: IO[bytes], header: NiftiHeader, path: Path, *, is_last: bool) -> Array:
    """The volume that begins where the file stands, in physical values. Raises DataError."""
    shape, dtype = header.grid.size[::-1], header.dtype
    count, at = math.prod(shape), 0
    scales = header.slope != 1 or header.intercept != 0
    held = Held(shape, np.dtype(np.float32) if scales else dtype, path)
    while at < count:
        data = file.read(min(count - at, STEP) * dtype.itemsize)
        stored = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
        if not len(stored):
            raise DataError("the file is truncated", where=path)
        # in double precision: large integers less a large intercept
        held.put(at, stored * np.float64(header.slope) + np.float64(header.intercept) if scales else stored)
        at += len(stored)
    if is_last and isinstance(file, gzip.GzipFile) and len(file.read(SLACK + 1)) > SLACK:
        raise DataError("the gzip stream holds more than its header declares", where=path)
    return held.array


class _Stack:
    """A file of several volumes that stays open: a gzip stream goes forward only, and volumes are asked for in order."""

    def __init__(self, path: Path) -> None:
        self._path, self._header = path, _nifti_header(path)
        self._opened: Any = None
        self._next = 0

    def read(self, volume: int) -> Array:
        """One volume. Raises DataError."""
        if self._opened is None or volume < self._next:
            self._opened = ExitStack()
            self._file = self._opened.enter_context(_stream(self._path))
            self._next = 0
            _skip(self._file, self._header.offset)
        with plainly(self._path):
            _skip(self._file, self._header.volume_bytes * (volume - self._next))
            self._next = volume + 1
            return _decoded(self._file, self._header, self._path, is_last=False)


@lru_cache(maxsize=1)
def _stack(path: Path, changed: int, size: int) -> _Stack:
    return _Stack(path)


@lru_cache(maxsize=1)
def _check_length(path: Path, changed: int, size: int) -> None:
    """Raise DataError for a file of several volumes that ends before the last, or goes on behind it."""
    header = _nifti_header(path)
    with _stream(path) as file:
        _skip(file, header.offset + header.volume_bytes * header.grid.volumes)
        if isinstance(file, gzip.GzipFile) and len(file.read(SLACK + 1)) > SLACK:
            raise DataError("the gzip stream holds more than its header declares", where=path)


def _skip(file: IO[bytes], count: int) -> None:
    """Read past `count` bytes (a gzip stream has no other way), a little at a time."""
    while count > 0:
        got = len(file.read(min(count, 2**22)))
        if not got:
            raise EOFError
        count -= got
