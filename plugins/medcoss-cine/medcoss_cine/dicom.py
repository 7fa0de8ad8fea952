"""Multi-frame DICOM: ultrasound clips, X-ray angiography and others; frames that are there, regions that show an image."""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cine.clip import Array, Clip, Facts, even
from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly

_TAGS = [
    *("SOPClassUID", "Modality", "PatientID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *(
        "BitsStored",
        "PixelRepresentation",
        "PhotometricInterpretation",
        "PixelSpacing",
        "ImagerPixelSpacing",
        "FrameTime",
    ),
    *("FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate", "SequenceOfUltrasoundRegions", "ImageType"),
    "BurnedInAnnotation",
]
_VIDEO = ("1.2.840.10008.1.2.4.10",)  # MPEG-2, MPEG-4 and HEVC, .100 to .108: one stream, not frames
TISSUE, COLOUR_FLOW = 1, 2
"""RegionDataType (0018,6014)."""
TWO_D = 1
"""RegionSpatialFormat (0018,6012); others are M-mode, spectra, waveforms, graphics."""


class NotThis(DataError):  # noqa: N818 - not a fault: a sound file that is not what is read
    """Why a file is left out although nothing is wrong with it."""


@contextmanager
def quietly(path: Path) -> Iterator[None]:
    """Decoders' warnings are dropped, and what they raise becomes a DataError with a plain reason."""
    with plainly(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class DicomClip(Clip):
    """Frames of one file. Raises DataError."""

    def __init__(self, path: Path) -> None:
        with quietly(path):
            self.modality, self._inverted_from, facts = _facts(path)
        super().__init__(path, facts)

    def decode(self, numbers: Sequence[int]) -> Array:
        """(n, H, W) or (n, H, W, 3) as stored, RGB; MONOCHROME1 is inverted. Raises DataError."""
        from pydicom.pixels import iter_pixels

        with quietly(self.path):
            frames = np.stack([self._plain(frame) for frame in iter_pixels(self.path, indices=list(numbers))])
        return frames if self._inverted_from is None else (self._inverted_from - frames).astype(frames.dtype)

    def _plain(self, frame: Array) -> Array:
        if frame.ndim == 2 and self.facts.colour:  # a palette
            import pydicom
            from pydicom.pixels import apply_color_lut

            data = pydicom.dcmread(self.path, stop_before_pixels=True)
            frame = apply_color_lut(frame, data)
            return frame if frame.dtype == np.uint8 else (frame >> 8).astype(np.uint8)
        return frame


def _facts(path: Path) -> tuple[str, int | None, Facts]:
    """Modality, the value that MONOCHROME1 is subtracted from (None: not inverted), and the rest."""
    import pydicom

    with path.open("rb") as file:
        data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        at = file.tell()
        declared = int(data.get("NumberOfFrames") or 1)
        rows, columns = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
        samples = int(data.get("SamplesPerPixel") or 1)
        photometric = str(data.get("PhotometricInterpretation") or "")
        if rows == 0 or columns == 0:
            raise NotThis("DICOM without an image", where=path)
        syntax = getattr(data.file_meta, "TransferSyntaxUID", None)
        if syntax is None:
            raise DataError("the file does not say how its pixels are stored (no transfer syntax)", where=path)
        if str(syntax).startswith(_VIDEO):
            raise DataError("a video stream (MPEG) inside DICOM is not read", where=path, fix="save it as MP4")
        if syntax.is_deflated:
            raise DataError("a deflated DICOM file is not read", where=path)
        bits = rows * columns * samples * int(data.get("BitsAllocated") or 8)
        frame = bits * 2 // 24 if photometric == "YBR_FULL_422" and not syntax.is_compressed else bits // 8
        there = frames_there(file, at, frame, syntax.is_implicit_VR, path.stat().st_size)
        if there is None:  # several fragments a frame
            there = declared
    count = min(declared, there)
    notes = (f"{count} frames where {declared} are declared",) if count < declared else ()
    keep, spacing = _regions(data, path)
    facts = Facts(
        frames=count,
        size=(rows, columns),
        colour=samples == 3 or photometric == "PALETTE COLOR",
        times=_times(data, count),
        spacing=spacing or _pair(data.get("PixelSpacing")) or _pair(data.get("ImagerPixelSpacing")),
        keep=keep,
        patient=_hash(data.get("PatientID")),
        risk=_risk(data),
        notes=notes,
    )
    top = -1 if data.get("PixelRepresentation") else 2 ** int(data.get("BitsStored") or 8) - 1
    return str(data.get("Modality") or ""), top if photometric == "MONOCHROME1" else None, facts


def frames_there(file: Any, at: int, frame: int, implicit: bool, size: int) -> int | None:
    """Frames of the pixel data that begins at `at`, whole ones; None where fragments do not show it.

    Args:
        frame: bytes of an uncompressed frame.
        size: of the file.
    """
    file.seek(at)
    head = file.read(8 if implicit else 12)
    if len(head) < 8 or head[:4] not in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"):
        return 0
    if head[-4:] != b"\xff\xff\xff\xff":  # native
        return max(0, size - at - len(head)) // max(frame, 1)
    fragments, table, begin = 0, 0, at + len(head)
    while begin + 8 <= size:
        file.seek(begin)
        tag, length = struct.unpack("<4sI", file.read(8))
        if tag != b"\xfe\xff\x00\xe0" or begin + 8 + length > size:  # the end, or a fragment that is cut off
            break
        if begin == at + len(head):
            table = length // 4
        else:
            fragments += 1
        begin += 8 + length
    return None if table and table < fragments else fragments


def _times(data: Any, count: int) -> tuple[float, ...] | None:
    vector = data.get("FrameTimeVector")
    if vector is not None and not isinstance(vector, float | int | str) and len(vector) >= count:
        times = np.cumsum([0.0, *(float(step) for step in vector[1:count])])
        return tuple(float(time) for time in times) if np.isfinite(times).all() and (np.diff(times) > 0).all() else None
    rate = data.get("CineRate") or data.get("RecommendedDisplayFrameRate")
    step = data.get("FrameTime") or (1000 / float(rate) if rate else None)
    return even(count, float(step)) if step and 0 < float(step) < 1e5 else None


def _regions(data: Any, path: Path) -> tuple[tuple[tuple[int, int, int, int], ...], tuple[float, float] | None]:
    """Regions that show a 2D image, and mm between rows and columns where they agree. Raises NotThis."""
    regions = list(data.get("SequenceOfUltrasoundRegions") or ())
    images = [region for region in regions if region.get("RegionSpatialFormat") == TWO_D]
    if regions and not images:
        raise NotThis("ultrasound without a 2D image (M-mode or Doppler spectra)", where=path)
    if any(region.get("RegionDataType") == COLOUR_FLOW for region in images):
        raise NotThis("colour Doppler where grey is expected", where=path)
    boxes = []
    for region in images:
        x0, y0 = int(region.RegionLocationMinX0), int(region.RegionLocationMinY0)
        x1, y1 = int(region.RegionLocationMaxX1), int(region.RegionLocationMaxY1)
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise DataError("its list of ultrasound regions is damaged", where=path)
        boxes.append((y0, x0, y1 + 1, x1 + 1))
    scales = {
        (abs(float(region.PhysicalDeltaY)) * 10, abs(float(region.PhysicalDeltaX)) * 10)
        for region in images
        if region.get("PhysicalUnitsXDirection") == 3 and region.get("PhysicalUnitsYDirection") == 3  # cm
    }
    return tuple(boxes), _pair(scales.pop()) if len(scales) == 1 else None


def _risk(data: Any) -> str | None:
    from pydicom.uid import UID

    types = " ".join(str(word) for word in data.get("ImageType") or ()).upper()
    if "Secondary Capture" in UID(str(data.get("SOPClassUID") or "")).name or "SCREEN" in types:
        return "secondary-capture"
    return "burned-in" if str(data.get("BurnedInAnnotation") or "").upper() == "YES" else None


def _pair(value: Any) -> tuple[float, float] | None:
    try:
        rows, columns = (float(number) for number in value)
    except (TypeError, ValueError):
        return None
    return (rows, columns) if 0 < rows < 100 and 0 < columns < 100 else None


def _hash(patient: Any) -> str | None:
    text = str(patient or "").strip()
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else None
