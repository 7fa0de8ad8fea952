"""DICOM: what a file says of itself, and its decoded frames. A series of slices is put together in `series.py`."""

from __future__ import annotations

import functools
import hashlib
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut, get_decoder, pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly
from medcoss_cli.kit.readers.image import Array, check_size

MAX_SAMPLES = 2**31
"""Rows x columns x frames x channels of one file, from the header before decoding."""
MAX_DEFLATED = 2**28
"""Bytes a deflated data set may grow to."""

logging.getLogger("pydicom").addHandler(logging.NullHandler())  # its warnings become notes and reasons here

_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "PatientID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "PhotometricInterpretation",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "InstanceNumber",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
_PIXELS = ((0x7FE0, 0x0010), (0x7FE0, 0x0008), (0x7FE0, 0x0009))
_NOT_PICTURES = ("Segmentation", "RT Dose", "Parametric Map", "Surface", "Waveform")
_CODECS = {
    "1.2.840.10008.1.2.4.57": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.70": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
}


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """What a DICOM file says of itself, as far as it is needed to find and order images."""

    path: Path
    not_an_image: str | None
    """Why it is no image, although nothing is wrong with it."""
    modality: str
    grey: bool
    rows: int
    columns: int
    frames: int
    spacing: tuple[float, float] | None
    """mm between rows and between columns."""
    series: str
    instance: str
    number: int | None
    """InstanceNumber."""
    orientation: tuple[float, ...] | None
    positions: tuple[tuple[float, ...], ...] | None
    """Of the first voxel of each frame."""
    phase: tuple[str, ...]
    """Echo and time point: slices of different ones are different volumes."""
    patient: str | None
    """A hash of PatientID."""
    at: int
    """Where in the file the pixel data begins."""

    def not_of(self, codes: tuple[str, ...]) -> str | None:
        """The reason why it is not read where DICOM of these modalities is."""
        if self.modality in codes:
            return None
        return f"DICOM of modality {self.modality or '(none)'} where {', '.join(codes)} is read"


@contextmanager
def _quietly(path: Path) -> Iterator[None]:
    with plainly(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(path: Path) -> DicomHeader:
    """Read everything but the pixels, and check that these can be there. Raises DataError."""
    with _quietly(path), path.open("rb") as file:
        size = path.stat().st_size
        _check_deflated(path)
        data = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=_TAGS)
        deflated = _syntax(data).is_deflated
        at = file.tell()
        tag = file.read(4)
        big = data.original_encoding[1] is False
        begins = tuple(int.from_bytes(tag[i : i + 2], "big" if big else "little") for i in (0, 2)) in _PIXELS
        header = _header(path, data, at)
        if header.not_an_image is None:
            if not deflated and not begins:
                raise DataError("no pixel data: a header only, or a truncated file", where=path)
            element = 8 if data.original_encoding[0] else 12  # bytes of tag, kind and length before the value
            _check_pixels(path, data, header, None if deflated else size - at - element)
    return header


def _syntax(data: Any) -> UID:
    meta = getattr(data, "file_meta", None)
    syntax = getattr(meta, "TransferSyntaxUID", None)
    if syntax:
        return UID(syntax)
    return UID(ImplicitVRLittleEndian if data.original_encoding[0] else ExplicitVRLittleEndian)


