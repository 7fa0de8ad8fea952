"""Attributes of a DICOM object, read in one way: of a frame of many, of one frame a file, or of a plain slice."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from medcoss_cli.errors import DataError

_SEQUENCE_OF = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "ComplexImageComponent": "MRImageFrameTypeSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "FrameAcquisitionDateTime": "FrameContentSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "NominalPercentageOfRespiratoryPhase": "RespiratorySynchronizationSequence",
}
"""The functional group of an enhanced object that holds an attribute of a plain one."""
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
_PLAIN_NAMES = {"FrameType": "ImageType"}
"""What a plain object calls an attribute of a frame, where the names differ."""
B_VALUES = (
    (0x0043, 0x1039, "GEMS_PARM_01"),
    (0x0019, 0x100C, "SIEMENS MR HEADER"),
    (0x2001, 0x1003, "Philips Imaging DD 001"),
    (0x0065, 0x1009, "Image Private Header"),  # UIH
)
"""Private elements for the b-value of scanners older than DiffusionBValue: group, element, and private creator."""


def group_of(data: Any, frame: int, sequence: str) -> Any:
    """The item of an enhanced object's functional group for one frame, its own or the shared one; None without."""
    per_frame = _items(data, "PerFrameFunctionalGroupsSequence")
    for groups in (
        *per_frame[frame : frame + 1],
        *_items(data, "SharedFunctionalGroupsSequence"),
    ):
        items = _items(groups, sequence)
        if items:
            return items[0]
    return None


_tag = functools.cache(lambda keyword: Tag(tag_for_keyword(keyword) or 0))


def _items(holder: Any, sequence: str) -> Any:
    """Of a sequence; asked for by its tag, which of thousands of frames is several times faster than by its keyword."""
    tag = _tag(sequence)
    return (holder[tag].value or ()) if tag in holder else ()


def _holders(data: Any, frame: int, keyword: Any) -> Iterator[Any]:
    """Data sets that may hold an attribute of a frame, the most particular first."""
    for sequence in _FRAME_TYPES if keyword == "FrameType" else (_SEQUENCE_OF.get(keyword, ""),):
        item = group_of(data, frame, sequence) if sequence else None
        if item is not None:
            yield item
    yield data


def value(data: Any, keyword: Any, frame: int = 0) -> Any:
    """An attribute of one frame by its keyword or tag: of its functional group, of the shared one, or of the object.

    None without a value.
    """
    for holder in _holders(data, frame, keyword):
        found = holder.get(keyword) if not isinstance(keyword, str) or _tag(keyword) in holder else None
        if found is None and holder is data and keyword in _PLAIN_NAMES:
            found = holder.get(_PLAIN_NAMES[keyword])
        if isinstance(keyword, tuple):  # by its tag: an element
            found = found.value if found is not None else None
        if found is not None and found != "":
            return found
    return None


def numbers(data: Any, keyword: str, count: int, frame: int = 0) -> tuple[float, ...] | None:
    """As `value`, for an attribute of so many finite numbers; a decimal comma is a point. None without a value.

    Raises: DataError where the value is not so many numbers.
    """
    for holder in _holders(data, frame, keyword):
        text = _text(holder, keyword)
        if text is None:
            continue
        parsed = _parsed(text, count)
        if parsed is None:
            raise DataError(f"{keyword} {text[:40]!r} is not {count} number{'s' * (count > 1)}")
        return parsed
    return None


def whole_number(data: Any, keyword: str) -> int | None:
    """An attribute of the object that is a whole number; None without one, or where it is something else."""
    try:
        return int(data.get(keyword))
    except (TypeError, ValueError):
        return None


def _text(holder: Any, keyword: str) -> str | None:
    """The characters of a decimal string as they are in the file: pydicom gives no value of one it cannot parse."""
    tag = tag_for_keyword(keyword)
    element = holder.get_item(tag) if tag is not None and tag in holder else None
    if element is None:
        return None
    if isinstance(element, RawDataElement):
        if element.VR not in (None, "DS", "IS", "UN"):
            element = holder[tag]
        else:
            raw = element.value
            text = raw.decode("latin-1") if isinstance(raw, bytes) else str(raw or "")
            return text.lstrip(" ").rstrip(" \0") or None  # NULs fill a value up; in front of one it is damaged
    held = element.value
    if held is None or held == "":
        return None
    parts = held if not isinstance(held, str) and hasattr(held, "__iter__") else [held]
    return "\\".join(str(part) for part in parts) or None


def _parsed(text: str, count: int) -> tuple[float, ...] | None:
    fields = text.split("\\")
    if len(fields) == 1 and count > 1:
        fields = text.split(",")  # a comma where a backslash belongs
    try:
        parsed = tuple(float(field.strip().replace(",", ".")) for field in fields)
    except ValueError:
        return None
    return parsed if len(parsed) == count and all(math.isfinite(number) for number in parsed) else None


def has_decimal_comma(data: Any, keyword: str, frame: int = 0) -> bool:
    """True where an attribute has commas, which `numbers` reads as points or as separators."""
    return any("," in (_text(holder, keyword) or "") for holder in _holders(data, frame, keyword))


def blocks(group: int, element: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Tags that a private element and its creator may have: an object may have put it in another block than the first."""
    return [((group, block << 8 | element & 0xFF), (group, block)) for block in range(0x10, 0x20)]


def _is_of(data: Any, tag: tuple[int, int], creator: str) -> bool:
    name = data.get(tag)
    return name is not None and str(name.value).strip() == creator


def b_value(data: Any, frame: int = 0) -> str:
    """The diffusion weighting in s/mm², of the standard's attribute or of a scanner's private one; "" without."""
    found = value(data, "DiffusionBValue", frame)
    if found is not None:
        return f"{float(found):g}"
    groups = {tag.group for tag in data.keys()}  # noqa: SIM118 - a data set iterates over its elements
    for group, element, creator in B_VALUES:
        if group not in groups:
            continue
        tag = next((at for at, name in blocks(group, element) if _is_of(data, name, creator) and at in data), None)
        if tag is None:
            continue
        held = data[tag].value
        parts = [held] if isinstance(held, str | bytes | float | int) else list(held or ())
        first = parts[0].decode("latin-1") if parts and isinstance(parts[0], bytes) else str(parts[0] if parts else "")
        digits = first.replace("\\", " ").split()
        try:
            return f"{float(digits[0]) % 100_000:g}" if digits else ""  # GE adds 10^9 to it
        except ValueError:
            return ""
    return ""
