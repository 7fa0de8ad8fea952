"""Which bits of a stored DICOM value hold it: decided once for all frames of a series, not for each by what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medcoss_cli.kit.readers.image import Array


@dataclass(frozen=True, slots=True)
class Layout:
    """How a header says that values lie in their bits; frames of one layout follow one rule."""

    allocated: int
    """Bits of a value in memory."""
    stored: int
    """BitsStored."""
    empty: int
    """Low bits below the value: HighBit + 1 - BitsStored."""
    is_signed: bool
    has_graphic: bool
    """True where an overlay lies in the bits above those stored."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What the values of one or more frames use of their bits."""

    used: int
    """Bits that are set in any value, read as unsigned."""
    low: int
    high: int

    def __or__(self, other: Extent) -> Extent:
        return Extent(self.used | other.used, min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True, slots=True)
class Rule:
    """How values are taken from their bits."""

    shift: int
    """Empty low bits that are dropped."""
    bits: int
    """Of a value."""
    is_whole: bool
    """True where a value is taken as it is, with all bits."""
    notes: tuple[str, ...] = ()


Extents = dict[Layout, Extent]


def layout_of(stored: Array, data: Any) -> Layout | None:
    """The layout of decoded values; None for floating point."""
    if stored.dtype.kind not in "iu":
        return None
    allocated = 8 * stored.dtype.itemsize
    bits = min(int(data.get("BitsStored") or allocated), allocated)
    empty = int(data.get("HighBit") or 0) + 1 - bits
    is_aligned = 0 < empty <= allocated - bits
    return Layout(allocated, bits, empty if is_aligned else 0, stored.dtype.kind == "i", _has_graphic(data, bits))


def add(extents: Extents, layout: Layout, stored: Array) -> None:
    """Join what decoded integers use of their bits to what others of their layout do."""
    unsigned = stored.view(f"{stored.dtype.byteorder}u{stored.dtype.itemsize}")
    extent = Extent(int(np.bitwise_or.reduce(unsigned, axis=None)), int(stored.min()), int(stored.max()))
    extents[layout] = extent | extents.get(layout, extent)


def rule_of(layout: Layout, extent: Extent) -> Rule:
    """The rule for all frames of a layout, by what they use together.

    Bits above BitsStored are a graphic where the object has one there, and belong to the value otherwise: a header that
    says too few would turn bright pixels dark. Of left-aligned values the empty low bits are dropped.
    """
    bits = layout.stored
    if layout.empty and not extent.used & (2**layout.empty - 1):
        return Rule(layout.empty, bits, is_whole=False)
    if not extent.used >> bits or layout.has_graphic:
        return Rule(0, bits, is_whole=False)
    if layout.is_signed and -(2 ** (bits - 1)) <= extent.low and extent.high < 2 ** (bits - 1):
        return Rule(0, bits, is_whole=True)  # bits above are the sign, as they should be
    needed = layout.allocated if layout.is_signed else extent.high.bit_length()
    note = f"values need {needed} bits where BitsStored is {bits}: all bits are used"
    return Rule(0, needed, is_whole=True, notes=(note,))


def taken(stored: Array, rule: Rule) -> Array:
    """Values of decoded integers by a rule, in the machine's byte order."""
    stored = stored.astype(stored.dtype.newbyteorder("="))
    if rule.is_whole:
        return stored
    values = stored.view(f"u{stored.dtype.itemsize}")
    # not masked where shifted: what lies above the highest bit there has never been seen to be anything but the value
    values = np.right_shift(values, rule.shift) if rule.shift else np.bitwise_and(values, 2**rule.bits - 1)
    if stored.dtype.kind == "u":
        return np.asarray(values)
    above = 8 * stored.dtype.itemsize - rule.bits  # two's complement of so many bits
    return np.asarray(np.right_shift(np.left_shift(values, above).view(stored.dtype), above))


def _has_graphic(data: Any, bits: int) -> bool:
    for group in range(0x6000, 0x6020, 2):
        plane, own = data.get((group, 0x0102)), data.get((group, 0x0100))
        if plane is not None and own is not None and (own.value or 1) > 1 and (plane.value or 0) >= bits:
            return True
    return False
