"""Accuracy, AUC and F1 of classes. N samples, c classes."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def classification(probabilities: Array, truth: Array) -> dict[str, float]:
    """Accuracy, AUC and F1.

    Args:
        probabilities: (N, c), rows that add up to 1.
        truth: (N,) class numbers.

    Returns: accuracy (by argmax); auc_ovo, every pair of classes against each other (Hand and Till 2001), macro, the
    paper's; auc_ovr, each class against the rest, macro; f1, macro, of two classes the binary F1 of class 1 at 0.5 (the
    paper's RICORD); f1_macro. With two classes both AUCs are that of class 1. Classes without a sample are left out of
    the averages of AUC and F1 unless they are predicted; NaN where nothing is left.
    """
    predicted = probabilities.argmax(1)
    count = probabilities.shape[1]
    present = [k for k in range(count) if (truth == k).any()]
    f1 = [_f1(predicted == k, truth == k) for k in range(count) if (truth == k).any() or (predicted == k).any()]
    macro = float(np.mean(f1)) if f1 else math.nan
    if count == 2:
        auc = _auc(probabilities[:, 1], truth == 1)
        ovo = ovr = auc
        first = _f1(probabilities[:, 1] >= 0.5, truth == 1)
    else:
        pairs = [_pair(probabilities, truth, a, b) for a, b in combinations(present, 2)]
        one_vs_rest = [_auc(probabilities[:, k], truth == k) for k in present]
        ovo, ovr, first = _mean(pairs), _mean(one_vs_rest), macro
    return {
        "accuracy": float((predicted == truth).mean()) if len(truth) else math.nan,
        "auc_ovo": ovo,
        "auc_ovr": ovr,
        "f1": first,
        "f1_macro": macro,
    }


def confusion(probabilities: Array, truth: Array, classes: int) -> list[list[int]]:
    """(c, c) counts: rows are true classes, columns predicted ones."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, probabilities.argmax(1)), 1)
    return [[int(cell) for cell in row] for row in table]


def _pair(probabilities: Array, truth: Array, a: int, b: int) -> float:
    rows = np.isin(truth, (a, b))
    first = _auc(probabilities[rows, a], truth[rows] == a)
    return (first + _auc(probabilities[rows, b], truth[rows] == b)) / 2


def _auc(score: Array, positive: Array) -> float:
    """Area under the ROC curve by ranks, ties halved; NaN where one side is empty."""
    yes = int(positive.sum())
    no = len(positive) - yes
    if not yes or not no:
        return math.nan
    _, place, size = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(size) - (size - 1) / 2  # the mean rank of equal scores, counted from 1
    return float((rank[place][positive].sum() - yes * (yes + 1) / 2) / (yes * no))


def _f1(predicted: Array, truth: Array) -> float:
    hits, total = int((predicted & truth).sum()), int(predicted.sum() + truth.sum())
    return 2 * hits / total if total else 0.0


def _mean(values: list[float]) -> float:
    finite = [value for value in values if not math.isnan(value)]
    return float(np.mean(finite)) if finite else math.nan
