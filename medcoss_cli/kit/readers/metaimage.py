"""MetaImage (.mha, .mhd), read here from its bytes as ITK does: one value a voxel, on three axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly
from medcoss_cli.kit.readers.volume import Array, FileGrid, is_square
from medcoss_cli.kit.readers.voxels import REVERSED, Voxels, beside, check_there, decode, header_of, rest_of

_TYPES = {
    "MET_CHAR": "i1",
    "MET_ASCII_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_LAST = "ElementDataFile"


def read_header(path: Path) -> FileGrid:
    """The grid of a MetaImage, from its header. Raises DataError."""
    voxels, grid = _parsed(path)
    check_there(voxels, path)
    return grid


def read(path: Path) -> tuple[Array, FileGrid]:
    """The voxels (z, y, x) as stored, and their grid. Raises DataError."""
    voxels, grid = _parsed(path)
    check_there(voxels, path)
    return decode(voxels, path), grid


def sidecars(path: Path) -> tuple[Path, ...]:
    """The files beside a header that hold its voxels. Raises DataError where they are outside its folder."""
    fields, end = _fields(path)
    return _named(path, fields, end)


def _split(line: str) -> tuple[str, str]:
    """Name and value of a line; MetaIO takes a colon for the equals sign."""
    at = min((line.find(sign) for sign in "=:" if sign in line), default=len(line))
    return line[:at].strip(), line[at + 1 :].strip()


def _fields(path: Path) -> tuple[dict[str, str], int]:
    lines, end = header_of(path, lambda line: _split(line)[0] == _LAST)
    fields = dict(map(_split, lines))
    if _LAST not in fields:
        raise DataError("the file is truncated inside its header", where=path)
    return fields, end


def _named(path: Path, fields: dict[str, str], end: int) -> tuple[Path, ...]:
    """The files that hold the voxels, () where they follow the header."""
    name = fields[_LAST]
    if name.upper() == "LOCAL":
        return ()
    if name.split()[:1] == ["LIST"]:
        return beside(path, rest_of(path, end))
    return beside(path, [name])


def _parsed(path: Path) -> tuple[Voxels, FileGrid]:
    fields, end = _fields(path)
    with plainly(path):
        grid = _grid(fields, path)
        kind = fields.get("ElementType", "")
        if kind not in _TYPES:
            raise DataError(f"voxels of MetaImage type {kind[:20]!r} are not read", where=path)
        first = next((fields[name] for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB") if name in fields), "")
        encoding = "deflate" if _true(fields.get("CompressedData", "")) else "raw"
        if not _true(fields.get("BinaryData", "True")):
            encoding = "text"
        skip = int(fields.get("HeaderSize", 0))
        named = _named(path, fields, end)
        if skip < -1 or (not named and 0 < skip < end):
            raise DataError("the header is damaged (position of the voxels)", where=path)
    # counted from the beginning of the file that holds them, also where it is the header's own, and before it is inflated
    files, start = named or (path,), skip if skip > 0 else 0 if named else end
    skip = min(skip, 0)
    dtype = np.dtype((">" if _true(first) else "<") + _TYPES[kind])
    return Voxels(files, dtype, grid.size[::-1], encoding, skip, 0, start), grid


def _true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def _grid(fields: dict[str, str], path: Path) -> FileGrid:
    def numbers(*names: str) -> list[float]:
        found = next((fields[name] for name in names if name in fields), "")
        return [float(number) for number in found.split()]

    sizes = [int(size) for size in numbers("DimSize")]
    count = int(fields.get("NDims", 0))
    if count != len(sizes) or not sizes or min(sizes) < 1:
        raise DataError("the header is damaged (number of axes)", where=path)
    if any(size > 1 for size in sizes[3:]) or int(fields.get("ElementNumberOfChannels", 1)) > 1:
        raise DataError(f"{count} axes or several values a voxel where one value on 3 axes is expected", where=path)
    if count < 3 or 1 in sizes[:3]:
        raise DataError("an image (2D) where a volume is expected", where=path)
    spacing = numbers("ElementSpacing", "ElementSize") or [1.0] * count
    origin = numbers("Offset", "Position", "Origin") or [0.0] * count
    turn = numbers("TransformMatrix", "Rotation", "Orientation") or np.eye(count).flatten().tolist()
    if (len(spacing), len(origin), len(turn)) != (count, count, count * count):
        raise DataError("the header is damaged (place of the volume)", where=path)
    cosines = np.array(turn).reshape(count, count)[:3, :3].T  # a line of the file is an axis of the grid
    if not is_square(np.column_stack([cosines, np.zeros(3)])):
        raise DataError("the axes of the grid are not at right angles", where=path)
    notes = (REVERSED,) if min(spacing[:3]) < 0 else ()
    cosines = cosines / np.linalg.norm(cosines, axis=0) * np.where(np.array(spacing[:3]) < 0, -1, 1)
    return FileGrid(
        (sizes[0], sizes[1], sizes[2]),
        tuple(map(abs, spacing[:3])),  # type: ignore[arg-type]  # three of three, which mypy cannot count
        tuple(origin[:3]),  # type: ignore[arg-type]
        tuple(cosines.flatten().tolist()),
        notes=notes,
    ).check(path)
