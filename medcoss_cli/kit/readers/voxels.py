"""What NRRD and MetaImage share: a header of text that names its voxels, in the same file or in others of its folder."""

from __future__ import annotations

import binascii
import bz2
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly
from medcoss_cli.kit.readers.held import Held
from medcoss_cli.kit.readers.volume import Array, check_bytes

LONGEST = 2**20
"""Bytes of a header; one that does not end before is refused, for what follows could name any file."""
SLACK = 2**20
"""Bytes a compressed stream may hold beyond what its header declares before it is refused."""
MAX_TEXT = 2**24
"""Voxels that are written as numbers in text: six seconds."""
MAX_DIGITS = 400
"""Of one of them: the longest that a double has, 1e-308 written out."""
PIECE = 2**22
"""Bytes that are decoded at a time."""
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
    count, itemsize = math.prod(voxels.shape), voxels.dtype.itemsize
    if voxels.encoding == "text" and count > MAX_TEXT:
        raise DataError(
            f"{count:,} voxels as text are more than the limit of {MAX_TEXT:,}",
            where=path,
            fix="store it raw or with gzip, as int16 or float32",
        )
    check_bytes(count + max(0, voxels.skip) // itemsize, itemsize, path)
    held = sum(file.stat().st_size for file in voxels.files)
    needed = count * itemsize + max(0, voxels.skip)
    most = {"raw": 1, "hex": 1, "text": 1, "deflate": RATE, "bzip2": 10**6}[voxels.encoding]
    if voxels.encoding == "text":
        needed = count  # at least a digit for each
    if held * most < needed:
        raise DataError("the file is truncated", where=path)


def decode(voxels: Voxels, path: Path) -> Array:
    """The voxels in their shape, of the types of `Held`. Raises: DataError."""
    with plainly(path):
        held, at = Held(voxels.shape, voxels.dtype, path), 0
        for piece in _pieces(voxels, path):
            held.put(at, piece)
            at += len(piece)
        if at < math.prod(voxels.shape):
            raise DataError("the file is truncated", where=path)
        return held.array


def _pieces(voxels: Voxels, path: Path) -> Iterator[Array]:
    """The voxels one after another, a few at a time, in their own type."""
    left, itemsize = math.prod(voxels.shape), voxels.dtype.itemsize
    if voxels.encoding == "text":
        kind = np.dtype(np.float64) if voxels.dtype.kind == "f" else voxels.dtype
        for words in _words(voxels, path):
            array = np.array(words[:left], dtype=kind).astype(voxels.dtype)
            left -= len(array)
            yield array
            if not left:
                return
        return
    needed, rest = left * itemsize, b""
    share = -(-needed // len(voxels.files))  # of several files each holds as many
    for number, file in enumerate(voxels.files):
        for data in _bytes(voxels, file, min(share, needed - share * number)):
            data = rest + data if rest else data
            whole = len(data) - len(data) % itemsize
            rest = data[whole:]
            yield np.frombuffer(data, voxels.dtype, whole // itemsize)


def _words(voxels: Voxels, path: Path) -> Iterator[list[bytes]]:
    """The numbers in the text of all files."""
    for file in voxels.files:
        rest = b""
        with file.open("rb") as opened:
            _to_begin(voxels, opened)
            opened.seek(max(0, voxels.skip), os.SEEK_CUR)
            while data := opened.read(PIECE):
                data = rest + data
                words = data.split()
                rest = words.pop() if words and not data[-1:].isspace() else b""
                if len(rest) > MAX_DIGITS:
                    raise DataError(f"a number of more than {MAX_DIGITS} digits in its text", where=path)
                yield words
        yield [rest] if rest else []


def _to_begin(voxels: Voxels, file: IO[bytes]) -> None:
    """Go to where the voxels begin, or the stream that holds them."""
    file.seek(voxels.start)
    for _ in range(voxels.lines):
        while (line := file.readline(PIECE)) and not line.endswith(b"\n"):
            pass


def _bytes(voxels: Voxels, path: Path, needed: int) -> Iterator[bytes]:
    """At most `needed` decoded bytes of one file, a few at a time."""
    with path.open("rb") as file:
        _to_begin(voxels, file)
        if voxels.encoding == "raw":
            if voxels.skip < 0:
                file.seek(-needed, os.SEEK_END)
            else:
                file.seek(voxels.skip, os.SEEK_CUR)
            stream = iter(lambda: file.read(PIECE), b"")
        elif voxels.skip < 0:
            raise DataError("bytes are skipped back from the end of a compressed stream", where=path)
        elif voxels.encoding == "hex":
            stream = _unhexed(file)
        else:
            stream = _inflated(file, voxels.encoding, voxels.skip + needed, path)
        skip = 0 if voxels.encoding == "raw" else voxels.skip
        for data in stream:
            skipped = min(skip, len(data))
            skip -= skipped
            data = data[skipped : skipped + needed]
            needed -= len(data)
            yield data
            if not needed and voxels.encoding in ("raw", "hex"):
                return


def _unhexed(file: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while data := file.read(PIECE):
        digits = rest + data.translate(None, b" \t\n\r\f\v")
        even = len(digits) - len(digits) % 2
        yield binascii.unhexlify(digits[:even])
        rest = digits[even:]


def _inflated(file: IO[bytes], encoding: str, needed: int, path: Path) -> Iterator[bytes]:
    """A compressed stream, of one member after another. Raises: DataError where it goes on after the bytes that are needed."""
    grown, data = 0, b""
    stream: Any = None
    while grown <= needed + SLACK:
        if stream is None or stream.eof:
            data = (stream.unused_data if stream is not None else b"") or file.read(2**20)
            if not data.strip(b"\0") or (stream is not None and data[:2] not in (b"\x1f\x8b", b"BZ")):
                return  # nothing more, or padding and other things behind the voxels
            stream = bz2.BZ2Decompressor() if encoding == "bzip2" else zlib.decompressobj(wbits=47)
        out = stream.decompress(data, PIECE)
        grown += len(out)
        yield out
        data = b"" if encoding == "bzip2" else stream.unconsumed_tail
        if not data and not stream.eof and (encoding != "bzip2" or stream.needs_input):
            data = file.read(2**20)
            if not data:
                return  # cut off
    raise DataError("the compressed stream holds more than its header declares", where=path)
