"""Readers of single files. Here: what a file is. Its first bytes decide, never its name."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medcoss_cli.errors import DataError, ResourceError, shortage

HEAD = 1024
"""Bytes looked at."""

WHAT = {
    "empty": "an empty file",
    "dicom": "a DICOM file",
    "nifti": "a volume (3D, NIfTI)",
    "nifti-pair": "half of a NIfTI or Analyze pair (.hdr and .img); convert it to one .nii file",
    "nrrd": "a volume (3D, NRRD)",
    "metaimage": "a volume (3D, MetaImage)",
    "png": "an image (2D, PNG)",
    "jpeg": "an image (2D, JPEG)",
    "tiff": "an image (2D, TIFF)",
    "bmp": "an image (2D, BMP)",
    "gif": "a GIF",
    "npy": "a NumPy array",
    "npz": "NumPy arrays (npz)",
    "hdf5": "an HDF5 file",
    "zarr": "a Zarr store",
    "parquet": "a Parquet file",
    "tar": "a tar file",
    "pdf": "a PDF",
    "zip": "a zip archive (give it by name, or unpack it)",
    "gzip": "a gzip file that is not NIfTI",
    "html": "a web page",
    "text": "text",
    "unknown": "a file of an unknown type",
}
"""What a kind is called in a reason."""

IMAGES = frozenset({"png", "jpeg", "tiff", "bmp"})
VOLUMES = frozenset({"nifti", "nrrd", "metaimage"})
SOURCES = frozenset({"npy", "npz", "hdf5", "zarr", "parquet", "tar"})
"""Containers of many samples; see `kit.sources`."""

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"BM", "bmp"),
    (b"GIF8", "gif"),
    (b"NRRD0", "nrrd"),
    (b"\x93NUMPY", "npy"),
    (b"%PDF", "pdf"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"PAR1", "parquet"),
    (b"PK\x03\x04", "zip"),
)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v\x1b"))
_VALUE_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)


def kind_of(path: Path) -> str:
    """A key of WHAT. Raises DataError for a file that cannot be opened."""
    if is_store(path):
        return "zarr"
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise shortage(error, path) or DataError(
            f"the file cannot be opened ({error.strerror or type(error).__name__})", where=path
        ) from error
    return kind_of_bytes(head)


def is_store(path: Path) -> bool:
    """True for a folder that is a Zarr store: its files are chunks, and none of them a sample."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def kind_of_bytes(head: bytes) -> str:
    """A key of WHAT for the first HEAD bytes of a file."""
    if not head:
        return "empty"
    if head[128:132] == b"DICM":
        return "dicom"
    for magic, kind in _MAGIC:
        if head.startswith(magic) and (kind != "bmp" or _bitmap(head)):
            return "npz" if kind == "zip" and _first_member(head).endswith(b".npy") else kind
    if head[257:262] == b"ustar":
        return "tar"
    if head.startswith(b"\x1f\x8b"):
        inner = _unzipped(head)
        return _nifti(inner) or "gzip"
    nifti = _nifti(head)
    if nifti is not None:
        return nifti
    if _bare_dicom(head):
        return "dicom"
    if b"ObjectType" in head[:256] and b"=" in head[:256]:
        return "metaimage"
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "html"
    return "text" if looks_like_text(head) else "unknown"


def looks_like_text(data: bytes) -> bool:
    """True where at most one byte in 200 (of UTF-8 in 20) is a control character other than white space; UTF-16 by its mark."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    controls = len(data) - len(data.translate(None, _CONTROLS))
    if controls * 20 > len(data):
        return False
    if controls * 200 <= len(data) and b"\0" not in data:
        return True
    try:  # a stray NUL in a report; compressed data is not UTF-8
        data[:-3].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _bitmap(head: bytes) -> bool:
    """Two letters alone are also how a text may begin: a bitmap has a second header of a known size, which text has not."""
    return len(head) > 26 and struct.unpack_from("<I", head, 14)[0] in (12, 16, 40, 52, 56, 64, 108, 124)


def _first_member(head: bytes) -> bytes:
    """The name of the first file in a zip archive."""
    return head[30 : 30 + int.from_bytes(head[26:28], "little")]


def _unzipped(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD)
    except zlib.error:
        return b""


def _nifti(head: bytes) -> str | None:
    for order in "<>":
        if len(head) >= 4 and struct.unpack_from(order + "i", head)[0] in (348, 540):
            if head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0":
                return "nifti"
            if head[344:347] == b"ni1" or head[4:7] == b"ni2" or _analyze(head, order):
                return "nifti-pair"
            if len(head) < 348:  # cut off inside its header: still NIfTI, and broken
                return "nifti"
    return None


def _analyze(head: bytes, order: str) -> bool:
    """The header of Analyze 7.5, which has no magic of its own: "regular", or sane axes in a file of that size."""
    if len(head) < 348:
        return False
    axes = struct.unpack_from(order + "8h", head, 40)
    return head[38:39] == b"r" or (len(head) == 348 and 1 <= axes[0] <= 7 and min(axes[1 : axes[0] + 1]) > 0)


def _bare_dicom(head: bytes) -> bool:
    """A DICOM data set without the 128-byte preamble: group 2 or 8 first, then a sane element."""
    if len(head) < 16:
        return False
    for order in "<>":
        group, element = struct.unpack_from(order + "HH", head)
        if group in (2, 8) and element <= 0x0100:
            implicit = struct.unpack_from(order + "I", head, 4)[0]
            if head[4:6] in _VALUE_REPRESENTATIONS or (implicit % 2 == 0 and implicit <= 1024):
                return True
    return False


@contextmanager
def plainly(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises inside the block into a DataError with a plain reason."""
    try:
        yield
    except DataError as error:
        error.where = error.where or str(path)
        raise
    except MemoryError as error:
        raise DataError("the file does not fit into memory", where=path) from error
    except ResourceError:
        raise
    except Exception as error:  # decoders raise anything on broken files
        raise shortage(error, path) or DataError(_reason(error, path), where=path) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of a decoder written in Rust, which is no Exception
            raise DataError("the file cannot be decoded (damaged pixel data)", where=path) from error
        raise


def _reason(error: Exception, path: Path) -> str:
    lines = [line.strip() for line in str(error).replace(str(path), "the file").splitlines() if line.strip()]
    text = (lines[-1] if lines else type(error).__name__).rstrip(".")
    low = text.lower()
    if isinstance(error, EOFError) or "truncated" in low or "unexpected end" in low or "end-of-stream" in low:
        return "the file is truncated"
    if isinstance(error, PermissionError):
        return "the file cannot be opened (permission denied)"
    return f"the file cannot be decoded ({text[:160]})"
