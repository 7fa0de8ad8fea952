"""What samples look like in numbers, in the range that the encoder sees, and which of them are unlike the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medcoss_cli.plugin import CompleteModality, Sample

Array = np.ndarray[Any, Any]

NARROW = 0.15
"""Share of the encoder's range that a picture's values fill, the outermost hundredths left out, below which it is flat."""
ENDS = 0.75
"""Share of a picture's values at the two ends of the range above which most of it is clipped."""
APART = 0.25
"""Share of the range by which a mean is far off the others'; or FAR times their spread, if that is more."""
FAR = 5.0
RATIO = 2.0
"""How many times larger or smaller a size or a spacing may be than the others'."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Numbers of one sample, or the medians of a set."""

    low: float
    mean: float
    high: float
    filled: float
    """Share of the range between the 1st and the 99th percentile of its values."""
    ends: float
    """Share of its values that are at one of the two ends of the range."""
    size: tuple[int, ...]
    """As read, before it is brought to the encoder's size."""
    spacing: tuple[float, ...] | None

    @property
    def text(self) -> str:
        """One line: least, mean and largest value, share at the ends, size and spacing."""
        steps = "no spacing" if self.spacing is None else f"{_by(self.spacing)} mm"
        values = f"{self.low:.2f} | {self.mean:.2f} | {self.high:.2f}"
        return f"{values}, {self.ends:.0%} at the ends, {_by(self.size)}, {steps}"


def range_of(modality: CompleteModality, values: Array) -> tuple[float, float]:
    """The range that pictures are drawn in: what the encoder sees, or what its rule has as usual, or of all the values."""
    bounds = getattr(modality.intensity, "seen", None) or getattr(modality.intensity, "usual", None)
    if bounds is not None:
        return float(bounds[0]), float(bounds[1])
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1)


def statistics(values: Array, sample: Sample, bounds: tuple[float, float]) -> Statistics:
    """Of one sample, whose values (C, *size) the encoder sees in `bounds`."""
    low, high = bounds
    slack = 1e-3 * (high - low)
    first, last = np.percentile(values, (1, 99))
    ends = float(((values <= low + slack) | (values >= high - slack)).mean())
    return Statistics(
        float(values.min()),
        float(values.mean()),
        float(values.max()),
        float(last - first) / (high - low),
        ends,
        tuple(sample.array.shape[1:]),
        sample.spacing,
    )


def of_set(members: Sequence[Statistics]) -> Statistics:
    """The medians of a set."""
    middle = {
        name: float(np.median([getattr(item, name) for item in members]))
        for name in ("low", "mean", "high", "filled", "ends")
    }
    steps = [item.spacing for item in members if item.spacing is not None]
    size = np.median([item.size for item in members], axis=0)
    spacing = tuple(np.median(steps, axis=0).tolist()) if steps else None
    return Statistics(**middle, size=tuple(int(side) for side in size), spacing=spacing)


def unlike(items: Sequence[tuple[str, Statistics]], bounds: tuple[float, float]) -> list[str]:
    """What is unusual of samples or sets, by itself and beside the others, one sentence for each.

    Args:
        items: names, and numbers.
        bounds: of the range that the encoder sees.
    """
    notes = []
    for number, (name, item) in enumerate(items):
        if item.filled < NARROW:
            notes.append(
                f"{name} fills {item.filled:.0%} of the range that the encoder sees ({item.low:.2f} to {item.high:.2f}): "
                "little contrast is left"
            )
        elif item.ends > ENDS:
            notes.append(f"{name} has {item.ends:.0%} of its values at the ends of the range: most of it is clipped")
        others = [other for place, (_, other) in enumerate(items) if place != number]
        if len(others) > 1 or number == 1:  # of two, the second is compared with the first
            notes += [f"{name} {what}" for what in _differences(item, others, bounds)]
    return notes


def _differences(item: Statistics, others: Sequence[Statistics], bounds: tuple[float, float]) -> list[str]:
    usual = of_set(others)
    spread = float(np.median([abs(other.mean - usual.mean) for other in others]))
    found = []
    if abs(item.mean - usual.mean) > max(APART * (bounds[1] - bounds[0]), FAR * spread):
        found.append(f"has a mean of {item.mean:.2f} where the others have {usual.mean:.2f}")
    if _far(item.size, usual.size):
        found.append(f"is {_by(item.size)} where the others are {_by(usual.size)}")
    if item.spacing is None and usual.spacing is not None:
        found.append(f"has no spacing where the others have {_by(usual.spacing)} mm")
    elif item.spacing is not None and usual.spacing is not None and _far(item.spacing, usual.spacing):
        found.append(f"has a spacing of {_by(item.spacing)} mm where the others have {_by(usual.spacing)} mm")
    return found


def _far(values: Sequence[float], others: Sequence[float]) -> bool:
    shares = np.array(values, float) / np.maximum(np.array(others, float), 1e-9)
    return bool(shares.max() > RATIO or shares.min() < 1 / RATIO)


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:.3g}" if isinstance(number, float) else str(number) for number in numbers)
