"""Volumes in one file: NIfTI 1 and 2 (also gzipped), read here from its bytes; NRRD and MetaImage by SimpleITK."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import HEAD, kind_of, plainly
from medcoss_cli.kit.readers.volume import Array, FileGrid

SLACK = 2**20
"""Bytes a gzip stream may hold beyond what its header declares before it is refused."""
SQUARE = 0.01
"""Cosine between two axes above which a grid is not at right angles (0.6 degrees)."""

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_UNITS = {1: 1000.0, 2: 1.0, 3: 0.001}
_SITK = {"nrrd": "NrrdImageIO", "metaimage": "MetaImageIO"}


@dataclass(frozen=True, slots=True)
class NiftiHeader:
    """What is needed to find and read the voxels of a NIfTI file."""

    grid: FileGrid
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float


def read_header(path: Path) -> FileGrid:
    """The grid of a volume file, from its header. Raises DataError."""
    kind = kind_of(path)
    if kind == "nifti":
        return _nifti_header(path).grid
    if kind in _SITK:
        return _sitk_header(path, kind)[1]
    raise DataError("the file is empty" if kind == "empty" else "not a volume", where=path)


def read(path: Path, volume: int = 0) -> tuple[Array, FileGrid]:
    """Decode one volume: (z, y, x) in physical values, and its grid. Raises DataError."""
    kind = kind_of(path)
    if kind == "nifti":
        return _nifti(path, volume)
    if kind in _SITK:
        return _sitk(path, kind)
    raise DataError("the file is empty" if kind == "empty" else "not a volume", where=path)


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
        if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
            slope, intercept = 1.0, 0.0  # the standard's way to say: not scaled
        grid = self._place(size, volumes).check(self.path)
        return NiftiHeader(grid, np.dtype(self.order + _TYPES[code]), max(offset, 352), slope, intercept)

    def _size(self, dims: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
        count = dims[0]
        if not 1 <= count <= 7 or min(dims[1 : count + 1]) < 1:
            raise DataError("the header is damaged (number of axes)", where=self.path)
        if count < 3 or (dims[3] == 1 and max((1, *dims[4 : count + 1])) == 1):
            raise DataError("an image (2D) where a volume is expected", where=self.path)
        if any(n > 1 for n in dims[5 : count + 1]):
            raise DataError(f"{count} axes where 3 are expected", where=self.path)
        return (dims[1], dims[2], dims[3]), dims[4] if count >= 4 else 1

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # of a damaged header: what comes out is checked
    def _place(self, size: tuple[int, int, int], volumes: int) -> FileGrid:
        pixdim = self.of(("8f", 76), ("8d", 104))
        unit = _UNITS.get(self.of(("b", 123), ("i", 500))[0] & 7, 1.0)
        steps = tuple(float(step) for step in pixdim[1:4])
        if not all(math.isfinite(step) and step > 0 for step in steps):
            raise DataError(
                f"a voxel spacing of {' x '.join(f'{s:g}' for s in steps)} mm is impossible", where=self.path
            )
        qcode, scode = self.of(("2h", 252), ("2i", 344))
        notes: tuple[str, ...] = ()
        matrix = None
        if scode > 0:
            matrix = np.array(self.of(("12f", 280), ("12d", 400)), float).reshape(3, 4)
            if not _square(matrix):
                matrix, notes = None, ("axes of the sform are not at right angles: its qform is used",)
                if qcode <= 0:
                    raise DataError("the axes of the grid are not at right angles (sheared sform)", where=self.path)
        if matrix is None and qcode > 0:
            matrix = self._quaternion(pixdim)
        if matrix is None:  # the sizes are known, the place is not
            return FileGrid(size, tuple(step * unit for step in steps), volumes=volumes)  # type: ignore[arg-type]
        matrix = matrix * unit
        matrix[:2] *= -1  # RAS, as NIfTI has it, to LPS
        spacing = np.linalg.norm(matrix[:, :3], axis=0)
        if np.abs(spacing / unit / steps - 1).max() > 0.01:
            notes = (*notes, "the header's voxel sizes and its affine differ: the affine is used")
        cosines = matrix[:, :3] / spacing
        return FileGrid(
            size,
            tuple(float(x) for x in spacing),  # type: ignore[arg-type]  # three of three, which mypy cannot count
            tuple(float(x) for x in matrix[:, 3]),  # type: ignore[arg-type]
            tuple(float(x) for x in cosines.flatten()),
            volumes,
            notes,
        )

    def _quaternion(self, pixdim: tuple[float, ...]) -> Array:
        b, c, d, *shift = self.of(("6f", 256), ("6d", 352))
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
        steps = np.array(pixdim[1:4]) * np.array([1, 1, -1 if pixdim[0] < 0 else 1])
        return np.column_stack([turn * steps, shift])


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # of a damaged header: what comes out is checked
def _square(matrix: Array) -> bool:
    """True where the axes of an affine (3, 4) are finite, not zero and at right angles."""
    lengths = np.linalg.norm(matrix[:, :3], axis=0)
    if not np.isfinite(matrix).all() or lengths.min() <= 0:
        return False
    cosines = matrix[:, :3] / lengths
    return bool(np.abs(cosines.T @ cosines - np.eye(3)).max() <= SQUARE)


def _nifti(path: Path, volume: int) -> tuple[Array, FileGrid]:
    header = _nifti_header(path)
    x, y, z = header.grid.size
    volume_bytes = x * y * z * header.dtype.itemsize
    with _stream(path) as file:
        _skip(file, header.offset + volume_bytes * volume)
        data = file.read(volume_bytes)
        rest = volume_bytes * (header.grid.volumes - volume - 1)
        if len(data) < volume_bytes:
            raise DataError("the file is truncated", where=path)
        _skip(file, rest)
        if isinstance(file, gzip.GzipFile) and len(file.read(SLACK + 1)) > SLACK:
            raise DataError("the gzip stream holds more than its header declares", where=path)
    array = np.frombuffer(data, header.dtype).reshape(z, y, x)
    if header.slope != 1 or header.intercept != 0:
        array = array.astype(np.float32) * np.float32(header.slope) + np.float32(header.intercept)
    return array, header.grid


def _skip(file: IO[bytes], count: int) -> None:
    """Read past `count` bytes (a gzip stream has no other way), a little at a time."""
    while count > 0:
        got = len(file.read(min(count, 2**22)))
        if not got:
            raise EOFError
        count -= got


def _quiet() -> Any:
    import SimpleITK as sitk  # noqa: N813 - its users' name for it

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def _sitk_header(path: Path, kind: str) -> tuple[Any, FileGrid]:
    for file in sidecars(path):
        if not file.is_file():
            raise DataError(f"{file.name}, which holds its voxels, is not there", where=path)
    sitk = _quiet()
    with plainly(path):
        reader = sitk.ImageFileReader()
        reader.SetImageIO(_SITK[kind])  # content decides, not the ending
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        dims, size = reader.GetDimension(), reader.GetSize()
        if dims < 3 or (dims == 3 and size[2] == 1):
            raise DataError("an image (2D) where a volume is expected", where=path)
        if dims > 3 or reader.GetNumberOfComponents() > 1:
            raise DataError(f"{dims} axes or several values a voxel where one value on 3 axes is expected", where=path)
        grid = FileGrid(size, reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
        if not _square(np.column_stack([np.array(grid.direction).reshape(3, 3), np.zeros(3)])):
            raise DataError("the axes of the grid are not at right angles", where=path)
    return reader, grid.check(path)


def sidecars(path: Path) -> tuple[Path, ...]:
    """The file beside an NRRD or MetaImage header that holds its voxels; none where they follow the header.

    Raises: DataError where the header names voxels in another place: only a file beside it is opened.
    """
    kind = kind_of(path)
    if kind not in _SITK:
        return ()
    with plainly(path), path.open("rb") as file:
        lines = file.read(2**16).split(b"\0", 1)[0].decode("latin-1").splitlines()
    key = "elementdatafile" if kind == "metaimage" else "data file"
    for line in lines:
        name, sign, value = line.partition("=" if kind == "metaimage" else ":")
        if sign and name.strip().lower() in (key, "datafile"):
            value = value.strip().lstrip("=").strip()
            if kind == "metaimage" and value.upper() == "LOCAL":
                return ()
            if Path(value).name != value or len(value.split()) != 1 or "%" in value:
                raise DataError(
                    "the header points to voxels in another folder; only files in the same folder are read", where=path
                )
            return (path.parent / value,)
        if not line.strip() and kind == "nrrd":  # an empty line ends the header of NRRD
            break
    return ()


def _sitk(path: Path, kind: str) -> tuple[Array, FileGrid]:
    reader, grid = _sitk_header(path, kind)
    sitk = _quiet()
    with plainly(path):
        array = np.asarray(sitk.GetArrayFromImage(reader.Execute()))
    if array.dtype.kind not in "iuf":
        raise DataError("the voxels are not plain numbers", where=path)
    return array, grid
