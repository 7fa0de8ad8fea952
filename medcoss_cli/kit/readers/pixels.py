"""Decoded DICOM frames in physical units: bits, padding, photometric interpretation and rescaling, once for every reader."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import attributes, bits, codecs
from medcoss_cli.kit.readers.dicom import quietly, read_header, spacing_of, syntax_of
from medcoss_cli.kit.readers.image import Array

AIR = -1000
"""HU."""


@dataclass(frozen=True, slots=True)
class DicomFrame:
    """One decoded frame."""

    values: Array
    """(H, W), or (H, W, 3) in RGB; uint8 where 8 bits are stored and not rescaled, else float32 in physical units."""
    padding: Array | None
    """(H, W) bool: True where the object says that there is no image; None where it says nothing."""
    notes: tuple[str, ...] = ()
    layout: bits.Layout | None = None
    rule: bits.Rule | None = None
    """How values were taken from their bits; None of colour and of floating point."""


@functools.lru_cache(maxsize=1)  # the frames of a clip are asked for one by one
def _read_whole(path: Path, changed: int) -> Any:
    data = pydicom.dcmread(path, force=True)
    if not getattr(data.file_meta, "TransferSyntaxUID", None):
        data.file_meta.TransferSyntaxUID = syntax_of(data)
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1 and syntax_of(data).is_encapsulated:
        offsets = pydicom.encaps.parse_basic_offsets(data.PixelData)
        fragments = pydicom.encaps.parse_fragments(data.PixelData)[0] - 1  # without the table of offsets
        if not offsets and fragments < frames:  # each is a frame: those that are declared beyond them are not there
            data.NumberOfFrames = fragments
    return data


def read_dataset(path: Path) -> Any:
    """The whole data set, its header checked before. Raises DataError."""
    header = read_header(path)
    if header.not_an_image is not None:
        raise DataError(header.not_an_image, where=path)
    return open_dataset(path)


def open_dataset(path: Path) -> Any:
    """As `read_dataset`, of a file whose header was checked when its series was found."""
    with quietly(path):
        return _read_whole(path, path.stat().st_mtime_ns)


def decode(path: Path, data: Any, number: int, extents: bits.Extents | None = None) -> DicomFrame:
    """One frame of a data set from `read_dataset`. No window is applied. Raises DataError.

    MONOCHROME1 is inverted within its bits, so that more is brighter. Slope and intercept are those of the frame.

    Args:
        extents: what the frames before use of their bits, by layout: those of this frame are added, and the rule is that of
            all of them. Without, it is that of all frames of the file.
    """
    with quietly(path):
        photometric = str(data.get("PhotometricInterpretation") or "")
        stored = codecs.decoded(data, number)
        if stored.ndim == 3:
            notes: tuple[str, ...] = () if photometric == "RGB" else (f"{photometric} converted to RGB",)
            return DicomFrame(stored, None, notes)
        layout, rule = bits.layout_of(stored, data), None
        if layout is not None:
            if extents is None:
                extents = _extents_of_file(path, path.stat().st_mtime_ns) if _is_one_of_many(data, layout) else {}
            bits.add(extents, layout, stored)
            rule = bits.rule_of(layout, extents[layout])
            stored = bits.taken(stored, rule)
        if photometric == "PALETTE COLOR":
            return DicomFrame(_coloured(stored, data), None, (f"{photometric} converted to RGB",))
        notes = rule.notes if rule is not None else ()
        padding = _padding(stored, data)
        # of CT and PET values are a quantity, however they are displayed
        if photometric == "MONOCHROME1" and rule is not None and data.get("Modality") not in ("CT", "PT"):
            top = 2**rule.bits - 1
            stored = (-1 - stored if stored.dtype.kind == "i" else top - stored).astype(stored.dtype)
            notes = (*notes, "MONOCHROME1: inverted, so that larger values are brighter")
        return DicomFrame(_rescaled(stored, data, number), padding, notes, layout, rule)


def _is_one_of_many(data: Any, layout: bits.Layout) -> bool:
    """True for a frame whose rule depends on the others of its file."""
    return int(data.get("NumberOfFrames") or 1) > 1 and layout.stored < layout.allocated


@functools.lru_cache(maxsize=1)  # the frames of a clip are asked for one by one
def _extents_of_file(path: Path, changed: int) -> bits.Extents:
    """What all frames of a file use of their bits, as far as they can be decoded."""
    data = _read_whole(path, changed)
    found: bits.Extents = {}
    for number in range(int(data.get("NumberOfFrames") or 1)):
        with contextlib.suppress(DataError), quietly(path):  # a damaged frame is refused when it is read
            stored = codecs.decoded(data, number)
            layout = bits.layout_of(stored, data)
            if layout is not None:
                bits.add(found, layout, stored)
    return found


def _padding(stored: Array, data: Any) -> Array | None:
    """Where the stored values are PixelPaddingValue, or between it and PixelPaddingRangeLimit."""
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        held = data.get(keyword)
        if isinstance(held, int):
            size = 8 * stored.dtype.itemsize
            wrapped = held % 2**size if stored.dtype.kind in "iu" else held  # US for SS and the reverse are common
            if stored.dtype.kind == "i" and wrapped >= 2 ** (size - 1):
                wrapped -= 2**size
            ends.append(wrapped)
    if not ends or data.get("PixelPaddingValue") is None:
        return None
    padding = (stored >= min(ends)) & (stored <= max(ends))
    return padding if padding.any() else None


def _rescaled(stored: Array, data: Any, number: int) -> Array:
    """Physical units by the modality look-up table, or by the frame's slope and intercept."""
    if data.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored, data), np.float32)
    slope = (attributes.numbers(data, "RescaleSlope", 1, number) or (1.0,))[0]
    intercept = (attributes.numbers(data, "RescaleIntercept", 1, number) or (0.0,))[0]
    if slope == 1 and intercept == 0:
        return stored if stored.dtype == np.uint8 else stored.astype(np.float32)
    return np.asarray(stored * (slope or 1.0) + intercept, np.float32)


