"""Decoded DICOM frames in physical units: bits, padding, photometric interpretation and rescaling, once for every reader."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import attributes, codecs
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


def decode(path: Path, data: Any, number: int) -> DicomFrame:
    """One frame of a data set from `read_dataset`. No window is applied. Raises DataError.

    MONOCHROME1 is inverted within its bits, so that more is brighter. Slope and intercept are those of the frame.
    """
    with quietly(path):
        photometric = str(data.get("PhotometricInterpretation") or "")
        stored = codecs.decoded(data, number)
        if photometric == "PALETTE COLOR":
            return DicomFrame(
                _coloured(_within_bits(stored, data)[0], data), None, (f"{photometric} converted to RGB",)
            )
        if stored.ndim == 3:
            notes: tuple[str, ...] = () if photometric == "RGB" else (f"{photometric} converted to RGB",)
            return DicomFrame(stored, None, notes)
        stored, bits, notes = _within_bits(stored, data)
        padding = _padding(stored, data)
        # of CT and PET values are a quantity, however they are displayed
        if photometric == "MONOCHROME1" and stored.dtype.kind in "iu" and data.get("Modality") not in ("CT", "PT"):
            top = 2**bits - 1
            stored = (-1 - stored if stored.dtype.kind == "i" else top - stored).astype(stored.dtype)
            notes = (*notes, "MONOCHROME1: inverted, so that larger values are brighter")
        return DicomFrame(_rescaled(stored, data, number), padding, notes)


def _within_bits(stored: Array, data: Any) -> tuple[Array, int, tuple[str, ...]]:
    """Values of the bits that hold them, how many bits these are, and notes.

    Bits above BitsStored are a graphic where the object has one there, and belong to the value otherwise: a header that
    says too few would turn bright pixels dark. Of left-aligned values the empty low bits are dropped.
    """
    if stored.dtype.kind not in "iu":
        return stored, 0, ()
    stored = stored.astype(stored.dtype.newbyteorder("="))
    allocated = 8 * stored.dtype.itemsize
    bits = min(int(data.get("BitsStored") or allocated), allocated)
    empty = int(data.get("HighBit") or 0) + 1 - bits
    unsigned = stored.view(f"u{stored.dtype.itemsize}")
    is_signed = stored.dtype.kind == "i"
    if 0 < empty <= allocated - bits and not (unsigned & unsigned.dtype.type(2**empty - 1)).any():
        return _signed(np.right_shift(unsigned, empty), bits, is_signed), bits, ()
    above = np.right_shift(unsigned, bits) if bits < allocated else np.zeros((), unsigned.dtype)
    if not above.any() or _has_graphic(data, bits):
        return _signed(np.bitwise_and(unsigned, 2**bits - 1), bits, is_signed), bits, ()
    low, high = int(stored.min()), int(stored.max())
    if is_signed and -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1):  # bits above are the sign, as they should be
        return stored, bits, ()
    needed = allocated if is_signed else high.bit_length()
    return stored, needed, (f"values need {needed} bits where BitsStored is {bits}: all bits are used",)


def _signed(values: Array, bits: int, is_signed: bool) -> Array:
    """Two's complement of so many bits, where a sign is meant."""
    if not is_signed:
        return values
    shift = 8 * values.dtype.itemsize - bits
    return np.asarray(np.right_shift(np.left_shift(values, shift).view(f"i{values.dtype.itemsize}"), shift))


def _has_graphic(data: Any, bits: int) -> bool:
    """True where an overlay lies in the pixels' bits above those stored."""
    for group in range(0x6000, 0x6020, 2):
        plane, own = data.get((group, 0x0102)), data.get((group, 0x0100))
        if plane is not None and own is not None and (own.value or 1) > 1 and (plane.value or 0) >= bits:
            return True
    return False


def _padding(stored: Array, data: Any) -> Array | None:
    """Where the stored values are PixelPaddingValue, or between it and PixelPaddingRangeLimit."""
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        held = data.get(keyword)
        if isinstance(held, int):
            bits = 8 * stored.dtype.itemsize
            wrapped = held % 2**bits if stored.dtype.kind in "iu" else held  # US for SS and the reverse are common
            if stored.dtype.kind == "i" and wrapped >= 2 ** (bits - 1):
                wrapped -= 2**bits
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


def without_padding(values: Array, padding: Array | None, data: Any) -> tuple[Array, tuple[str, ...]]:
    """Values with padding set to the smallest other value, of CT to air where that is less; and a note of how much it was."""
    if padding is None or not padding.any() or padding.all():
        return values, ()
    smallest = values[~padding].min()
    filled: Array = np.where(padding, min(smallest, AIR) if data.get("Modality") == "CT" else smallest, values).astype(
        values.dtype
    )
    return filled, (f"{padding.mean():.1%} are padding (PixelPaddingValue), set to the smallest other value or to air",)


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
