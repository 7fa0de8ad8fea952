"""What NRRD and MetaImage share: a header of text that names its voxels, in the same file or in others of its folder."""

from __future__ import annotations

import bz2
import math
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly
from medcoss_cli.kit.readers.volume import Array, check_bytes

LONGEST = 2**20
"""Bytes of a header; one that does not end before is refused, for what follows could name any file."""
SLACK = 2**20
"""Bytes a compressed stream may hold beyond what its header declares before it is refused."""
MAX_TEXT = 2**27
"""Bytes of voxels that are written as numbers in text: each takes 50 bytes while it is read."""
MAX_HEX = 2**29
RATE = 1100
"""Times that a deflated stream can grow at most (1032, and its framing)."""

REVERSED = "a voxel spacing below 0: the axis is taken as reversed"
"""What ITK does with it in silence."""


@dataclass(frozen=True, slots=True)
class Voxels:
    """Where the voxels of a volume are, and how they are written."""

    files: tuple[Path, ...]
    """Their bytes follow one another."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    encoding: str
    """raw, deflate (gzip or zlib), bzip2, text or hex."""
    skip: int = 0
    """Bytes before them; -1: they are the end of the file. Of a compressed file, of what comes out of it."""
    lines: int = 0
    """Lines before them, never compressed."""
    start: int = 0
    """Where they begin in the file of the header."""


def header_of(path: Path, ends: Callable[[str], bool]) -> tuple[list[str], int]:
    """The lines of a header up to and with the one that ends it, and how many bytes they are.

    Raises: DataError where it does not end within LONGEST bytes.
    """
    lines: list[str] = []
    with plainly(path), path.open("rb") as file:
        while file.tell() < LONGEST:
            line = file.readline(LONGEST)
            lines.append(line.decode("latin-1").rstrip("\r\n"))
            if not line or ends(lines[-1]):
                return lines, file.tell()
    raise DataError(f"the header is longer than {LONGEST:,} bytes", where=path)


def rest_of(path: Path, start: int) -> list[str]:
    """The lines after a header, for one that ends with a list of files. Raises: DataError where they are too many."""
    with plainly(path), path.open("rb") as file:
        file.seek(start)
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise DataError(f"the header is longer than {LONGEST:,} bytes", where=path)
    return [line.strip() for line in data.decode("latin-1").splitlines() if line.strip()]


def beside(header: Path, names: Iterable[str]) -> tuple[Path, ...]:
    """The files of these names inside the folder of a header.

    Raises: DataError for a name that leaves the folder or could (absolute, with a drive letter, with ".." anywhere in it,
    through a link), and for a pattern, which stands for many.
    """
    paths = []
    # of a header that is a link itself, both folders
    homes = [Path(os.path.realpath(header.parent)), Path(os.path.realpath(header)).parent]
    for name in names:
        path = name.replace("\\", "/")
        parts = [part.strip() for part in path.split("/")]
        if not name or "\0" in name or not parts[0] or ".." in parts or ":" in parts[0]:
            raise DataError(
                "the header points to voxels in another folder; only files in the same folder are read", where=header
            )
        real = Path(os.path.realpath(header.parent / path))
        if not any(real.is_relative_to(home) for home in homes):
            raise DataError(
                "the header points to voxels through a link to another folder; only files in the same folder are read",
                where=header,
                fix="put the file itself beside the header",
            )
        if "%" in name and not (header.parent / path).is_file():
            raise DataError(
                "the header points to voxels in numbered files (a pattern), which is not read", where=header
            )
        paths.append(header.parent / path)
    return tuple(paths)


def check_there(voxels: Voxels, path: Path) -> None:
    """Raise DataError where a file of voxels is missing, or too small for what the header declares."""
    for file in voxels.files:
        if not file.is_file():
            raise DataError(f"{file.name}, which holds its voxels, is not there", where=path)
    limits = {"text": (MAX_TEXT, " as text"), "hex": (MAX_HEX, " as hexadecimal digits")}
    check_bytes(math.prod(voxels.shape), voxels.dtype.itemsize, path, *limits.get(voxels.encoding, ()))
    held = sum(file.stat().st_size for file in voxels.files)
    needed = math.prod(voxels.shape) * voxels.dtype.itemsize
    most = {"raw": 1, "hex": 1, "text": 1, "deflate": RATE, "bzip2": 10**6}[voxels.encoding]
    if voxels.encoding == "text":
        needed = math.prod(voxels.shape)  # at least a digit for each
    if held * most < needed:
        raise DataError("the file is truncated", where=path)


def decode(voxels: Voxels, path: Path) -> Array:
    """The voxels, in their own type and shape. Raises: DataError."""
    count = math.prod(voxels.shape)
    with plainly(path):
        if voxels.encoding == "text":
            text = b" ".join(_bytes(voxels, file, 2**62) for file in voxels.files)
            array = np.array(text.split()[:count], dtype=np.float64 if voxels.dtype.kind == "f" else voxels.dtype)
            data = array.astype(voxels.dtype).tobytes()
        else:
            data, needed = b"", count * voxels.dtype.itemsize
            share = -(-needed // len(voxels.files))  # of several files each holds as many
            parts = [_bytes(voxels, file, min(share, needed - share * n)) for n, file in enumerate(voxels.files)]
            data = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(data) < count * voxels.dtype.itemsize:
            raise DataError("the file is truncated", where=path)
        return np.frombuffer(data, voxels.dtype, count).reshape(voxels.shape)


def _bytes(voxels: Voxels, path: Path, needed: int) -> bytes:
    """At most `needed` decoded bytes of one file."""
    with path.open("rb") as file:
        file.seek(voxels.start)
        for _ in range(voxels.lines):
            file.readline()
        if voxels.encoding in ("raw", "text"):
            if voxels.skip < 0:
                file.seek(-needed, os.SEEK_END)
            else:
                file.seek(voxels.skip, os.SEEK_CUR)
            return file.read() if voxels.encoding == "text" else file.read(needed)
        if voxels.skip < 0:
            raise DataError("bytes are skipped back from the end of a compressed stream", where=path)
        if voxels.encoding == "hex":
            return bytes.fromhex(file.read().decode("ascii"))[voxels.skip : voxels.skip + needed]
        return _inflated(file, voxels.encoding, voxels.skip + needed, path)[voxels.skip :]


def _inflated(file: IO[bytes], encoding: str, needed: int, path: Path) -> bytes:
    """The first `needed` bytes of a compressed stream, of one member after another. Raises: DataError where it goes on."""
    out, data = bytearray(), b""
    stream: Any = None
    while len(out) <= needed + SLACK:
        if stream is None or stream.eof:
            data = (stream.unused_data if stream is not None else b"") or file.read(2**20)
            if not data.strip(b"\0") or (stream is not None and data[:2] not in (b"\x1f\x8b", b"BZ")):
                break  # nothing more, or padding and other things behind the voxels
            stream = bz2.BZ2Decompressor() if encoding == "bzip2" else zlib.decompressobj(wbits=47)
        room = needed + SLACK + 1 - len(out)
        out += stream.decompress(data, room)
        data = b"" if encoding == "bzip2" else stream.unconsumed_tail
        if not data and not stream.eof and (encoding != "bzip2" or stream.needs_input):
            data = file.read(2**20)
            if not data:
                break  # cut off
    if len(out) > needed + SLACK:
        raise DataError("the compressed stream holds more than its header declares", where=path)
    return bytes(out[:needed])
