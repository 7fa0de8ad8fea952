"""Nearest neighbours among features, and how often they have the same label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ROWS = 1024
"""Samples compared with all at a time, so that the table of all pairs never exists as a whole."""


def neighbours(features: Array, count: int, groups: Sequence[str] | None = None) -> tuple[Array, Array]:
    """Of each sample (n, D) the nearest others (n, count), nearest first, and their cosines.

    Features are centred first: those of masked modelling have a mean that makes all of them alike. A sample of the same
    group (patient, recording) is no neighbour: windows of one recording are alike whatever was learned. Where fewer than
    `count` are left, -1 stands for the others; columns that would hold nothing else are left out.
    """
    unit = features - features.mean(0)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True).clip(1e-12)
    group = np.arange(len(unit)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    limit = len(unit) - int(np.bincount(group).min(initial=len(unit)))
    nearest, similarities = [], []
    for start in range(0, len(unit), ROWS):
        likeness = unit[start : start + ROWS] @ unit.T
        likeness[group[start : start + ROWS, None] == group[None]] = -np.inf
        order = np.argsort(-likeness, axis=1, kind="stable")[:, : min(count, limit)]
        cosines = np.take_along_axis(likeness, order, axis=1)
        nearest.append(np.where(np.isfinite(cosines), order, -1))
        similarities.append(cosines)
    return np.concatenate(nearest), np.concatenate(similarities)


def agreement(nearest: Array, labels: Sequence[str]) -> float:
    """Share of samples whose nearest neighbours mostly have their label; of a tie the nearest decides.

    A sample without neighbours does not count; NaN where none has any.
    """
    names = np.asarray(labels)
    right = []
    for truth, row in zip(names, nearest, strict=True):
        near = names[row[row >= 0]].tolist()
        if near:
            votes = Counter(near)
            majority = max(votes.values())
            right.append(next(label for label in near if votes[label] == majority) == truth)
    return sum(right) / len(right) if right else float("nan")
