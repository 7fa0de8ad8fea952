"""Accuracy, AUC and F1 of classes. N samples, c classes."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def classification(logits: Array, truth: Array) -> dict[str, float]:
    """Accuracy, AUC and F1.

    Args:
        logits: (N, c), or logarithms of probabilities: a constant added to a row changes nothing. Not probabilities: those of
            sure predictions are all 1 or 0, and such ties have an AUC near 0.5 whatever the order was.
        truth: (N,) class numbers.

    Returns: accuracy (by argmax); auc_ovo, every pair of classes against each other (Hand and Till 2001), macro, the
    paper's; auc_ovr, each class against the rest, macro; f1, macro, of two classes the binary F1 of class 1 at 0.5 (the
    paper's RICORD); f1_macro. With two classes both AUCs are that of class 1. Classes without a sample are left out of
    the averages of AUC and F1 unless they are predicted; NaN where nothing is left.
    """
    predicted = logits.argmax(1)
    count = logits.shape[1]
    odds = _log_odds(logits)
    present = [k for k in range(count) if (truth == k).any()]
    f1 = [_f1(predicted == k, truth == k) for k in range(count) if (truth == k).any() or (predicted == k).any()]
    macro = float(np.mean(f1)) if f1 else math.nan
    if count == 2:
        auc = _auc(odds[:, 1], truth == 1)
        ovo = ovr = auc
        first = _f1(odds[:, 1] >= 0, truth == 1)
    else:
        pairs = [_pair(odds, truth, a, b) for a, b in combinations(present, 2)]
        one_vs_rest = [_auc(odds[:, k], truth == k) for k in present]
        ovo, ovr, first = _mean(pairs), _mean(one_vs_rest), macro
    return {
        "accuracy": float((predicted == truth).mean()) if len(truth) else math.nan,
        "auc_ovo": ovo,
        "auc_ovr": ovr,
        "f1": first,
        "f1_macro": macro,
    }


def confusion(logits: Array, truth: Array, classes: int) -> list[list[int]]:
    """(c, c) counts: rows are true classes, columns those of the highest logit (N, c)."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, logits.argmax(1)), 1)
    return [[int(cell) for cell in row] for row in table]


def _log_odds(logits: Array) -> Array:
    """(N, c) log(p / (1 - p)) of each class: in the order of p, and never saturated."""
    logits = logits.astype(np.float64)
    logits = logits - logits.max(1, keepdims=True)
    columns = []
    for k in range(logits.shape[1]):
        others = np.sort(np.delete(logits, k, axis=1), axis=1)  # sorted: what differs in their order alone is a tie
        columns.append(logits[:, k] - np.logaddexp.reduce(others, axis=1))
    return np.stack(columns, axis=1)


def _pair(odds: Array, truth: Array, a: int, b: int) -> float:
    rows = np.isin(truth, (a, b))
    first = _auc(odds[rows, a], truth[rows] == a)
    return (first + _auc(odds[rows, b], truth[rows] == b)) / 2


def _auc(score: Array, positive: Array) -> float:
    """Area under the ROC curve: how often a positive case is above another one, ties halved; NaN where one side is empty."""
    yes = int(positive.sum())
    no = len(positive) - yes
    if not yes or not no:
        return math.nan
    chosen, rest = score[positive], np.sort(score[~positive])
    below, not_above = (int(np.searchsorted(rest, chosen, side).sum()) for side in ("left", "right"))
    return (below + not_above) / (2 * yes * no)


def _f1(predicted: Array, truth: Array) -> float:
    hits, total = int((predicted & truth).sum()), int(predicted.sum() + truth.sum())
    return 2 * hits / total if total else 0.0


def _mean(values: list[float]) -> float:
    finite = [value for value in values if not math.isnan(value)]
    return float(np.mean(finite)) if finite else math.nan
