"""Intervals of metrics by resampling patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def bootstrap(
    groups: Sequence[str], statistic: Callable[[Array], dict[str, float]], seed: int, draws: int = 1000
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals; whole groups (patients) are drawn with replacement, never single cases.

    Args:
        groups: of each case.
        statistic: metrics of the cases with these numbers, which may repeat; NaN where one cannot be told.

    Returns: (low, high) by metric, NaN where there is one group only or no draw tells the metric.
    """
    names, owner = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(owner == i) for i in range(len(names))]
    if len(names) < 2:
        return dict.fromkeys(statistic(np.arange(len(groups))), (math.nan, math.nan))
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(draws):
        numbers = generator.integers(len(names), size=len(names))
        for name, value in statistic(np.concatenate([members[i] for i in numbers])).items():
            drawn.setdefault(name, []).append(value)
    return {name: _interval(np.array(values)) for name, values in drawn.items()}


def group_numbers(groups: Sequence[str]) -> Array:
    """(N,) a number for each case's group; names are not needed to draw groups."""
    numbers: Array = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    return numbers


def _interval(values: Array) -> tuple[float, float]:
    finite = values[~np.isnan(values)]
    if not len(finite):
        return math.nan, math.nan
    low, high = np.percentile(finite, (2.5, 97.5))
    return float(low), float(high)
