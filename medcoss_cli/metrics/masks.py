"""Dice, Hausdorff distance and objects of masks: bool arrays (H, W) or (D, H, W) on the case's own grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

EMPTY_PENALTY = 500.0
"""HD95 in voxels where one of two masks is empty (the authors' code)."""
_LESIONS = ("lesions_found", "lesions", "false_lesions")
_SUMS = ("missed", "with", "false_alarm", "without", "n_empty", *_LESIONS)
OF = {"missed": "with", "false_alarm": "without", "lesions_found": "lesions"}
"""What is counted, and of how many; where there are none of these, the count is NaN: nothing was tested."""


def dice(predicted: Array, truth: Array) -> float:
    """2 |P and G| / (|P| + |G|); 1 where both are empty."""
    overlap, total = int((predicted & truth).sum()), int(predicted.sum()) + int(truth.sum())
    return 2 * overlap / total if total else 1.0


def dice_paper(predicted: Array, truth: Array) -> float:
    """Dice as the paper's numbers have it: in space with 1 added to the denominator, so that two empty masks give 0."""
    if predicted.ndim == 2:
        return dice(predicted, truth)
    return 2 * int((predicted & truth).sum()) / (int(predicted.sum()) + int(truth.sum()) + 1)


def hd95(predicted: Array, truth: Array, spacing: Sequence[float] | None = None) -> float:
    """95th percentile of surface distances of both directions together (medpy's, the paper's).

    Args:
        spacing: mm per axis; None: distances in voxels.

    Returns: 0 where both are empty. Where one is: 500 voxels as in the authors' code; in mm NaN, since no distance is
    true, and `missed` or `false_alarm` counts the case.
    """
    return _hausdorff(predicted, truth, spacing)[0]


def hd95_directed(predicted: Array, truth: Array, spacing: Sequence[float] | None = None) -> float:
    """The larger of the two directions' 95th percentiles (MONAI's); empty masks as in `hd95`."""
    return _hausdorff(predicted, truth, spacing)[1]


def _hausdorff(predicted: Array, truth: Array, spacing: Sequence[float] | None) -> tuple[float, float]:
    """Pooled and directed, from distances that are computed once: they take seconds in a large volume."""
    occupied = predicted.any(), truth.any()
    if not any(occupied):
        return 0.0, 0.0
    if not all(occupied):
        empty = EMPTY_PENALTY if spacing is None else math.nan
        return empty, empty
    ends = _distances(predicted, truth, spacing)
    pooled = float(np.percentile(np.concatenate(ends), 95))
    return pooled, float(max(np.percentile(end, 95) for end in ends))


def _distances(predicted: Array, truth: Array, spacing: Sequence[float] | None) -> tuple[Array, Array]:
    """Distances of each surface voxel to the other surface; neither mask is empty."""
    from scipy import ndimage

    box = _box(predicted | truth)
    predicted, truth = predicted[box], truth[box]
    face = ndimage.generate_binary_structure(predicted.ndim, 1)
    # erosion takes what is beyond the box for empty, as it is, so the box needs no margin
    surfaces = [mask & ~ndimage.binary_erosion(mask, face) for mask in (predicted, truth)]
    away = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    return away[1][surfaces[0]], away[0][surfaces[1]]


def _box(mask: Array) -> tuple[slice, ...]:
    """The smallest box around a mask: both surfaces lie in it, so nothing beyond it matters."""
    sides = []
    for axis in range(mask.ndim):
        occupied = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        sides.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(sides)


def mask_case(
    predicted: Mapping[str, Array],
    truth: Mapping[str, Array],
    spacing: Sequence[float] | None,
    objects: Mapping[str, Array] | None = None,
) -> dict[str, float]:
    """All measures of one case, by class: dice_c, dice_paper_c, hd95_c (voxels), hd95_directed_c, hd95_mm_c (with spacing).

    Detection: with_c or without_c is 1 as the class is there or not; missed_c is 1 where it is there and no voxel of it was
    found; false_alarm_c where it is not there and something was found; n_empty_c where one of both masks is empty. lesions_c
    counts the true mask's connected components (corners touch), lesions_found_c those that the prediction overlaps by a voxel or
    more, false_lesions_c the prediction's components that overlap nothing true.

    Source: detection by overlap as in Gatidis et al. 2022 (autoPET).

    Args:
        objects: (H, W) true masks with numbers that tell touching objects apart; given in the plane, object_f1_c is there.
    """
    measured: dict[str, float] = {}
    for name, mask in truth.items():
        prediction = predicted[name]
        measured[f"dice_{name}"] = dice(prediction, mask)
        measured[f"dice_paper_{name}"] = dice_paper(prediction, mask)
        measured[f"hd95_{name}"], measured[f"hd95_directed_{name}"] = _hausdorff(prediction, mask, None)
        if spacing is not None:
            measured[f"hd95_mm_{name}"] = hd95(prediction, mask, spacing)
        if objects is not None:
            measured[f"object_f1_{name}"] = object_f1(prediction, objects[name])
        measured |= {f"{kind}_{name}": value for kind, value in _detection(prediction, mask).items()}
    return measured


def _detection(predicted: Array, truth: Array) -> dict[str, float]:
    present, something = bool(truth.any()), bool(predicted.any())
    lesions = found = false = 0
    if present or something:
        box = _box(predicted | truth)
        predicted, truth = predicted[box], truth[box]
        parts, lesions = _components(truth)
        found = len(np.unique(parts[predicted & truth]))
        parts, count = _components(predicted)
        false = count - len(np.unique(parts[predicted & truth]))
    counts = {
        "missed": present and not found,
        "with": present,
        "false_alarm": something and not present,
        "without": not present,
        "n_empty": present != something,
        "lesions_found": found,
        "lesions": lesions,
        "false_lesions": false,
    }
    return {kind: float(count) for kind, count in counts.items()}


def mask_summary(cases: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over cases, by class, and over classes (`dice`, `hd95`, ...); counts are added up.

    Where both masks of a case are empty, it counts as solved: Dice 1 (dice_paper in space 0), distance 0. Where one is,
    Dice is 0, hd95 and hd95_directed are 500 voxels, and hd95_mm, being NaN, is left out of its mean: n_empty_c tells how
    many cases that are. A count of `OF` is NaN where there was nothing to count among. A class whose mm are NaN in every
    case is left out of `hd95_mm`, which is missing if all are.
    """
    names = list(dict.fromkeys(key for case in cases for key in case))
    classes = [name.removeprefix("missed_") for name in names if name.startswith("missed_")]
    by_class: dict[str, float] = {}
    for name in names:
        values = [case[name] for case in cases if name in case and not math.isnan(case[name])]
        if name.startswith(tuple(f"{kind}_" for kind in _SUMS)):
            by_class[name] = float(sum(values))
        else:
            by_class[name] = float(np.mean(values)) if values else math.nan
    for c in classes:
        for kind, among in OF.items():
            if not by_class[f"{among}_{c}"]:
                by_class[f"{kind}_{c}"] = math.nan
    means: dict[str, float] = {}
    for kind in ("dice", "dice_paper", "object_f1", "hd95", "hd95_directed", "hd95_mm", *_SUMS):
        class_values = [
            value for c in classes if (value := by_class.get(f"{kind}_{c}")) is not None and not math.isnan(value)
        ]
        if class_values:
            means[kind] = float(sum(class_values)) if kind in _SUMS else float(np.mean(class_values))
    return means | by_class


def object_f1(predicted: Array, truth: Array) -> float:
    """F1 of objects (the GlaS challenge): one is found if it covers more than half of the true object it overlaps most.

    Args:
        predicted: (H, W) bool; its connected components (8 neighbours) are objects.
        truth: (H, W) bool, or whole numbers that tell touching objects apart; where one number is all there is, it is
            a mask as bool is, and its connected components are the objects.

    Returns: 1 where both are empty.
    Source: Sirinukunwattana et al. 2017, the GlaS challenge contest.
    """
    objects, count = _components(predicted)
    true = truth.astype(np.int64) if len(np.unique(truth[truth > 0])) > 1 else _components(truth > 0)[0]
    sizes = np.bincount(true[true > 0], minlength=1)
    overlap = (objects > 0) & (true > 0)
    pairs, shared = np.unique(objects[overlap].astype(np.int64) * len(sizes) + true[overlap], return_counts=True)
    number, under = np.divmod(pairs, len(sizes))
    order = np.lexsort((-shared, number))  # by object, its best first; of two as good the lower number
    best = order[np.unique(number[order], return_index=True)[1]]
    hit = np.unique(under[best][shared[best] > sizes[under[best]] / 2])
    total = count + np.count_nonzero(sizes)
    return 2 * len(hit) / total if total else 1.0


def _components(mask: Array) -> tuple[Array, int]:
    from scipy import ndimage

    parts, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return parts, int(count)
