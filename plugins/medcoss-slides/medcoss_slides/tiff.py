"""Slides in TIFF files of all kinds: tiffslide knows the vendors' layouts, tiles are read one by one.

tiffslide and not openslide: it is Python, so that a damaged file raises an exception where a C library may end the process
that trains. Its `read_region` is not used, for it decodes whatever size a tile claims to be.
"""

from __future__ import annotations

import logging
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly
from medcoss_slides.slide import Array, Slide, plausible

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its warnings become reasons here

MAX_DIRECTORIES = 4096
"""Image directories (levels, label, macro) of one file."""
UNTILED, TILE = "a TIFF that is not stored in tiles", "convert it: vips tiffsave IN OUT --tile --pyramid"
_JPEG, _JPEG2000 = (6, 7), (33003, 33004, 33005, 34712)
_YCBCR_2000 = 33003
"""Aperio's JPEG 2000 whose colours are YCbCr, which the decoder leaves as they are."""
_CODECS = (1, 5, *_JPEG, 8, 32946, *_JPEG2000)  # none, LZW, deflate, JPEG: decoders whose output is limited


class TiffSlide(Slide):
    """SVS, NDPI, SCN, Philips and generic tiled TIFF. Raises DataError for what is none of them, or damaged."""

    def __init__(self, path: Path) -> None:
        check_directories(path)
        with plainly(path):
            self._slide = _open(path)
        try:
            with plainly(path):
                self._mpp, pages = _describe(self._slide, path)
            self._pages = pages
            super().__init__(
                path,
                [(page.imagewidth, page.imagelength) for page in pages],
                [(page.tilewidth, page.tilelength) for page in pages],
            )
            for page, level in zip(pages, self.levels, strict=True):
                columns, rows = -(-level.width // level.tile[0]), -(-level.height // level.tile[1])
                ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
                if len(ends) < columns * rows or max(ends) > path.stat().st_size:
                    raise DataError("the file is truncated: tiles lie beyond its end", where=path)
        except BaseException:
            self._slide.ts_tifffile.close()
            raise

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Microns per pixel of level 0 along x and y; None where the file does not say."""
        return self._mpp

    def read_tile(self, level: int, column: int, row: int) -> Array | None:
        """One tile (h, w, 3) uint8; None where nothing is stored. Raises DataError."""
        page, stored = self._pages[level], self.levels[level]
        index = row * -(-stored.width // stored.tile[0]) + column
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if count == 0 or offset == 0:
            return None
        raw = stored.tile[0] * stored.tile[1] * page.samplesperpixel
        if count > 2 * raw + 2**16:
            raise DataError("a tile is larger than its pixels", where=self.path)
        with plainly(self.path):
            handle = page.parent.filehandle
            handle.seek(offset)
            data = handle.read(count)
            if len(data) < count:
                raise DataError("the file is truncated", where=self.path)
            tables: dict[str, Any] = {}
            if page.compression in _JPEG:
                tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
            size = _coded_size(page.jpegheader or data, page.compression)
            if size is not None and size[0] * size[1] > 4 * stored.tile[0] * stored.tile[1]:
                raise DataError("a tile claims to be larger than its place", where=self.path)
            pixels = page.decode(data, index, **tables)[0]
        if pixels is None:
            return None
        array = np.asarray(pixels).reshape(-1, *pixels.shape[-2:])[..., :3]
        if array.dtype != np.uint8 or array.shape[-1] != 3:
            raise DataError("a tile is not of 8 bits and three colours", where=self.path)
        return _rgb(array) if page.compression == _YCBCR_2000 else array


def _open(path: Path) -> Any:
    try:
        import tiffslide
    except ImportError as error:
        raise DataError(
            f"slides need tiffslide, which cannot be imported ({error})", where=path, fix="pip install medcoss-slides"
        ) from error
    return tiffslide.TiffSlide(path)


def _describe(slide: Any, path: Path) -> tuple[tuple[float, float] | None, list[Any]]:
    """Microns per pixel, and a page for each level, fine to coarse; label, macro and thumbnail are never among them."""
    file = slide.ts_tifffile
    if file.is_bif:
        raise DataError(
            "a Ventana slide, whose tiles overlap, is not read", where=path, fix="convert it to a tiled TIFF"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            facts = slide.properties
        except NotImplementedError as error:  # of tiffslide, for what it has no reader for
            if not file.pages.first.is_tiled:
                raise DataError(UNTILED, where=path, fix=TILE) from error
            raise DataError("several focal planes, channels or time points are not read", where=path) from error
    composition = facts.get("tiffslide.series-composition")
    if composition is not None and len(composition.located_series) > 1:
        raise DataError("a slide of several scanned areas is not read", where=path, fix="convert each to a tiled TIFF")
    slide_itself = file.series[facts["tiffslide.series-index"]]
    if any(_area(series) > _area(slide_itself) for series in file.series):
        raise DataError("its first image is not its largest: it may be the slide's label, and is not read", where=path)
    pages = []
    for level in slide_itself.levels:
        page = level.keyframe
        if len(level.pages) > 1:
            raise DataError("several focal planes, channels or time points are not read", where=path)
        if page.is_tiled or page.jpegheader is not None:
            pages.append(page)
        elif not pages:
            raise DataError(UNTILED, where=path, fix=TILE)
    pages.sort(key=lambda page: -page.imagewidth)
    for page in pages:
        if page.samplesperpixel < 3 or page.photometric not in (2, 6):
            raise DataError("a grey slide where colour is expected", where=path)
        if page.photometric == 6 and page.compression not in (
            *_JPEG,
            _YCBCR_2000,
            33005,
        ):  # 33005: RGB whatever it says
            raise DataError("colours as YCbCr without JPEG are not read", where=path)
        if page.bitspersample != 8 or page.planarconfig != 1:
            raise DataError("its pixels are not of 8 bits for each colour, interleaved", where=path)
        if page.compression not in _CODECS:
            raise DataError(
                f"tiles compressed by {getattr(page.compression, 'name', page.compression)} are not read", where=path
            )
    return plausible(_mpp(facts) or _ome_mpp(file.ome_metadata)), pages


def _area(series: Any) -> int:
    return int(series.keyframe.imagewidth) * int(series.keyframe.imagelength)


def _rgb(tile: Array) -> Array:
    """YCbCr of the full range (JFIF) to RGB."""
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(tile), "YCbCr").convert("RGB"))


def _mpp(facts: Any) -> tuple[float, float] | None:
    try:
        return float(facts["tiffslide.mpp-x"]), float(facts["tiffslide.mpp-y"])
    except (TypeError, ValueError, KeyError):
        return None


def _ome_mpp(xml: str | None) -> tuple[float, float] | None:
    """PhysicalSizeX and Y of an OME-TIFF's first image, where they are in microns (their default unit)."""
    import re

    head = (xml or "")[: 2**20]
    sizes = [re.search(rf'PhysicalSize{axis}="([0-9.eE+-]+)"', head) for axis in "XY"]
    units = set(re.findall(r'PhysicalSize[XY]Unit="([^"]+)"', head))
    if None in sizes or not units <= {"µm", "&#181;m", "&#xB5;m", "um"}:
        return None
    try:
        x, y = (float(found[1]) for found in sizes if found is not None)
    except ValueError:
        return None
    return x, y


def check_directories(path: Path) -> None:
    """Walk the chain of image directories, before a library does. Raises DataError for a loop, or one without end."""
    size = path.stat().st_size
    with plainly(path), path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        if not big and size >= 2**32:  # NDPI beyond 4 GB: offsets of 8 bytes in a classic file, which tifffile knows
            return
        number, entry, link = ("Q", 20, "Q") if big else ("H", 12, "I")
        offset = struct.unpack(order + link, head[8:16] if big else head[4:8])[0]
        visited: set[int] = set()
        while offset:
            if offset in visited:
                raise DataError("its image directories form a loop", where=path)
            if len(visited) >= MAX_DIRECTORIES:
                raise DataError(f"it has more than {MAX_DIRECTORIES} image directories", where=path)
            if offset + 8 > size:
                raise DataError("the file is truncated: an image directory lies beyond its end", where=path)
            visited.add(offset)
            file.seek(offset)
            width = struct.calcsize(number)
            count = struct.unpack(order + number, file.read(width))[0]
            if count > 2**14:
                raise DataError("an image directory of it is damaged", where=path)
            file.seek(offset + width + count * entry)
            rest = file.read(struct.calcsize(link))
            if len(rest) < struct.calcsize(link):
                raise DataError("the file is truncated inside an image directory", where=path)
            offset = struct.unpack(order + link, rest)[0]


def _coded_size(data: bytes, compression: int) -> tuple[int, int] | None:
    """Width and height that a JPEG or JPEG 2000 stream says of itself; None for others, or where none is found."""
    if compression in _JPEG2000:
        at = data.find(b"\xff\x4f\xff\x51")  # start of the codestream, and its SIZ
        return struct.unpack(">II", data[at + 8 : at + 16]) if at >= 0 and len(data) >= at + 16 else None
    if compression not in _JPEG:
        return None
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 1 if marker == 0xFF else 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None