def _check_deflated(path: Path) -> None:
    """A deflated data set is unpacked whole by pydicom, so its size is counted before."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    start = 132 + 12 + int(meta.get("FileMetaInformationGroupLength", 0))
    inflate, grown = zlib.decompressobj(-zlib.MAX_WBITS), 0
    data = path.read_bytes()[start:]
    while data and not inflate.eof:
        grown += len(inflate.decompress(data, 2**22))
        data = inflate.unconsumed_tail
        if grown > MAX_DEFLATED:
            raise DataError(f"it unpacks to more than the limit of {MAX_DEFLATED:,} bytes", where=path)


def _header(path: Path, data: Any, at: int) -> DicomHeader:
    rows, columns = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
    frames = int(data.get("NumberOfFrames") or 1)
    patient = str(data.get("PatientID") or "").strip()
    orientation, positions, spacing = _place(data, frames)
    number = data.get("InstanceNumber")
    return DicomHeader(
        path=path,
        not_an_image=_not_an_image(data, rows),
        modality=str(data.get("Modality") or ""),
        grey=str(data.get("PhotometricInterpretation") or "").startswith("MONOCHROME"),
        rows=rows,
        columns=columns,
        frames=frames,
        spacing=spacing,
        series=str(data.get("SeriesInstanceUID") or ""),
        instance=str(data.get("SOPInstanceUID") or ""),
        number=None if number is None else int(number),
        orientation=orientation,
        positions=positions,
        phase=(str(data.get("EchoNumbers") or ""), str(data.get("TemporalPositionIdentifier") or "")),
        patient=hashlib.sha256(patient.encode()).hexdigest()[:16] if patient else None,
        at=at,
    )


def _not_an_image(data: Any, rows: int) -> str | None:
    uid = data.get("SOPClassUID") or getattr(getattr(data, "file_meta", None), "MediaStorageSOPClassUID", None)
    name = UID(uid).name if uid else ""
    if any(word in name for word in _NOT_PICTURES) or data.get("Modality") in ("SEG", "RTDOSE"):
        return f"a DICOM {name.removesuffix(' Storage') or data.get('Modality')}, not an image"
    if "LOCALIZER" in (data.get("ImageType") or ()):
        return "a localiser (scout)"
    if rows == 0 and "Image Storage" not in name:
        return f"DICOM without an image ({name.removesuffix(' Storage') or 'kind not said'})"
    return None


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(x) for x in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None


def group_of(data: Any, frame: int, sequence: str) -> Any:
    """The item of an enhanced file's functional group for one frame, its own or the shared one; None without."""
    per_frame = data.get("PerFrameFunctionalGroupsSequence") or ()
    for groups in (
        per_frame[frame] if frame < len(per_frame) else None,
        *(data.get("SharedFunctionalGroupsSequence") or ()),
    ):
        items = groups.get(sequence) if groups is not None else None
        if items:
            return items[0]
    return None


def _place(data: Any, frames: int) -> tuple[Any, Any, Any]:
    """Orientation, positions of the frames, and spacing; each None where the header does not say."""
    if not data.get("PerFrameFunctionalGroupsSequence"):
        position = _numbers(data.get("ImagePositionPatient"), 3)
        spacing = _numbers(data.get("PixelSpacing"), 2)
        positions = (position,) if position is not None and frames == 1 else None
        return _numbers(data.get("ImageOrientationPatient"), 6), positions, _positive(spacing)
    places = [
        _numbers(getattr(group_of(data, n, "PlanePositionSequence"), "ImagePositionPatient", None), 3)
        for n in range(min(frames, len(data.PerFrameFunctionalGroupsSequence)))
    ]
    turns = {
        _numbers(getattr(group_of(data, n, "PlaneOrientationSequence"), "ImageOrientationPatient", None), 6)
        for n in range(len(places))
    }
    spacing = _numbers(getattr(group_of(data, 0, "PixelMeasuresSequence"), "PixelSpacing", None), 2)
    complete = len(places) == frames and None not in places
    return turns.pop() if len(turns) == 1 else None, tuple(places) if complete else None, _positive(spacing)


