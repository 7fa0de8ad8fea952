"""NRRD, read here from its bytes (teem.sourceforge.net/nrrd/format.html): one value a voxel, on three axes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly
from medcoss_cli.kit.readers.volume import Array, FileGrid, is_square
from medcoss_cli.kit.readers.voxels import REVERSED, Voxels, beside, check_there, decode, header_of, rest_of

_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPE = {name.strip(): code for code, names in _TYPES.items() for name in names.split(",")}
_ENCODINGS = {
    "raw": "raw",
    "gzip": "deflate",
    "gz": "deflate",
    "bzip2": "bzip2",
    "bz2": "bzip2",
    "txt": "text",
    "text": "text",
    "ascii": "text",
    "hex": "hex",
}
_SPACES = {  # to LPS: the signs of the three coordinates
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}


def read_header(path: Path) -> FileGrid:
    """The grid of an NRRD file, from its header. Raises DataError."""
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
    fields, _, end = _fields(path)
    return _named(path, fields, end)


def _fields(path: Path) -> tuple[dict[str, str], bool, int]:
    """Fields by lower-case name, whether it is a segmentation of 3D Slicer, and where the header ends."""
    lines, end = header_of(path, lambda line: not line or _list(line))
    fields: dict[str, str] = {}
    segments = False
    for line in lines[1:]:
        if line.startswith("#"):
            continue
        key, found, value = line.partition(":")
        if found and value.startswith("="):
            segments = segments or re.fullmatch(r"Segment\d+_ID", key) is not None
        elif found:
            fields.setdefault(key.strip().lower().replace("datafile", "data file"), value.strip())
    return fields, segments, end


def _list(line: str) -> bool:
    """A list of files takes the rest of the file: no empty line ends such a header."""
    return re.match(r"data ?file:\s*LIST(\s|$)", line, re.IGNORECASE) is not None


def _named(path: Path, fields: dict[str, str], end: int) -> tuple[Path, ...]:
    """The files that hold the voxels, () where they follow the header."""
    name = fields.get("data file")
    if name is None:
        return ()
    return beside(path, rest_of(path, end) if name.split()[:1] == ["LIST"] else [name])


def _parsed(path: Path) -> tuple[Voxels, FileGrid]:
    fields, segments, end = _fields(path)
    with plainly(path):
        sizes = tuple(int(size) for size in fields.get("sizes", "").split())
        kind, encoding = fields.get("type", "").lower(), fields.get("encoding", "").lower()
        if not sizes or len(sizes) != int(fields.get("dimension", 0)) or min(sizes) < 1:
            raise DataError("the header is damaged (number of axes)", where=path)
        if kind not in _DTYPE:
            raise DataError(f"voxels of NRRD type {kind[:20]!r} are not read", where=path)
        if encoding not in _ENCODINGS:
            raise DataError(f"voxels of NRRD encoding {encoding[:20]!r} are not read", where=path)
        try:
            grid = _grid(fields, sizes, path)
        except DataError as error:
            if segments:  # of several layers
                raise DataError("a label map (a mask) where a volume is expected", where=path) from error
            raise
        order = ">" if fields.get("endian", "little").lower() == "big" else "<"
        dtype = np.dtype(order + _DTYPE[kind])
        named = _named(path, fields, end)
        skip, lines = int(fields.get("byte skip", 0)), int(fields.get("line skip", 0))
        if skip < -1 or not 0 <= lines < 2**20:
            raise DataError("the header is damaged (position of the voxels)", where=path)
    shape = grid.size[::-1]
    files, start = (named, 0) if named else ((path,), end)
    return Voxels(files, dtype, shape, _ENCODINGS[encoding], skip, lines, start), replace(grid, labels=segments)


def _grid(fields: dict[str, str], sizes: tuple[int, ...], path: Path) -> FileGrid:
    """The three axes of space; others of length 1 are passed over, for they hold one value."""
    vectors = _vectors(fields.get("space directions", ""), len(sizes))
    axes = [axis for axis in range(len(sizes)) if vectors is None or vectors[axis] is not None]
    others = [sizes[axis] for axis in range(len(sizes)) if axis not in axes]
    if len(axes) > 3:
        axes, others = axes[:3], [*others, *(sizes[axis] for axis in axes[3:])]
    if any(size > 1 for size in others):
        raise DataError(
            f"{len(sizes)} axes or several values a voxel where one value on 3 axes is expected", where=path
        )
    size = tuple(sizes[axis] for axis in axes)
    if len(size) < 3 or 1 in size:
        raise DataError("an image (2D) where a volume is expected", where=path)
    if vectors is None:
        steps = [float(step) for step in fields.get("spacings", "").split()]
        spacing = tuple(steps[axis] for axis in axes) if len(steps) == len(sizes) else (0.0,)
        if not all(np.isfinite(spacing)) or 0 in spacing:
            return FileGrid(size).check(path)  # type: ignore[arg-type]  # three of three
        notes = (REVERSED,) if min(spacing) < 0 else ()  # as ITK; where the axes point is not known either way
        return FileGrid(size, tuple(map(abs, spacing)), notes=notes).check(path)  # type: ignore[arg-type]  # three of three
    signs = np.array(_SPACES.get(fields.get("space", "").lower(), (1, 1, 1)))
    matrix = np.array([vectors[axis] for axis in axes]).T * signs[:, None]
    if not is_square(np.column_stack([matrix, np.zeros(3)])):
        raise DataError("the axes of the grid are not at right angles", where=path)
    lengths = np.linalg.norm(matrix, axis=0)
    origin = _vectors(fields.get("space origin", ""), 1)
    place = np.zeros(3) if origin is None or origin[0] is None else np.array(origin[0]) * signs
    return FileGrid(
        size,  # type: ignore[arg-type]  # three of three, which mypy cannot count
        tuple(lengths.tolist()),
        tuple(place.tolist()),
        tuple((matrix / lengths).flatten().tolist()),
    ).check(path)


def _vectors(text: str, count: int) -> list[tuple[float, float, float] | None] | None:
    """The vectors of a field, None for "none"; None for all where it is not given, or is not of three dimensions."""
    found: list[tuple[float, float, float] | None] = []
    for word in re.findall(r"none|\([^)]*\)", text):
        numbers = tuple(float(x) for x in word.strip("()").split(",")) if word != "none" else None
        if numbers is not None and len(numbers) != 3:
            return None
        found.append(numbers)
    return found if len(found) == count and any(vector is not None for vector in found) else None
