"""DICOM: what a file says of itself, before its pixels are decoded. Pixels: `pixels.py`; slices to volumes: `series.py`."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import attributes, bounds, plainly
from medcoss_cli.kit.readers.codecs import check_decoder
from medcoss_cli.kit.readers.image import check_size
from medcoss_cli.kit.readers.volume import MAX_HELD

MAX_SAMPLES = 2**31
"""Rows x columns x frames x channels of one file, from the header before decoding."""
MAX_FRAMES = 2**16
"""Of one volume."""

logging.getLogger("pydicom").addHandler(logging.NullHandler())  # its warnings become notes and reasons here

GE_COMPONENT = (0x0043, 0x102F)
"""A private element: magnitude, phase, real or imaginary part."""
_TAGS: list[Any] = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "Modality",
    "ImageType",
    "PatientID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "PhotometricInterpretation",
    "BurnedInAnnotation",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceThickness",
    "InstanceNumber",
    "AcquisitionNumber",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "ContentDate",
    "ContentTime",
    "EchoNumbers",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "KVP",
    "ConvolutionKernel",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "NominalPercentageOfCardiacPhase",
    "NominalPercentageOfRespiratoryPhase",
    GE_COMPONENT,
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *(tag for group, element, _ in attributes.B_VALUES for pair in attributes.blocks(group, element) for tag in pair),
]
ITEM = 8
"""Bytes of the tag and the length of a compressed frame."""
_PIXELS = ((0x7FE0, 0x0010), (0x7FE0, 0x0008), (0x7FE0, 0x0009))
RISKS = {
    "secondary-capture": "a secondary capture, which may show a name",
    "burned-in": "an image with burnt-in text, which may be a name",
}
"""Kinds of objects that are read only where they are allowed by name, and what they are."""
_NOT_PICTURES = ("Segmentation", "RT Dose", "Parametric Map", "Surface", "Waveform")


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one frame of a file lies, and what sets its image apart from others at the same place."""

    number: int
    """In its file, from 0."""
    orientation: tuple[float, ...] | None
    """Direction cosines of a row and of a column, LPS."""
    position: tuple[float, ...] | None
    """Of the first voxel in mm, LPS."""
    spacing: tuple[float, float] | None
    """mm between rows and between columns."""
    thickness: float | None
    """mm."""
    contrast: tuple[tuple[str, str], ...]
    """What makes it another kind of image: (name, value) of b-value, echo, and part 3 of ImageType."""
    acquisition: tuple[tuple[str, str], ...]
    """What may make it another image of the same kind: acquisition, time point, and settings of the scanner."""
    times: tuple[float, ...]
    """Trigger time, acquisition time and content time, as far as they are known; to be compared, not measured."""
    is_clock: bool = False
    """True where the last of the times is one of the day, without a date."""


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
    places: tuple[Frame, ...]
    """One for each frame; none where one of several has no position, as those of a clip."""
    unreadable: str | None
    """What of its geometry is there but cannot be read: an image may be read without, a volume not."""
    study: str
    series: str
    instance: str
    number: int | None
    """InstanceNumber."""
    patient: str | None
    """A hash of PatientID."""
    at: int
    """Where in the file the pixel data begins."""
    risk: str | None = None
    """A key of RISKS."""
    notes: tuple[str, ...] = ()

    def not_allowed(self, allow: Sequence[str]) -> str | None:
        """The reason why it is not read unasked: pixels may hold what names a person."""
        if self.risk is None or self.risk in allow:
            return None
        return f"{RISKS[self.risk]}: not read unless allowed (--allow {self.risk})"

    def not_of(self, codes: tuple[str, ...]) -> str | None:
        """The reason why it is not read where DICOM of these modalities is."""
        if self.modality in codes:
            return None
        return f"DICOM of modality {self.modality or '(none)'} where {', '.join(codes)} is read"


@contextmanager
def quietly(path: Path) -> Iterator[None]:
    """As `plainly`, with pydicom's warnings kept from the screen."""
    with plainly(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(path: Path) -> DicomHeader:
    """Read everything but the pixels, and check that these can be there. Raises DataError."""
    with plainly(path):
        stat = path.stat()
    return _read_header(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=2**14)  # a series is found first and read later
def _read_header(path: Path, size: int, changed: int) -> DicomHeader:
    with quietly(path), path.open("rb") as file:
        bounds.check_deflated(file)
        data = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=_TAGS)
        syntax = syntax_of(data)
        deflated = syntax == DeflatedExplicitVRLittleEndian
        at = file.tell()
        tag = file.read(4)
        big = data.original_encoding[1] is False
        begins = tuple(int.from_bytes(tag[i : i + 2], "big" if big else "little") for i in (0, 2)) in _PIXELS
        not_an_image = _not_an_image(data)
        if not_an_image is None:
            if not deflated and not begins:
                raise DataError("no pixel data: a header only, or a truncated file", where=path)
            element = 8 if data.original_encoding[0] else 12  # bytes of tag, kind and length before the value
            _check_pixels(path, data, None if deflated else size - at - element)
        return _header(path, data, at, not_an_image)


