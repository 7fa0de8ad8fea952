"""PNG, JPEG and BMP by Pillow, TIFF by `tiff`, and what every 2D image goes through after decoding."""

from __future__ import annotations

import functools
import io
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import kind_of, plainly, tiff

Array = np.ndarray[Any, Any]

MAX_PIXELS = 2**26
"""Of one page, from the header, before decoding: 8,192 x 8,192, twice what the largest detectors give."""
MAX_DEEP = 2**27
"""Bytes of a page of more than 8 bits, which take six times as much while they are stretched to 8: 8,192 x 8,192 of 16 bits."""
MAX_SCANS = 100
"""Of a progressive JPEG, each of which goes over the whole picture again; cameras and programs write 10."""
MIN_SIDE = 8
"""Pixels; less is an icon or a tracking pixel."""
MAX_ASPECT = 20
"""Longer to shorter side; more is a ruler or a colour bar."""
GREY_STEP = 8
"""Channels that differ by at most so many of 256 levels are grey (JPEG rounds each channel for itself)."""
GREY_SHARE = 0.99
"""A colour file of which so many pixels are grey is a grey image, perhaps with a coloured mark."""

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB")
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image says of itself before it is decoded."""

    width: int
    height: int
    pages: int
    grey: bool
    """Stored as grey levels. A colour file may still show a grey picture."""


def check_size(width: int, height: int, path: Path, depth: int = 1) -> None:
    """Raise DataError for a size that is not an image's, or that would not fit into memory.

    Args:
        depth: bytes of a value of one pixel and, where that is more than one, of all its channels.
    """
    if depth > 1 and width * height * depth > MAX_DEEP:
        raise DataError(
            f"{width} x {height} pixels of {8 * depth} bits are more than the limit of {MAX_DEEP:,} bytes",
            where=path,
            fix="cut it into tiles, or make it smaller",
        )
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{width} x {height} pixels are more than the limit of {MAX_PIXELS:,}",
            where=path,
            fix="cut it into tiles, or make it smaller",
        )
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{width} x {height} pixels are too few for an image", where=path)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(f"{width} x {height} pixels are too narrow for an image", where=path)


@contextmanager
def opened(path: Path, page: tiff.Page | None = None) -> Iterator[Image.Image]:
    """A picture (of a TIFF, a page) as Pillow opens it, what it raises as DataError with a plain reason."""
    with plainly(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own size warning: the limit above is the rule
        # of a file it was given by name Pillow maps pixels, and turns what it mapped wrongly
        with path.open("rb") if page is None else tiff.FromPage(path, page) as file:
            try:
                image = Image.open(file, formats=_FORMATS)
            except Image.DecompressionBombError as error:
                raise DataError(f"more pixels than the limit of {MAX_PIXELS:,}", where=path) from error
            except UnidentifiedImageError as error:
                raise DataError(_jpeg_kind(path) or tiff.DAMAGED, where=path) from error
            with image:
                yield image


def _jpeg_kind(path: Path) -> str | None:
    """The reason for a JPEG that Pillow does not know."""
    with path.open("rb") as file:
        data = file.read(2**16)
    frame = re.search(rb"\xff([\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xf7])..(.)", data, re.DOTALL)
    if not data.startswith(b"\xff\xd8") or frame is None:
        return None
    if frame[1] == b"\xf7":
        return "a JPEG-LS, which is not read outside DICOM"
    return f"a JPEG of {frame[2][0]} bits, which is not read outside DICOM" if frame[2] != b"\x08" else None


def read_header(path: Path) -> ImageHeader:
    """Size, pages and kind, without decoding. Raises DataError."""
    if kind_of(path) == "tiff":
        pages = tiff.pages(path)
        for page in pages:
            check_size(*page.size, path, page.depth)
            tiff.check(page, path)
        if not pages[0].deep:
            _check_known(pages[0], path)
        return ImageHeader(*pages[0].size, len(pages), pages[0].grey)
    with opened(path) as image:
        header = ImageHeader(image.width, image.height, 1, image.mode in _GREY_MODES)
        check_size(header.width, header.height, path, _depth(image, path))
    _check_scans(path)
    return header


def _check_scans(path: Path) -> None:
    if kind_of(path) == "jpeg" and (scans := path.read_bytes().count(b"\xff\xda")) > MAX_SCANS:
        raise DataError(
            f"a JPEG of {scans:,} scans, more than the limit of {MAX_SCANS}", where=path, fix="store it again as PNG"
        )


def _check_known(page: tiff.Page, path: Path) -> None:
    try:
        with opened(path, page):
            pass
    except DataError as error:
        raise DataError(tiff.unknown(page) if error.what == tiff.DAMAGED else error.what, where=path) from error


def read(path: Path, page: int = 0) -> tuple[Array, tuple[str, ...]]:
    """Decode one page: (C, H, W) uint8, or uint16, int32, float32 or float64 where the file is deeper, and notes.

    C is 1 for grey and 3 for colour; alpha is dropped, a palette expanded, CMYK converted, EXIF orientation applied.
    Raises DataError.
    """
    notes: list[str] = []
    chosen = None
    if kind_of(path) == "tiff":
        pages = tiff.pages(path)
        if page >= len(pages):
            raise DataError(f"the file has {len(pages)} pages, and no page {page + 1}", where=path)
        check_size(*pages[page].size, path, pages[page].depth)
        tiff.check(pages[page], path)
        if pages[page].deep or pages[page].plane:
            return tiff.decode(pages[page], path)
        chosen = pages[page]
        if pages[page].orientation in range(2, 9):  # Pillow turns it while it loads
            notes.append("rotated by its EXIF orientation")
    with opened(path, chosen) as image:
        check_size(image.width, image.height, path, _depth(image, path))
        _check_scans(path)
        image.load()
        if image.format == "PNG" and _is_deep_png(path):
            array, alpha = _deep_png(path)
            notes += ["alpha channel dropped"] if alpha else []
            return array, tuple(notes)
        if image.getexif().get(0x0112, 1) != 1:
            notes.append("rotated by its EXIF orientation")
            image = ImageOps.exif_transpose(image)
        if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
            notes.append("alpha channel dropped")
        if image.mode == "CMYK":
            notes.append("CMYK converted to RGB")
        array = _decoded(image)
    return array, tuple(notes)


def _depth(image: Image.Image, path: Path) -> int:
    """As `check_size` has it, of a picture that Pillow opened."""
    if image.format == "PNG" and _is_deep_png(path):
        return 2 * len(image.getbands())
    return {"I": 4, "F": 4}.get(image.mode, 2 if image.mode.startswith("I;16") else 1)


def _is_deep_png(path: Path) -> bool:
    """16 bits of colour or with alpha, of which Pillow keeps 8."""
    with path.open("rb") as file:
        head = file.read(26)
    return head[24:25] == b"\x10" and head[25:26] in (b"\x02", b"\x04", b"\x06")


def _deep_png(path: Path) -> tuple[Array, bool]:
    """(C, H, W) uint16 without alpha, and whether there was one."""
    data = path.read_bytes()
    if data[25:26] == b"\x04":  # two bytes of grey and two of alpha are filtered as the four of a pixel of RGBA
        head = b"IHDR" + data[16:24] + b"\x08\x06" + data[26:29]
        eight = data[:12] + head + zlib.crc32(head).to_bytes(4, "big") + data[33:]
        with Image.open(io.BytesIO(eight), formats=("PNG",)) as image:
            return np.asarray(image).copy().view(">u2")[None, ..., 0].astype(np.uint16), True
    import SimpleITK as sitk  # noqa: N813 - its users' name for it

    reader = sitk.ImageFileReader()
    reader.SetImageIO("PNGImageIO")  # content decides, not the ending
    reader.SetFileName(str(path))
    array = sitk.GetArrayFromImage(reader.Execute())
    return np.ascontiguousarray(np.moveaxis(array[..., :3], -1, 0)), array.shape[-1] > 3


def _decoded(image: Image.Image) -> Array:
    mode = image.mode
    if mode in ("1", "L"):
        return np.asarray(image.convert("L"))[None]
    if mode in ("LA", "La"):
        return np.asarray(image.convert("LA"))[None, ..., 0]
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[None]
    if mode in ("I", "F"):
        array = np.asarray(image)[None]
        fits = mode == "I" and array.min() >= 0 and array.max() <= 65535
        return np.asarray(array, np.uint16) if fits else array
    if mode in ("P", "PA"):
        palette = np.asarray(image.convert("RGB"))
        return _first_if_equal(np.moveaxis(palette, -1, 0))
    if mode == "RGBA":  # convert("RGB") drops alpha, it does not blend
        return np.moveaxis(np.asarray(image)[..., :3], -1, 0)
    return np.moveaxis(np.asarray(image if mode == "RGB" else image.convert("RGB")), -1, 0)


def _first_if_equal(array: Array) -> Array:
    return array[:1] if (array == array[:1]).all() else array


def as_grey(array: Array, path: Path) -> Array:
    """(1, H, W) of (1, H, W), or of (3, H, W) whose channels are equal. Raises DataError for a colour image."""
    if len(array) == 1:
        return array
    # row by row, so that a large picture needs no copy of 32 bits
    spread = _spread(array)
    if float((spread <= GREY_STEP * _level(array)).mean()) < GREY_SHARE:
        raise DataError("a colour image where grey is expected", where=path)
    red, green, blue = np.array([0.299, 0.587, 0.114], np.float32)
    grey = np.empty((1, *array.shape[1:]), array.dtype)
    with np.errstate(invalid="ignore"):  # of infinities, which are NaN in grey, and noted where a sample is checked
        for number in range(array.shape[1]):
            row: Array = array[0, number] * red + array[1, number] * green + array[2, number] * blue
            grey[0, number] = np.rint(row) if array.dtype.kind in "iu" else row
    return grey


def _spread(array: Array) -> Array:
    """How far the channels of each pixel lie apart: 0 where one of them is NaN or infinite, which says nothing of colour."""
    with np.errstate(invalid="ignore"):
        # channel by channel: a reduction along so short an axis takes twenty times as long
        high, low = (functools.reduce(which, array) for which in (np.maximum, np.minimum))
        spread: Array = high - low
    return spread if array.dtype.kind != "f" else np.where(np.isfinite(array).all(axis=0), spread, 0)


def _level(array: Array) -> float:
    """What a step of one of 256 levels is: 1 of 8 bits, of deeper values a share of their range."""
    if array.dtype == np.uint8:
        return 1.0
    finite = array[np.isfinite(array)]
    return float(np.ptp(finite)) / 255 if finite.size else 0.0


def as_colour(array: Array, path: Path) -> Array:
    """(3, H, W) as it is. Raises DataError for a grey image, also one that is stored as colour."""
    if len(array) == 1 or float(_spread(array).max()) <= 2 * _level(array):
        raise DataError("a grey image where colour is expected", where=path)
    return array


def as_eight_bits(array: Array) -> Array:
    """uint8 unchanged; deeper data stretched from its 0.5th to its 99.5th percentile to float32 0..255.

    What is infinite becomes NaN, so that neither passes for white or black: who reads a sample replaces and notes them.
    """
    if array.dtype == np.uint8:
        return array
    # large integers that differ by little are told apart in double precision
    kind = np.dtype(np.float64 if array.dtype.itemsize > 2 else np.float32)
    values: Array = array.astype(kind)
    finite = values
    if array.dtype.kind == "f" and not (is_finite := np.isfinite(values)).all():
        finite = values[is_finite]
        values[~is_finite] = np.nan
    if not finite.size:
        return values
    low, high = (float(x) for x in np.percentile(finite, (0.5, 99.5)))
    if high <= low:  # nearly all one value: the whole range, so that a small bright thing is not lost
        low, high = float(finite.min()), float(finite.max())
    if high <= low:
        return np.asarray(np.where(np.isfinite(values), 0, np.nan), np.float32)
    values -= low  # in place: a large picture is not in memory four times
    values *= 255 / (high - low)
    return np.clip(values, 0, 255, out=values).astype(np.float32, copy=False)
