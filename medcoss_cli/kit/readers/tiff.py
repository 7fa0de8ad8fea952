"""TIFF: which pages are pictures, and the decoding of pages deeper than the 8 bits that Pillow keeps of colour and alpha.

Pillow reads the tags, and decodes pages of at most 8 bits a channel.
"""

from __future__ import annotations

import io
import lzma
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from PIL import Image, TiffImagePlugin

from medcoss_cli.errors import DataError, shortage
from medcoss_cli.kit.readers import plainly

Array = np.ndarray[Any, Any]

DAMAGED = "the file is truncated or damaged inside its header"
"""The reason of a file that is not what its first bytes say."""
MOST = 4_000
"""Pages of one file; more are refused: each takes two milliseconds to find and decode, however small it is."""
MOST_BYTES = 2**31
"""Of all pages of a file, decoded."""
SLIDE = "a slide (a pyramid of pictures) where an image is expected: pip install medcoss-slides reads it"
"""The reason of a file whose pages are one picture in several sizes, and often a label with a patient's name."""

_COMPRESSIONS = {
    1: "none", 2: "CCITT", 3: "CCITT fax 3", 4: "CCITT fax 4", 5: "LZW", 6: "JPEG (old)", 7: "JPEG", 8: "deflate",
    32773: "PackBits", 32946: "deflate", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000",
    34892: "lossy JPEG", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_OURS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
"""Compressions of deep pages that are read."""
_PHOTOMETRIC = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
"""Channels of the kinds of picture that are read: grey (0: white is 0), RGB, palette, CMYK, YCbCr."""
_KINDS = {4: "a mask", 8: "CIELab", 9: "ICC Lab", 10: "ITU Lab", 32803: "a camera's raw", 34892: "a camera's raw"}


@dataclass(frozen=True, slots=True)
class Page:
    """One picture of a file, as its tags describe it."""

    number: int
    """Among all pages of the file, as Pillow counts."""
    order: Literal["<", ">"]
    """Of bytes, as numpy writes it."""
    tags: dict[int, Any]
    offset: int = 0
    """Where its tags begin in the file."""
    plane: int = 0
    """Of a stack whose further pictures have no tags of their own (ImageJ)."""

    def all(self, tag: int, default: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """The values of a tag."""
        value = self.tags.get(tag, default)
        return value if isinstance(value, tuple) else (value,)

    def one(self, tag: int, default: Any) -> Any:
        """The first value of a tag."""
        return (self.all(tag) or (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Stored width and height."""
        return int(self.one(256, 0)), int(self.one(257, 0))

    @property
    def bits(self) -> int:
        """Of a sample, the largest of the channels."""
        return int(max(self.all(258, (1,))))

    @property
    def channels(self) -> int:
        """Stored ones, with alpha."""
        return int(self.one(277, 1))

    @property
    def orientation(self) -> int:
        """As in EXIF; 1 is upright."""
        return int(self.one(274, 1))

    @property
    def depth(self) -> int:
        """Bytes of a pixel with all its channels; 1 of pages of at most 8 bits."""
        return -(-self.bits // 8) * self.channels if self.bits > 8 else 1

    @property
    def deep(self) -> bool:
        """Decoded here: more than 8 bits, numbers that Pillow takes for others, and alpha as a plane of its own."""
        return self.bits > 8 or self.one(339, 1) in (2, 3) or (self.channels == 2 and self.one(284, 1) == 2)

    @property
    def grey(self) -> bool:
        """Stored as grey levels."""
        return self.one(262, 1) in (0, 1)


def pages(path: Path) -> tuple[Page, ...]:
    """The pictures of a file at full resolution, thumbnails and masks left out. Raises DataError, also for a slide."""
    with plainly(path):
        stat = path.stat()
    return _pages(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1)  # each page is read by itself, and all of them would be looked for again
def _pages(path: Path, changed: int, size: int) -> tuple[Page, ...]:
    with plainly(path), path.open("rb") as file:
        found = list(_directories(file, path))
        full = [page for page in found if not (page.one(254, 0) & 5 or page.one(255, 1) == 2)]
        if _is_slide(found):
            raise DataError(SLIDE, where=path)
        stacked = tuple(_stacked(full or found[:1], path))
        if (size := sum(math.prod(page.size) * -(-page.bits // 8) * page.channels for page in stacked)) > MOST_BYTES:
            raise DataError(
                f"{len(stacked):,} pages of {size:,} bytes in all are more than the limit of {MOST_BYTES:,}",
                where=path,
                fix="split it into several files",
            )
        return stacked


class FromPage(io.FileIO):
    """A file whose header names one page as its first: Pillow walks to a page past all those before it."""

    def __init__(self, path: Path, page: Page) -> None:
        super().__init__(path, "rb")
        head, letters = super().read(16), ">" if page.order == ">" else "<"
        is_big = b"+" in head[2:4]
        offset = struct.pack(letters + ("Q" if is_big else "I"), page.offset)
        self._head = head[:8] + offset if is_big else head[:4] + offset
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        """The bytes of the file, those of its header replaced."""
        at = self.tell()
        data = super().read(-1 if size is None else size) or b""
        return self._head[at : at + len(data)] + data[max(0, len(self._head) - at) :]


def _directories(file: IO[bytes], path: Path) -> Iterator[Page]:
    head = file.read(16)
    order: Literal["<", ">"] = "<" if head[:2] == b"II" else ">"
    ifd: Any = TiffImagePlugin.ImageFileDirectory_v2(head if b"+" in head[2:4] else head[:8])
    at, visited, number = ifd.next, set(), 0
    while at:
        if at in visited or number >= MOST:
            raise DataError(f"a TIFF of more than {MOST:,} pages, or whose pages name one another", where=path)
        visited.add(at)
        file.seek(at)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                ifd.load(file)
                tags = dict(ifd)
        except (OSError, SyntaxError, ValueError, TypeError, struct.error) as error:
            raise shortage(error, path) or DataError(DAMAGED, where=path) from error
        # Pillow passes over tags that are cut off; without them a page would be read as another kind
        if not {256, 257} <= set(tags) or any("larger than file" in str(warning.message) for warning in caught):
            raise DataError(DAMAGED, where=path)
        yield Page(number, order, tags, at)
        at, number = ifd.next, number + 1
    if not number:
        raise DataError(DAMAGED, where=path)


def _is_slide(found: list[Page]) -> bool:
    """What a scanner of slides writes, levels below a tiled page, or tiled pages that get smaller."""
    first = found[0]
    described, software, packet = (str(first.one(tag, "")) for tag in (270, 305, 700))
    named = described.startswith("Aperio") or "leica-microsystems.com/scn" in described
    if named or software.startswith("Philips DP") or "iScan" in packet or 65420 in first.tags:  # the last: Hamamatsu
        return True
    if any(330 in page.tags and 322 in page.tags for page in found):
        return True
    width, height = first.size
    return 322 in first.tags and any(
        322 in page.tags
        and page.size[0] * 1.9 < width
        and abs(page.size[0] * height - page.size[1] * width) <= 2 * max(width, height)
        for page in found[1:]
    )


def _stacked(found: list[Page], path: Path) -> list[Page]:
    """The pages of a stack of ImageJ, which describes only the first of those beyond 4 GB. Raises DataError."""
    first = found[0]
    described = re.match(r"ImageJ=.*?\bimages=(\d+)", str(first.one(270, "")), re.DOTALL)
    count = int(described[1]) if described is not None else 1
    if len(found) > 1 or count <= 1:
        return found
    width, height = first.size
    needed = first.one(273, 0) + count * (-(-width * first.bits * first.channels // 8) * height)
    if first.one(259, 1) != 1 or needed > path.stat().st_size or count > MOST:
        raise DataError(f"an ImageJ stack of {count} images, of which the file holds one", where=path)
    return [replace(first, plane=plane) for plane in range(count)]


def check(page: Page, path: Path) -> None:
    """Raise DataError for a page of a kind that is not read."""
    kind, compression, channels = page.one(262, 1), page.one(259, 1), page.channels
    if kind not in _PHOTOMETRIC:
        raise DataError(f"a TIFF of kind {kind} ({_KINDS.get(kind, 'unknown')}), which is not read", where=path)
    expected = _PHOTOMETRIC[kind]
    extra = page.all(338)
    alpha = channels == expected + 1 and (expected > 1 or extra[:1] in ((1,), (2,)))
    if channels != expected and not alpha:
        raise DataError(f"{channels} channels where {expected} are expected", where=path)
    if not page.deep:
        return
    bits, form = page.bits, int(page.one(339, 1))
    floats, whole = form == 3 and bits in (16, 32, 64), form in (1, 2) and bits in (8, 16, 32, 64)
    packed = form == 1 and 8 < bits < 16
    signed = form == 2 and (alpha or kind == 5)  # neither has a meaning below 0
    if len(set(page.all(258))) > 1 or not (floats or whole or packed) or signed or kind in (3, 6):
        raise DataError(f"a TIFF of {channels} x {bits} bits of kind {kind}, which is not read", where=path)
    if compression not in _OURS or (page.plane and compression != 1) or (packed and page.one(317, 1) != 1):
        name = _COMPRESSIONS.get(compression, f"kind {compression}")
        raise DataError(f"a TIFF of {bits} bits compressed as {name}, which is not read", where=path)


def unknown(page: Page) -> str:
    """The reason for a page that Pillow does not know."""
    name = _COMPRESSIONS.get(page.one(259, 1), f"kind {page.one(259, 1)}")
    return f"a TIFF of {page.channels} x {page.bits} bits compressed as {name}, which is not read"


def decode(page: Page, path: Path) -> tuple[Array, tuple[str, ...]]:
    """A deep page: (C, H, W) in the types of `_plain`, white high, upright; and notes. Raises DataError."""
    notes: list[str] = []
    with plainly(path), path.open("rb") as file:
        array = _samples(page, file, path)  # (H, W, C)
    kind, channels = page.one(262, 1), _PHOTOMETRIC[page.one(262, 1)]
    if array.shape[-1] > channels:
        notes.append("alpha channel dropped")
        if page.all(338)[:1] == (1,):  # the colours are stored times alpha
            alpha = array[..., channels:].astype(np.float64) / _highest(page)
            array = np.where(alpha > 0, array[..., :channels] / np.where(alpha > 0, alpha, 1), 0)
            array = np.clip(array, 0, _highest(page)).astype(_type(page) if page.one(339, 1) == 3 else np.uint16)
        array = array[..., :channels]
    array = _plain(array)
    if kind == 0:
        array = _highest(page) - array if array.dtype.kind in "uf" else ~array
    elif kind == 5:
        notes.append("CMYK converted to RGB")
        share = array.astype(np.float64) / _highest(page)
        rgb = (1 - share[..., :3]) * (1 - share[..., 3:]) * _highest(page)
        array = np.rint(rgb).astype(array.dtype) if array.dtype.kind == "u" else rgb
    if page.orientation in _TURNS:
        notes.append("rotated by its EXIF orientation")
        axes, flips = _TURNS[page.orientation]
        array = array[tuple(slice(None, None, step) for step in flips)].transpose(*axes, 2)
    return np.ascontiguousarray(np.moveaxis(array, -1, 0)), tuple(notes)


_TURNS = {
    2: ((0, 1), (1, -1)), 3: ((0, 1), (-1, -1)), 4: ((0, 1), (-1, 1)), 5: ((1, 0), (1, 1)),
    6: ((1, 0), (-1, 1)), 7: ((1, 0), (-1, -1)), 8: ((1, 0), (1, -1)),
}  # fmt: skip
"""Of an orientation: the steps through rows and columns, then the order of the axes."""


def _highest(page: Page) -> Any:
    """White of unsigned integers; floats are taken to be from 0 to 1."""
    return 1.0 if page.one(339, 1) == 3 else _type(page).type(2**page.bits - 1)


def _plain(array: Array) -> Array:
    """The type that a reader of images gives: float64 where a float32 would not hold the values."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind in "ui" and array.dtype.itemsize < 4:
        return array.astype(np.uint16 if array.dtype.kind == "u" else np.int32)
    if array.dtype.kind == "i" and array.dtype.itemsize == 4:
        return array.astype(np.int32)
    return array.astype(np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64)


def _type(page: Page) -> np.dtype[Any]:
    size = 2 if 8 < page.bits < 16 else page.bits // 8
    return np.dtype(f"{'u' if page.one(339, 1) == 1 else 'i' if page.one(339, 1) == 2 else 'f'}{size}")


def _samples(page: Page, file: IO[bytes], path: Path) -> Array:
    """(H, W, C) in the native order of bytes, strip by strip or tile by tile."""
    (width, height), separate = page.size, page.one(284, 1) == 2
    tiled, planes = 322 in page.tags, page.channels if separate else 1
    across, down = (page.one(322, 0), page.one(323, 0)) if tiled else (width, min(page.one(278, height), height))
    if not 0 < across <= 2**20 or not 0 < down <= 2**20:
        raise DataError("the header is damaged (size of its strips)", where=path)
    columns, rows = -(-width // across), -(-height // down)
    offsets, counts = (page.all(tag) for tag in ((324, 325) if tiled else (273, 279)))
    samples = page.channels // planes
    row_bytes = -(-across * samples * page.bits // 8)
    if not counts and len(offsets) == 1:
        counts = (row_bytes * down,)
    if len(offsets) < columns * rows * planes or len(counts) < columns * rows * planes:
        raise DataError("the file is truncated", where=path)
    array = np.zeros((height, width, page.channels), _type(page))
    skip = page.plane * height * row_bytes
    for plane in range(planes):
        for row in range(rows):
            for column in range(columns):
                number = (plane * rows + row) * columns + column
                if not offsets[number] and not counts[number]:
                    continue  # a sparse file has no bytes of what is 0
                inside = down if tiled else min(down, height - row * down)
                file.seek(offsets[number] + skip)
                data = file.read(inside * row_bytes if page.one(259, 1) == 1 else counts[number])
                data = _expanded(data, page.one(259, 1), (row_bytes, inside), page.one(266, 1))
                if len(data) < inside * row_bytes:
                    raise DataError("the file is truncated", where=path)
                block = _numbers(page, data, (inside, across, samples))
                there = array[row * down : row * down + inside, column * across : (column + 1) * across]
                there[..., plane : plane + samples] = block[: there.shape[0], : there.shape[1]]
    return array


def _expanded(data: bytes, compression: int, size: tuple[int, int], fill_order: int) -> bytes:
    """The bytes of one strip or tile, rows of size[0] bytes."""
    needed = math.prod(size)
    if fill_order == 2:
        data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()
    if compression == 1:
        return data
    if compression in (8, 32946):
        return zlib.decompressobj().decompress(data, needed)
    if compression == 34925:
        return lzma.LZMADecompressor().decompress(data, needed)
    return _by_libtiff(data, compression, size)


def _by_libtiff(data: bytes, compression: int, size: tuple[int, int]) -> bytes:
    """LZW, PackBits and Zstandard by libtiff, which Pillow brings: as if the bytes were a picture of grey levels."""
    ifd: Any = TiffImagePlugin.ImageFileDirectory_v2()
    tags = {256: size[0], 257: size[1], 258: 8, 259: compression, 262: 1, 277: 1, 278: size[1], 279: len(data)}
    for tag, value in {**tags, 273: 0}.items():  # Pillow adds where the tags end
        ifd[tag] = value
    out = io.BytesIO()
    ifd.save(out)
    out.write(data)
    out.seek(0)
    with Image.open(out, formats=("TIFF",)) as image:
        return image.tobytes()


def _numbers(page: Page, data: bytes, shape: tuple[int, int, int]) -> Array:
    """The samples (rows, columns, channels) of one strip or tile."""
    rows, columns, samples = shape
    if 8 < page.bits < 16:  # packed, each row begins at a byte
        bits = np.unpackbits(np.frombuffer(data, np.uint8, rows * (len(data) // rows)).reshape(rows, -1), axis=1)
        bits = bits[:, : columns * samples * page.bits].reshape(rows, columns, samples, page.bits)
        return np.asarray(bits @ (1 << np.arange(page.bits)[::-1]), np.uint16)
    kind, predictor = _type(page), page.one(317, 1)
    if predictor == 3:  # bytes of one significance together, the first of each row first, then differences of bytes
        split = np.frombuffer(data, np.uint8, rows * columns * samples * kind.itemsize).reshape(rows, -1, samples)
        split = np.cumsum(split, axis=1, dtype=np.uint8).reshape(rows, kind.itemsize, columns * samples)
        joined = np.ascontiguousarray(split.transpose(0, 2, 1))
        return joined.view(kind.newbyteorder(">")).astype(kind).reshape(shape)
    array = np.frombuffer(data, kind.newbyteorder(page.order), rows * columns * samples).reshape(shape).astype(kind)
    if predictor == 2:
        whole = array.view(f"u{kind.itemsize}")
        return np.cumsum(whole, axis=1, dtype=whole.dtype).view(kind)
    return array