def _positive(spacing: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return spacing if spacing is not None and min(spacing) > 0 else None


def _check_pixels(path: Path, data: Any, header: DicomHeader, length: int | None) -> None:
    """Size limits, decoder at hand, and for uncompressed pixels: as many bytes as declared."""
    samples = int(data.get("SamplesPerPixel") or 1)
    check_size(header.columns, header.rows, path)
    count = header.rows * header.columns * header.frames * samples
    if header.frames < 1 or count > MAX_SAMPLES:
        declared = f"{header.rows} x {header.columns} pixels x {header.frames} frames"
        raise DataError(f"{declared} are more than the limit of 2^31 values", where=path)
    syntax = _syntax(data)
    if syntax.is_compressed and not syntax.is_deflated:
        _check_decoder(syntax, path)
        return
    photometric = str(data.get("PhotometricInterpretation") or "")
    need = count * int(data.get("BitsAllocated") or 8) // 8
    need = need * 2 // 3 if photometric == "YBR_FULL_422" else need
    if length is not None and length < need:
        raise DataError(f"the file is truncated: {length:,} bytes of pixels where {need:,} are declared", where=path)


def _check_decoder(syntax: UID, path: Path) -> None:
    try:
        ready = get_decoder(syntax).is_available
    except NotImplementedError:  # what pydicom raises for a syntax it has never heard of
        ready = False
    if not ready:
        package = _CODECS.get(str(syntax))
        raise DataError(
            f"compressed as {syntax.name}, for which no decoder is installed"
            + (f" (pip install {package})" if package else ""),
            where=path,
            fix=f"pip install {package}" if package else None,
        )


@functools.lru_cache(maxsize=1)  # the frames of a clip are asked for one by one
def _read_whole(path: Path, changed: int) -> Any:
    data = pydicom.dcmread(path, force=True)
    if not getattr(data.file_meta, "TransferSyntaxUID", None):
        data.file_meta.TransferSyntaxUID = _syntax(data)
    return data


def read_dataset(path: Path) -> Any:
    """The whole data set, its header checked before. Raises DataError."""
    header = read_header(path)
    if header.not_an_image is not None:
        raise DataError(header.not_an_image, where=path)
    with _quietly(path):
        return _read_whole(path, path.stat().st_mtime_ns)


def stored(path: Path, data: Any, frame: int | None) -> Array:
    """Decoded values, before any rescaling: a frame (H, W) or (H, W, 3) in RGB, or all of them for frame None.

    MONOCHROME1 is turned round within its range of bits, so that more is brighter. Raises DataError.
    """
    with _quietly(path):
        array = pixel_array(data, index=frame)
        photometric = str(data.PhotometricInterpretation)
        if photometric == "PALETTE COLOR":
            return _eight_bits_of_palette(apply_color_lut(array, data))
        if photometric == "MONOCHROME1" and array.dtype.kind in "iu":
            top = 2 ** int(data.get("BitsStored") or data.BitsAllocated) - 1
            array = (-1 - array if data.PixelRepresentation else top - array).astype(array.dtype)
        return np.asarray(array)


def _eight_bits_of_palette(array: Array) -> Array:
    return array if array.dtype == np.uint8 else (array >> 8).astype(np.uint8)


def read_frame(path: Path, frame: int = 0) -> tuple[Array, tuple[float, float] | None, tuple[str, ...]]:
    """One frame: (C, H, W) with C = 1 or 3, spacing (rows, columns) in mm, and notes. Raises DataError.

    uint8 where 8 bits are stored and not rescaled, else float32 after the modality look-up or rescaling. No window
    is applied.
    """
    data = read_dataset(path)
    array = stored(path, data, frame)
    photometric = str(data.PhotometricInterpretation)
    notes: tuple[str, ...] = ()
    with _quietly(path):
        if array.ndim == 3:
            if photometric != "RGB":
                notes = (f"{photometric} converted to RGB",)
            result = np.moveaxis(array, -1, 0)
        else:
            if photometric == "MONOCHROME1":
                notes = ("MONOCHROME1: inverted, so that larger values are brighter",)
            values = apply_modality_lut(array, data)
            plain = array.dtype == np.uint8 and np.array_equal(values, array)
            result = (array if plain else values.astype(np.float32))[None]
        return result, _place(data, 1)[2], notes