def syntax_of(data: Any) -> UID:
    """The transfer syntax, also of an object that does not say."""
    meta = getattr(data, "file_meta", None)
    syntax = getattr(meta, "TransferSyntaxUID", None)
    if syntax:
        return UID(syntax)
    return UID(ImplicitVRLittleEndian if data.original_encoding[0] else ExplicitVRLittleEndian)


def _header(path: Path, data: Any, at: int, not_an_image: str | None) -> DicomHeader:
    rows, columns = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
    frames = int(data.get("NumberOfFrames") or 1)
    patient = str(data.get("PatientID") or "").strip()
    number = attributes.whole_number(data, "InstanceNumber")
    has_places = not_an_image is None and (frames == 1 or bool(data.get("PerFrameFunctionalGroupsSequence")))
    places, unreadable = _places(data, frames) if has_places else ((), None)
    commas = [name for name in ("PixelSpacing", "ImagePositionPatient") if attributes.has_decimal_comma(data, name)]
    return DicomHeader(
        path=path,
        not_an_image=not_an_image,
        modality=str(data.get("Modality") or ""),
        grey=str(data.get("PhotometricInterpretation") or "").startswith("MONOCHROME"),
        rows=rows,
        columns=columns,
        frames=frames,
        places=places,
        unreadable=unreadable,
        study=str(data.get("StudyInstanceUID") or ""),
        series=str(data.get("SeriesInstanceUID") or ""),
        instance=str(data.get("SOPInstanceUID") or ""),
        number=number,
        patient=hashlib.sha256(patient.encode("utf-8", "surrogatepass")).hexdigest()[:16] if patient else None,
        at=at,
        risk=_risk(data),
        notes=tuple(f"commas in {name} are read as decimal points or separators" for name in commas),
    )


def _not_an_image(data: Any) -> str | None:
    uid = data.get("SOPClassUID") or getattr(getattr(data, "file_meta", None), "MediaStorageSOPClassUID", None)
    name = UID(uid).name if uid else ""
    if any(word in name for word in _NOT_PICTURES) or data.get("Modality") in ("SEG", "RTDOSE"):
        return f"a DICOM {name.removesuffix(' Storage') or data.get('Modality')}, not an image"
    if "LOCALIZER" in (data.get("ImageType") or ()):
        return "a localiser (scout)"
    if not data.get("Rows") and "Image Storage" not in name:
        return f"DICOM without an image ({name.removesuffix(' Storage') or 'kind not said'})"
    return None


def _risk(data: Any) -> str | None:
    kind = UID(data.get("SOPClassUID") or "").name
    types = " ".join(str(part) for part in data.get("ImageType") or ()).upper().replace("_", " ")
    if "Secondary Capture" in kind or "SCREEN SAVE" in types or "SCREENSHOT" in types:
        return "secondary-capture"
    return "burned-in" if str(data.get("BurnedInAnnotation") or "").upper() == "YES" else None


def _places(data: Any, frames: int) -> tuple[tuple[Frame, ...], str | None]:
    """The frames of an object, or why their place cannot be read."""
    if frames > MAX_FRAMES:
        return (), f"{frames:,} frames are more than the limit of {MAX_FRAMES:,}"
    described = len(data.get("PerFrameFunctionalGroupsSequence") or ())
    if frames > 1 and described < frames:  # else the work would follow a number, not the bytes
        return (), f"{frames:,} frames are declared, and places of {described:,}"
    try:
        places: list[Frame] = []
        for number in range(frames):
            places.append(_frame(data, number))
            if frames > 1 and places[-1].position is None:
                return (), None
        return tuple(places), None
    except DataError as error:
        return (), error.what


