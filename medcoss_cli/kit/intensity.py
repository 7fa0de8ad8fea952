"""How physical units become small integers on disk, and the numbers the encoder sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from medcoss_cli.plugin import Sample

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class Grey8:
    """Grey levels 0 to 255 as uint8; the encoder sees 0 to 1.

    8-bit files go through unchanged. The image loader has already stretched deeper ones from their 0.5th to their
    99.5th percentile to 0..255, so here values are only rounded and clipped.
    """

    seen: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """Range of what the encoder sees; a rule without it has none."""

    def encode(self, sample: Sample) -> tuple[np.ndarray[Any, Any], float, float]:
        """(uint8 (C, *size), 1, 0)."""
        import numpy as np

        return np.clip(np.rint(sample.array), 0, 255).astype(np.uint8), 1.0, 0.0

    def misfit(self, low: float, high: float) -> tuple[str, str] | None:
        """What is expected of an array that no loader read, and how to get there, where its range shows another unit."""
        expected = "grey levels from 0 to 255"
        if low < 0:
            return expected, "give the image as it was before its values were normalised"
        if high > 255:  # 12 or 16 bits: clipping would turn most of it white
            how = "stretch it as files of more than 8 bits are: medcoss_cli.kit.readers.image.as_eight_bits(array)"
            return expected, how
        return (expected, "multiply it by 255") if high <= 1 else None

    def decode(self, integers: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """(N, C, *size) float32 in [0, 1]."""
        return _affine(integers, scale, offset) / 255


@dataclass(frozen=True)
class Colour8(Grey8):
    """Red, green and blue 0 to 255 as uint8; the encoder sees 0 to 1. As Grey8, with three channels."""


@dataclass(frozen=True)
class Hounsfield:
    """Hounsfield units clipped to [low, high] as int16; the encoder sees -1 to 1."""

    low: int = -1024
    high: int = 1024
    seen: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def encode(self, sample: Sample) -> tuple[np.ndarray[Any, Any], float, float]:
        """(int16 (C, *size), scale, offset)."""
        import numpy as np

        half = (self.high - self.low) / 2
        integers = np.rint(np.clip(sample.array, self.low, self.high)).astype(np.int16)
        return integers, 1 / half, -(self.high + self.low) / 2 / half

    def misfit(self, low: float, high: float) -> tuple[str, str] | None:
        """As `Grey8.misfit`: fat and air are below 0, so a volume without a value below it is in another unit."""
        expected = "Hounsfield units (air -1000, water 0)"
        if low >= -1 and high <= 1:
            return expected, "give the volume as it was before its values were normalised"
        return (expected, "apply the scanner's rescale: array * slope + intercept") if low >= 0 else None

    def decode(self, integers: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """(N, C, *size) float32 in [-1, 1]."""
        return _affine(integers, scale, offset)


@dataclass(frozen=True)
class ZScore:
    """Clipped to two percentiles of the sample, then mean 0 and std 1; int16, each sample with its scale.

    Args:
        low, high: percentiles.
        by_channel: percentiles, mean and std of each channel for itself.
    """

    low: float = 0.2
    high: float = 99.8
    by_channel: bool = False
    usual: ClassVar[tuple[float, float]] = (-3.0, 3.0)
    """Range that pictures are drawn in, of a rule that has no range of what the encoder sees."""

    def encode(self, sample: Sample) -> tuple[np.ndarray[Any, Any], float, float]:
        """(int16 (C, *size), scale, offset); a constant sample becomes 0."""
        import numpy as np

        values = np.asarray(sample.array, dtype=np.float64)
        axes = tuple(range(1 if self.by_channel else 0, values.ndim))
        values = np.clip(values, *np.percentile(values, (self.low, self.high), axis=axes, keepdims=True))
        std = values.std(axis=axes, keepdims=True)
        values = (values - values.mean(axis=axes, keepdims=True)) / np.where(std > 0, std, 1.0)
        return _stored(values)

    def decode(self, integers: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """(N, C, *size) float32 z-scores."""
        return _affine(integers, scale, offset)


@dataclass(frozen=True)
class Fixed:
    """Clipped to [low, high], then (value - mean) / std, the same for every sample; int16.

    Source: nnU-Net's CT rule, where all four come from the training set's foreground.
    """

    low: float
    high: float
    mean: float
    std: float
    usual: ClassVar[tuple[float, float]] = (-3.0, 3.0)

    def encode(self, sample: Sample) -> tuple[np.ndarray[Any, Any], float, float]:
        """(int16 (C, *size), scale, offset)."""
        import numpy as np

        values = np.clip(np.asarray(sample.array, dtype=np.float64), self.low, self.high)
        return _stored((values - self.mean) / self.std)

    def decode(self, integers: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """(N, C, *size) float32."""
        return _affine(integers, scale, offset)


def _stored(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float, float]:
    """(int16, scale, offset) that keep the values to 1/65534 of their range."""
    import numpy as np

    low, high = float(values.min()), float(values.max())
    if not high > low:
        return np.zeros(values.shape, np.int16), 1.0, low
    scale, offset = (high - low) / 65534, (high + low) / 2  # -32767 to 32767 around the middle
    return np.rint((values - offset) / scale).astype(np.int16), scale, offset


def _affine(integers: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """integers (N, C, *size) * scale (N,) + offset (N,), float32."""
    shape = (-1,) + (1,) * (integers.ndim - 1)
    return integers.float() * scale.float().view(shape) + offset.float().view(shape)