def _coloured(indices: Array, data: Any) -> Array:
    """(H, W, 3) uint8 of a palette; one declared as 16 bits may hold 8 bits, in the low byte."""
    colours = apply_color_lut(indices, data)
    if colours.dtype == np.uint8:
        return np.asarray(colours)
    return np.asarray(colours if colours.max() < 256 else colours >> 8, np.uint8)


class Padding:
    """Where slices of a volume are padding, a bit for each voxel.

    Args:
        shape: (slices, rows, columns).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape, self._planes = shape, dict[int, Array]()

    def put(self, place: int, padding: Array | None) -> None:
        """What is padding in a slice, instead of what was put before."""
        self._planes.pop(place, None)
        if padding is not None and padding.any():
            self._planes[place] = np.packbits(padding)

    def of(self, place: int) -> Array:
        """(rows, columns) bool of a slice."""
        rows, columns = self._shape[1:]
        packed = self._planes.get(place)
        if packed is None:
            return np.zeros((rows, columns), bool)
        return np.unpackbits(packed, count=rows * columns).reshape(rows, columns).astype(bool)

    def filled(self, values: Array, data: Any) -> tuple[Array, tuple[str, ...]]:
        """Values with padding set, in place, to the smallest other value, of CT to air where that is less; and a note."""
        count = sum(int(self.of(place).sum()) for place in self._planes)
        if count in (0, values.size):
            return values, ()
        others = (plane[~self.of(place)] for place, plane in enumerate(values))
        smallest = min(other.min() for other in others if other.size)
        for place in self._planes:
            values[place][self.of(place)] = min(smallest, AIR) if data.get("Modality") == "CT" else smallest
        share = count / values.size
        return values, (f"{share:.1%} are padding (PixelPaddingValue), set to the smallest other value or to air",)


def without_padding(values: Array, padding: Array | None, data: Any) -> tuple[Array, tuple[str, ...]]:
    """One slice as `Padding.filled` has it."""
    slices = Padding((1, *values.shape[:2]))
    slices.put(0, padding)
    filled, notes = slices.filled(values[None].copy(), data)
    return filled[0], notes


def read_frame(path: Path, number: int = 0) -> tuple[Array, tuple[float, float] | None, tuple[str, ...]]:
    """One frame: (C, H, W) with C = 1 or 3, spacing (rows, columns) in mm, and notes. Raises DataError."""
    data = read_dataset(path)
    frame = decode(path, data, number)
    values, notes = without_padding(frame.values, frame.padding, data)
    spacing = None
    try:
        spacing = spacing_of(data, number)
    except DataError as error:  # the picture is the same
        notes = (*notes, error.what)
    return (values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)), spacing, (*frame.notes, *notes)
