"""Differences between methods on the same test cases: bootstrap over patients and seeds, corrected for many tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
Rescore = Callable[[Arrays], Mapping[str, float]]


@dataclass(frozen=True)
class Difference:
    """A method minus the reference.

    Args:
        mean: over the seeds, on all cases.
        low, high: 95 % percentile interval.
        p: two-sided; the share of draws on the other side of 0, doubled.
    """

    mean: float
    low: float
    high: float
    p: float


def draws_of(
    runs: Sequence[Arrays], rescore: Rescore, metrics: Sequence[str], seed: int, draws: int
) -> dict[str, Array]:
    """(draws, seeds) values of each metric on resampled patients; the same draw holds the same patients for every method.

    Args:
        runs: of each seed the arrays of its test cases, "group" among them; the cases are the same for all seeds.
    """
    group = runs[0]["group"]
    members = [np.flatnonzero(group == number) for number in np.unique(group)]
    generator = np.random.default_rng(seed)
    values = {metric: np.full((draws, len(runs)), np.nan) for metric in metrics}
    for draw in range(draws):
        chosen = np.concatenate([members[i] for i in generator.integers(len(members), size=len(members))])
        for column, arrays in enumerate(runs):
            scores = rescore({name: array[chosen] for name, array in arrays.items()})
            for metric in metrics:
                values[metric][draw, column] = scores.get(metric, np.nan)
    return values


def difference(ours: Array, reference: Array, mean: float, seed: int) -> Difference:
    """Interval and p of a difference, from what `draws_of` gave of both; seeds are resampled as well, in pairs.

    Args:
        mean: the difference on all cases.
    """
    draws, seeds = ours.shape
    picks = np.random.default_rng(seed).integers(seeds, size=(draws, seeds))
    gaps = np.take_along_axis(ours - reference, picks, axis=1).mean(axis=1)
    gaps = gaps[~np.isnan(gaps)]
    if not len(gaps):
        return Difference(mean, np.nan, np.nan, np.nan)
    low, high = np.percentile(gaps, (2.5, 97.5))
    below, above = int((gaps <= 0).sum()), int((gaps >= 0).sum())
    return Difference(mean, float(low), float(high), min(1.0, 2 * (min(below, above) + 1) / (len(gaps) + 1)))


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for as many tests (Holm 1979); NaN stays and does not count."""
    corrected = [float("nan")] * len(values)
    known = sorted((p, i) for i, p in enumerate(values) if p == p)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[i] = largest
    return corrected


def same_cases(runs: Sequence[Arrays]) -> bool:
    """Have all runs the same test cases, as far as their patients' numbers tell?"""
    return all(np.array_equal(run["group"], runs[0]["group"]) for run in runs)
