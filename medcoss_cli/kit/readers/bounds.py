"""How large DICOM data would grow, read from the compressed bytes themselves before anything unpacks them."""

from __future__ import annotations

import struct
import zlib
from typing import Any, BinaryIO

import pydicom
from pydicom import uid
from pydicom.encaps import get_frame

from medcoss_cli.errors import DataError

MAX_DEFLATED = 2**28
"""Bytes a deflated data set may grow to."""
MAX_GROWTH = 1000
"""Times its compressed bytes that a frame may grow to, beyond the size that every frame may have."""
FREE = 2**26
"""Bytes that a frame may have however few compressed bytes it is of: 4096 x 8192 values of 16 bits, all zero."""
RLE_OVERHEAD = 1.1
"""Bytes of run-length encoded data for one of the picture; the standard's worst case is 129 for 128."""

_J2K = (*uid.JPEG2000TransferSyntaxes, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
_JPEG = (*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes)
_NO_FRAME_HEADER = (0xC4, 0xC8, 0xCC)
"""Markers among those of JPEG's frame headers (SOF) that are none: tables, an extension, arithmetic conditioning."""


def check_deflated(file: BinaryIO) -> None:
    """Raise DataError for a deflated data set that unpacks to more than the limit: pydicom unpacks it whole.

    The file is read from its begin, by pydicom's own rules of where its data set starts, and left there.
    """
    pydicom.filereader.read_preamble(file, force=True)
    meta = pydicom.filereader._read_file_meta_info(file)  # what dcmread calls; the group length may be anything
    if meta.get("TransferSyntaxUID") == uid.DeflatedExplicitVRLittleEndian:
        inflate, packed, grown = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
        while not inflate.eof and (data := inflate.unconsumed_tail or file.read(2**20)):
            packed += len(data) - len(inflate.unconsumed_tail)
            grown += len(inflate.decompress(data, 2**22))
            if max(packed, grown) > MAX_DEFLATED:
                raise DataError(f"it unpacks to more than the limit of {MAX_DEFLATED:,} bytes")
    file.seek(0)


def check_frame(data: Any, number: int) -> None:
    """Raise DataError for a compressed frame that is of another size than declared, or of more than its bytes can hold."""
    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    frames = int(data.get("NumberOfFrames") or 1)
    frame = get_frame(data.PixelData, number, number_of_frames=frames)
    rows, columns, samples = int(data.Rows), int(data.Columns), int(data.get("SamplesPerPixel") or 1)
    size = rows * columns * samples * max(1, int(data.BitsAllocated) // 8)
    if syntax == uid.RLELossless:
        _check_runs(frame, rows * columns, size)
        return
    found = _of_codestream(frame) if syntax in _J2K else _of_jpeg(frame) if syntax in _JPEG else None
    if found is not None and found != (rows, columns, samples):
        inside, declared = (" x ".join(map(str, numbers)) for numbers in (found, (rows, columns, samples)))
        raise DataError(f"the compressed picture is of {inside} values where the header declares {declared}")
    if size > FREE + MAX_GROWTH * len(frame):
        raise DataError(f"{len(frame):,} bytes of a compressed picture where {size:,} bytes are declared")


def _of_jpeg(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components of a JPEG or JPEG-LS picture; None where its frame header is not found."""
    at = 2
    while at + 10 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADER):
            return struct.unpack(">HHB", frame[at + 5 : at + 10])
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _of_codestream(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components of a JPEG 2000 codestream, which may lie in a file of its own kind; None without."""
    at = frame.find(b"\xff\x4f\xff\x51", 0, 2**12)
    if at < 0 or len(frame) < at + 42:
        return None
    width, height, left, top = struct.unpack(">4I", frame[at + 8 : at + 24])
    return height - top, width - left, int.from_bytes(frame[at + 40 : at + 42], "big")


def _check_runs(frame: bytes, plane: int, size: int) -> None:
    """Of run-length encoded segments, each as many bytes as the picture has pixels."""
    if len(frame) > RLE_OVERHEAD * size + 1024:
        raise DataError(f"{len(frame):,} bytes of a run-length encoded picture of {size:,} bytes")
    segments = min(15, int.from_bytes(frame[:4], "little"))
    begins = struct.unpack(f"<{segments}I", frame[4 : 4 + 4 * segments].ljust(4 * segments, b"\0"))
    for begin, end in zip(begins, (*begins[1:], len(frame)), strict=True):
        at, grown = begin, 0
        while at < min(end, len(frame)):
            count = frame[at]
            grown += count + 1 if count < 128 else 257 - count if count > 128 else 0
            at += count + 2 if count < 128 else 2 if count > 128 else 1
            if grown > RLE_OVERHEAD * plane + 1024:
                raise DataError(f"a run-length encoded segment holds more than the {plane:,} bytes of the picture")
