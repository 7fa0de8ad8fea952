"""PNG, JPEG, TIFF and BMP by Pillow, and what every 2D image goes through after decoding."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly

Array = np.ndarray[Any, Any]

MAX_PIXELS = 178_956_970
"""Of one page, from the header, before decoding: about 13,400 x 13,400 (twice the limit at which Pillow warns)."""
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


def check_size(width: int, height: int, path: Path) -> None:
    """Raise DataError for a size that is not an image's, or that would not fit into memory."""
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels are more than the limit of {MAX_PIXELS:,}", where=path)
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{width} x {height} pixels are too few for an image", where=path)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(f"{width} x {height} pixels are too narrow for an image", where=path)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with plainly(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own size warning: the limit above is the rule
        try:
            image = Image.open(path, formats=_FORMATS)
        except Image.DecompressionBombError as error:
            raise DataError(f"more pixels than the limit of {MAX_PIXELS:,}", where=path) from error
        except UnidentifiedImageError as error:
            raise DataError("the file is truncated or damaged inside its header", where=path) from error
        with image:
            yield image


def read_header(path: Path) -> ImageHeader:
    """Size, pages and kind, without decoding. Raises DataError."""
    with _opened(path) as image:
        pages = int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
        header = ImageHeader(image.width, image.height, pages, image.mode in _GREY_MODES)
    check_size(header.width, header.height, path)
    return header


def read(path: Path, page: int = 0) -> tuple[Array, tuple[str, ...]]:
    """Decode one page: (C, H, W) uint8, or uint16, int32 or float32 where the file is deeper, and notes.

    C is 1 for grey and 3 for colour; alpha is dropped, a palette expanded, CMYK converted, EXIF orientation applied.
    Raises DataError.
    """
    notes = []
    with _opened(path) as image:
        if page:
            image.seek(page)
        check_size(image.width, image.height, path)
        inverted = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(262) == 0
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright is not None and image.getexif().get(0x0112, 1) != 1:
            notes.append("rotated by its EXIF orientation")
            image = upright
        if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
            notes.append("alpha channel dropped")
        if image.mode == "CMYK":
            notes.append("CMYK converted to RGB")
        array = _decoded(image)
    if inverted:
        array = np.asarray(65535 - array, dtype=np.uint16)
    return array, tuple(notes)


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
    return np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)


def _first_if_equal(array: Array) -> Array:
    return array[:1] if (array == array[:1]).all() else array


def as_grey(array: Array, path: Path) -> Array:
    """(1, H, W) of (1, H, W), or of (3, H, W) whose channels are equal. Raises DataError for a colour image."""
    if len(array) == 1:
        return array
    # row by row, so that a large picture needs no copy of 32 bits
    spread = array.max(axis=0) - array.min(axis=0)
    if float((spread <= GREY_STEP).mean()) < GREY_SHARE:
        raise DataError("a colour image where grey is expected", where=path)
    weights = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]
    grey: Array = np.rint((array * weights).sum(axis=0, keepdims=True)).astype(array.dtype)
    return grey


def as_colour(array: Array, path: Path) -> Array:
    """(3, H, W) as it is. Raises DataError for a grey image, also one that is stored as colour."""
    if len(array) == 1 or int((array.max(axis=0) - array.min(axis=0)).max()) <= 2:
        raise DataError("a grey image where colour is expected", where=path)
    return array


def as_eight_bits(array: Array) -> Array:
    """uint8 unchanged; deeper data stretched from its 0.5th to its 99.5th percentile to float32 0..255."""
    if array.dtype == np.uint8:
        return array
    values = array.astype(np.float32)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return values
    low, high = (float(x) for x in np.percentile(finite, (0.5, 99.5)))
    if high <= low:  # nearly all one value: the whole range, so that a small bright thing is not lost
        low, high = float(finite.min()), float(finite.max())
    if high <= low:
        return np.zeros_like(values)
    return np.asarray(np.clip((values - low) * (255 / (high - low)), 0, 255), np.float32)
