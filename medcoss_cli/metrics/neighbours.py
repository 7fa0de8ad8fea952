"""Nearest neighbours among features, and how often they have the same label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ROWS = 1024
"""Samples compared with all at a time, so that the table of all pairs never exists as a whole."""


def neighbours(features: Array, count: int) -> tuple[Array, Array]:
    """Of each sample (n, D) the nearest others (n, count), nearest first, and their cosines.

    Features are centred first: those of masked modelling have a mean that makes all of them alike.
    """
    unit = features - features.mean(0)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True).clip(1e-12)
    nearest, near = [], []
    for start in range(0, len(unit), ROWS):
        likeness = unit[start : start + ROWS] @ unit.T
        likeness[np.arange(len(likeness)), np.arange(start, start + len(likeness))] = -np.inf
        order = np.argsort(-likeness, axis=1, kind="stable")[:, : min(count, len(unit) - 1)]
        nearest.append(order)
        near.append(np.take_along_axis(likeness, order, axis=1))
    return np.concatenate(nearest), np.concatenate(near)


def agreement(nearest: Array, labels: Sequence[str]) -> float:
    """Share of samples whose nearest neighbours mostly have their label; of a tie the nearest decides."""
    names = np.asarray(labels)
    right = 0
    for own, row in zip(names, nearest, strict=True):
        votes = Counter(names[row].tolist())
        most = max(votes.values())
        right += next(label for label in names[row].tolist() if votes[label] == most) == own
    return right / len(names)
