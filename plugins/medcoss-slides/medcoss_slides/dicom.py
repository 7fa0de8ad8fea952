"""DICOM whole slides (VL Whole Slide Microscopy): the levels of a pyramid are the instances of one series."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly
from medcoss_slides.slide import Array, Slide, plausible

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
MAX_FRAMES = 2**20
NEVER = {"LABEL": "the slide's label", "OVERVIEW": "a picture of the whole glass", "LOCALIZER": "a localiser"}
"""Kinds of instances that may show a name, by the third value of ImageType; they are never read."""

_TAGS = [
    *(
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "PatientID",
        "ImageType",
        "Rows",
        "Columns",
        "NumberOfFrames",
    ),
    *("TotalPixelMatrixColumns", "TotalPixelMatrixRows", "TotalPixelMatrixFocalPlanes", "NumberOfOpticalPaths"),
    *(
        "SamplesPerPixel",
        "BitsAllocated",
        "DimensionOrganizationType",
        "ConcatenationUID",
        "SharedFunctionalGroupsSequence",
    ),
    *("PhotometricInterpretation", "SpecimenLabelInImage", "PlanarConfiguration"),
]


@dataclass(frozen=True, slots=True)
class Instance:
    """One level of a slide, as its header says."""

    path: Path
    series: str
    patient: str | None
    """A hash of PatientID."""
    width: int
    height: int
    tile: tuple[int, int]
    frames: int
    full: bool
    """TILED_FULL: frames lie in order; else each frame says where it lies."""
    mpp: tuple[float, float] | None


@contextmanager
def _quietly(path: Path) -> Iterator[None]:
    with plainly(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_instance(path: Path) -> Instance | str:
    """A level of a slide, or why the file is none although nothing is wrong with it. Raises DataError."""
    import pydicom

    with _quietly(path):
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        kind = str(data.get("SOPClassUID") or "")
        if kind != WHOLE_SLIDE:
            name = pydicom.uid.UID(kind).name if kind in pydicom.uid.UID_dictionary else "unknown"
            return f"DICOM of another kind ({name}) where a whole slide is expected"
        words = tuple(data.get("ImageType") or ())
        if reason := next((NEVER[word] for word in words if word in NEVER), None):
            return f"{reason}, which is never read"
        if str(data.get("SpecimenLabelInImage") or "").upper() == "YES":
            return f"{NEVER['LABEL']} is in the picture, which is never read"
        if data.get("ConcatenationUID"):
            raise DataError("a level that is split over several files (a concatenation) is not read", where=path)
        if int(data.get("SamplesPerPixel") or 1) != 3:
            return "a grey slide where colour is expected"
        if int(data.get("BitsAllocated") or 8) != 8:
            raise DataError("its pixels are not of 8 bits for each colour", where=path)
        frames = int(data.get("NumberOfFrames") or 1)
        tile = (int(data.get("Columns") or 0), int(data.get("Rows") or 0))
        width, height = int(data.get("TotalPixelMatrixColumns") or 0), int(data.get("TotalPixelMatrixRows") or 0)
        if not (0 < frames <= MAX_FRAMES and min(*tile, width, height) > 0):
            raise DataError(f"{frames} frames of {tile[0]} x {tile[1]} pixels are no slide", where=path)
        patient = str(data.get("PatientID") or "").strip()
        return Instance(
            path=path,
            series=str(data.get("SeriesInstanceUID") or path),
            patient=hashlib.sha256(patient.encode()).hexdigest()[:16] if patient else None,
            width=width,
            height=height,
            tile=tile,
            frames=frames,
            full=str(data.get("DimensionOrganizationType") or "TILED_FULL") == "TILED_FULL",
            mpp=plausible(_mpp(data)),
        )


def _mpp(data: Any) -> tuple[float, float] | None:
    """Microns between columns and between rows; DICOM has mm between rows, then columns."""
    try:
        rows, columns = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
        return float(columns) * 1000, float(rows) * 1000
    except (AttributeError, IndexError, TypeError, ValueError):
        return None


def pyramid(instances: Sequence[Instance]) -> list[Instance]:
    """The levels of a series, fine to coarse. Raises DataError for two of one size."""
    levels = sorted(instances, key=lambda level: (-level.width, -level.height, level.path.parts))
    sizes = [(level.width, level.height) for level in levels]
    if len(set(sizes)) < len(sizes):
        raise DataError(
            "two levels of its series have one size (focal planes, or the slide twice)", where=levels[0].path
        )
    return levels


class DicomSlide(Slide):
    """A slide of one file a level, the largest first. Raises DataError."""

    def __init__(self, paths: Sequence[Path]) -> None:
        instances = []
        for path in paths:
            instance = read_instance(path)
            if isinstance(instance, str):
                raise DataError(instance, where=path)
            instances.append(instance)
        levels = pyramid(instances)
        super().__init__(
            levels[0].path, [(level.width, level.height) for level in levels], [level.tile for level in levels]
        )
        self._mpp = levels[0].mpp
        self._files = [_Frames(level) for level in levels]

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Microns per pixel of level 0 along x and y; None where the file does not say."""
        return self._mpp

    def read_tile(self, level: int, column: int, row: int) -> Array | None:
        """One frame (h, w, 3) uint8 in RGB; None where a sparse slide has none. Raises DataError."""
        return self._files[level].tile(column, row)


class _Frames:
    """The frames of one file by their place. The first focal plane and optical path are read."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._columns = -(-instance.width // instance.tile[0])
        self._rows = -(-instance.height // instance.tile[1])
        if instance.full and instance.frames < self._columns * self._rows:
            what = f"{instance.frames} frames where {self._columns * self._rows} are declared"
            raise DataError(f"the file is truncated: {what}", where=instance.path)

    @cached_property
    def _sparse(self) -> dict[tuple[int, int], int]:
        """Number of the frame at (column, row)."""
        import pydicom

        instance, places = self._instance, dict[tuple[int, int], int]()
        with _quietly(instance.path):
            data = pydicom.dcmread(
                instance.path, stop_before_pixels=True, specific_tags=["PerFrameFunctionalGroupsSequence"]
            )
            for number, groups in enumerate(data.get("PerFrameFunctionalGroupsSequence") or ()):
                position = groups.PlanePositionSlideSequence[0]
                x = int(position.ColumnPositionInTotalImagePixelMatrix) - 1
                y = int(position.RowPositionInTotalImagePixelMatrix) - 1
                if x % instance.tile[0] or y % instance.tile[1]:
                    raise DataError("its frames do not lie on a grid", where=instance.path)
                places.setdefault((x // instance.tile[0], y // instance.tile[1]), number)
        return places

    def tile(self, column: int, row: int) -> Array | None:
        """One frame (h, w, 3) uint8 in RGB, or None. Raises DataError."""
        from pydicom.pixels import pixel_array

        instance = self._instance
        number = row * self._columns + column if instance.full else self._sparse.get((column, row))
        if number is None:
            return None
        with _quietly(instance.path):
            if number >= instance.frames:
                raise DataError("the file is truncated: it has fewer frames than it lists", where=instance.path)
            return np.asarray(pixel_array(instance.path, index=number))