def _frame(data: Any, number: int) -> Frame:
    """One frame's attributes. Raises DataError for a position, an orientation or a spacing that cannot be read."""
    thickness = _rounded(data, ("SliceThickness",), number)
    kind = [str(part) for part in (attributes.value(data, "FrameType", number) or ())]
    contrast = {
        "b-value": attributes.b_value(data, number),
        "echo": _text(data, "EchoNumbers", number),
        "echo time": _rounded(data, ("EffectiveEchoTime", "EchoTime"), number),
        "image type": kind[2] if len(kind) > 2 else "",
        "component": _text(data, "ComplexImageComponent", number) or _text(data, GE_COMPONENT, number),
        "cardiac phase": _rounded(data, ("NominalPercentageOfCardiacPhase",), number),
        "respiratory phase": _rounded(data, ("NominalPercentageOfRespiratoryPhase",), number),
    }
    acquisition = {
        "acquisition": _text(data, "FrameAcquisitionNumber", number) or _text(data, "AcquisitionNumber", number),
        "time point": _text(data, "TemporalPositionIndex", number) or _text(data, "TemporalPositionIdentifier", number),
        "image type": "/".join(kind[3:]),
        "tube voltage": _rounded(data, ("KVP",), number),
        "kernel": _text(data, "ConvolutionKernel", number),
        "inversion time": _rounded(data, ("InversionTime",), number),
        "flip angle": _rounded(data, ("FlipAngle",), number),
    }
    return Frame(
        number,
        attributes.numbers(data, "ImageOrientationPatient", 6, number),
        attributes.numbers(data, "ImagePositionPatient", 3, number),
        spacing_of(data, number),
        float(thickness) if thickness and float(thickness) > 0 else None,
        tuple(contrast.items()),
        tuple(acquisition.items()),
        *_times(data, number),
    )


def _text(data: Any, keyword: Any, frame: int) -> str:
    held = attributes.value(data, keyword, frame)
    return "" if held is None else str(held)


def _rounded(data: Any, keywords: tuple[str, ...], frame: int) -> str:
    """The first of these attributes to three digits, so that a last digit makes no other image."""
    for keyword in keywords:
        held = attributes.value(data, keyword, frame)
        try:
            return f"{float(held):.3g}"
        except (TypeError, ValueError):
            continue
    return ""


def _times(data: Any, frame: int) -> tuple[tuple[float, ...], bool]:
    """Times in ms after a trigger, and clocks in s, from a date on where there is one; True where the last has none."""
    found: list[float] = []
    is_clock = False
    for keyword in ("TriggerTime", "NominalCardiacTriggerDelayTime"):
        with contextlib.suppress(ValueError):
            found.append(float(_text(data, keyword, frame)))
    for keyword in ("FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime", "ContentTime"):
        if keyword == "ContentTime" and found:  # when an image was made of what was acquired before says nothing more
            break
        digits = _text(data, keyword, frame).replace(":", "")
        date, clock = digits[:8], digits[8:]
        if not keyword.endswith("DateTime"):
            date, clock = _text(data, keyword.replace("Time", "Date"), frame).replace(".", ""), digits
        match = re.match(r"(\d\d)(\d\d)?(\d\d(?:\.\d*)?)?", clock)
        if match is None:
            continue
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        day = 0
        with contextlib.suppress(ValueError):
            day = datetime.datetime.strptime(date, "%Y%m%d").toordinal()
        found.append(86_400.0 * day + 3600 * hours + 60 * minutes + seconds)
        is_clock = day == 0
    return tuple(found), is_clock


def spacing_of(data: Any, frame: int = 0) -> tuple[float, float] | None:
    """mm between rows and between columns; None where the header does not say, or says what cannot be.

    Raises: DataError where the value cannot be read.
    """
    spacing = attributes.numbers(data, "PixelSpacing", 2, frame)
    return (spacing[0], spacing[1]) if spacing is not None and min(spacing) > 0 else None


def _check_pixels(path: Path, data: Any, length: int | None) -> None:
    """Size limits, decoder at hand, and as many bytes as declared, of compressed pixels as frames need at the least."""
    rows, columns = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
    frames, samples = int(data.get("NumberOfFrames") or 1), int(data.get("SamplesPerPixel") or 1)
    check_size(columns, rows, path)
    count = rows * columns * frames * samples
    if frames < 1 or samples < 1 or count > MAX_SAMPLES:
        raise DataError(
            f"{rows} x {columns} pixels x {frames} frames are more than the limit of 2^31 values", where=path
        )
    if length is not None and length > MAX_HELD:  # they are in memory as a whole
        raise DataError(f"{length:,} bytes of pixels are more than the limit of {MAX_HELD:,}", where=path)
    syntax = syntax_of(data)
    if syntax.is_private or not syntax.is_transfer_syntax or syntax.is_encapsulated:
        check_decoder(syntax, path)
        if length is not None and frames > 1 and length < ITEM * frames:
            raise DataError(f"{length:,} bytes of compressed pixels where {frames:,} frames are declared", where=path)
        return
    photometric = str(data.get("PhotometricInterpretation") or "")
    need = count * int(data.get("BitsAllocated") or 8) // 8
    need = need * 2 // 3 if photometric == "YBR_FULL_422" else need
    if length is not None and length < need:
        raise DataError(f"the file is truncated: {length:,} bytes of pixels where {need:,} are declared", where=path)
