"""A slide that is open: its levels, its scale, and regions of it, put together from the tiles that the file is made of."""

from __future__ import annotations

import functools
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import DataError

Array = np.ndarray[Any, Any]

MAX_SIDE = 2**21
"""Pixels of a level along one axis; half a metre at 0.25 microns per pixel."""
MAX_TILE = 2**22
"""Pixels of one tile of the file, which is decoded whole."""
MAX_REGION = 2**25
"""Pixels of a region, which lies in memory whole (100 MB)."""
PLAUSIBLE = (0.02, 50.0)
"""Microns per pixel of a microscope; other values are a default of the writing program, such as 72 dots per inch."""


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a slide."""

    width: int
    height: int
    tile: tuple[int, int]
    """Width and height of the tiles it is stored in."""
    down: tuple[float, float]
    """Pixels of level 0 along x and y that one of its pixels stands for."""


class Slide(ABC):
    """Levels from fine to coarse, and tiles of them; a format says how a tile is read."""

    def __init__(self, path: Path, sizes: list[tuple[int, int]], tiles: list[tuple[int, int]]) -> None:
        self.path = path
        width, height = sizes[0]
        self.levels = [
            Level(w, h, tile, (_down(width, w), _down(height, h))) for (w, h), tile in zip(sizes, tiles, strict=True)
        ]
        for level in self.levels:
            if not (0 < level.width <= MAX_SIDE and 0 < level.height <= MAX_SIDE):
                raise DataError(f"{level.width} x {level.height} pixels are more than a slide has", where=path)
            if not 0 < level.tile[0] * level.tile[1] <= MAX_TILE:
                size = f"{level.tile[0]} x {level.tile[1]}"
                raise DataError(f"it is stored in pieces of {size} pixels, too large to be read alone", where=path)

    @property
    @abstractmethod
    def mpp(self) -> tuple[float, float] | None:
        """Microns per pixel of level 0 along x and y; None where the file does not say."""

    @abstractmethod
    def read_tile(self, level: int, column: int, row: int) -> Array | None:
        """One tile as it is stored, (h, w, 3) uint8 or less at a border; None where nothing is stored. Raises DataError."""

    def region(self, level: int, x: int, y: int, width: int, height: int) -> Array:
        """(height, width, 3) uint8 of a level, in its own pixels; white where the file has nothing. Raises DataError."""
        if width * height > MAX_REGION:
            raise DataError(f"a region of {width} x {height} pixels is too large to be read", where=self.path)
        stored = self.levels[level]
        tw, th = stored.tile
        out: Array = np.full((height, width, 3), 255, np.uint8)
        right, bottom = min(x + width, stored.width), min(y + height, stored.height)
        for row in range(max(0, y) // th, -(-bottom // th)):
            for column in range(max(0, x) // tw, -(-right // tw)):
                tile = self.read_tile(level, column, row)
                if tile is None:
                    continue
                left, top = column * tw, row * th
                x0, y0 = max(x, left, 0), max(y, top, 0)
                part = tile[y0 - top : min(bottom, top + th) - top, x0 - left : min(right, left + tw) - left]
                out[y0 - y : y0 - y + part.shape[0], x0 - x : x0 - x + part.shape[1]] = part
        return out


def _down(full: int, reduced: int) -> float:
    """Downsampling along an axis: the whole number that rounding a size up or down hides, else the ratio."""
    ratio = full / max(reduced, 1)
    whole = max(1, round(ratio))
    return float(whole) if abs(full / whole - reduced) < 1 else ratio


def plausible(mpp: tuple[float, float] | None) -> tuple[float, float] | None:
    """The same, if a microscope can have it."""
    low, high = PLAUSIBLE
    return mpp if mpp is not None and all(low <= value <= high for value in mpp) else None


def open_slide(path: Path, files: tuple[Path, ...] = ()) -> Slide:
    """The slide of a TIFF file, or of DICOM files: the largest level, and `files` with the others. Raises DataError.

    The last slides that were opened stay open, since tiles of one are read one after another.
    """
    stamps = tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in (path, *files) if file.exists())
    if len(stamps) < 1 + len(files):
        raise DataError("the file does not exist", where=path)
    return _opened(os.getpid(), stamps)  # a forked process must not share a place in an open file with its parent


@functools.lru_cache(maxsize=4)
def _opened(process: int, stamps: tuple[tuple[Path, int, int], ...]) -> Slide:
    from medcoss_cli.kit.readers import kind_of
    from medcoss_slides import dicom, tiff

    paths = [path for path, *_ in stamps]
    return dicom.DicomSlide(paths) if kind_of(paths[0]) == "dicom" else tiff.TiffSlide(paths[0])
