"""Dice, Hausdorff distance and objects of masks: bool arrays (H, W) or (D, H, W) on the case's own grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

PENALTY = 500.0
"""HD95 in voxels where one of two masks is empty (the authors' code)."""
_SUMS = ("missed", "false_alarm")


def dice(found: Array, wanted: Array) -> float:
    """2 |P and G| / (|P| + |G|); 1 where both are empty."""
    both, either = int((found & wanted).sum()), int(found.sum()) + int(wanted.sum())
    return 2 * both / either if either else 1.0


def dice_paper(found: Array, wanted: Array) -> float:
    """Dice as the paper's numbers have it: in space with 1 added to the denominator, so that two empty masks give 0."""
    if found.ndim == 2:
        return dice(found, wanted)
    return 2 * int((found & wanted).sum()) / (int(found.sum()) + int(wanted.sum()) + 1)


def hd95(found: Array, wanted: Array, spacing: Sequence[float] | None = None) -> float:
    """95th percentile of surface distances of both directions together (medpy's, the paper's).

    Args:
        spacing: mm per axis; None: distances in voxels.

    Returns: 0 where both are empty. Where one is: 500 voxels as in the authors' code; in mm NaN, since no distance is
    true, and `missed` or `false_alarm` counts the case.
    """
    ends = _distances(found, wanted, spacing)
    if ends is None:
        return _empty(found, wanted, spacing)
    return float(np.percentile(np.concatenate(ends), 95))


def hd95_directed(found: Array, wanted: Array, spacing: Sequence[float] | None = None) -> float:
    """The larger of the two directions' 95th percentiles (MONAI's); empty masks as in `hd95`."""
    ends = _distances(found, wanted, spacing)
    if ends is None:
        return _empty(found, wanted, spacing)
    return float(max(np.percentile(end, 95) for end in ends))


def _empty(found: Array, wanted: Array, spacing: Sequence[float] | None) -> float:
    if not found.any() and not wanted.any():
        return 0.0
    return PENALTY if spacing is None else math.nan


def _distances(found: Array, wanted: Array, spacing: Sequence[float] | None) -> tuple[Array, Array] | None:
    """Distances of each surface voxel to the other surface; None where a mask is empty."""
    from scipy import ndimage

    if not found.any() or not wanted.any():
        return None
    box = _box(found | wanted)
    found, wanted = found[box], wanted[box]
    face = ndimage.generate_binary_structure(found.ndim, 1)
    surfaces = [mask & ~ndimage.binary_erosion(mask, face) for mask in (found, wanted)]
    away = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    return away[1][surfaces[0]], away[0][surfaces[1]]


def _box(mask: Array) -> tuple[slice, ...]:
    """The smallest box around a mask: both surfaces lie in it, so nothing beyond it matters."""
    sides = []
    for axis in range(mask.ndim):
        there = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        sides.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(sides)


def mask_case(
    found: Mapping[str, Array], wanted: Mapping[str, Array], spacing: Sequence[float] | None
) -> dict[str, float]:
    """All measures of one case, by class: dice_c, dice_paper_c, hd95_c (voxels), hd95_directed_c, hd95_mm_c (with spacing),
    missed_c (there, but nothing found) and false_alarm_c (found, but nothing there)."""
    measured: dict[str, float] = {}
    for name, mask in wanted.items():
        own = found[name]
        measured[f"dice_{name}"] = dice(own, mask)
        measured[f"dice_paper_{name}"] = dice_paper(own, mask)
        measured[f"hd95_{name}"] = hd95(own, mask)
        measured[f"hd95_directed_{name}"] = hd95_directed(own, mask)
        if spacing is not None:
            measured[f"hd95_mm_{name}"] = hd95(own, mask, spacing)
        measured[f"missed_{name}"] = float(mask.any() and not own.any())
        measured[f"false_alarm_{name}"] = float(own.any() and not mask.any())
    return measured


def mask_summary(cases: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over cases, by class, and over classes (`dice`, `hd95`, ...); missed and false alarms are added up.

    NaN (mm where a mask is empty) is left out of its mean; the counts tell how often.
    """
    names = list(dict.fromkeys(key for case in cases for key in case))
    by_class: dict[str, float] = {}
    for name in names:
        values = [case[name] for case in cases if name in case and not math.isnan(case[name])]
        if name.startswith(tuple(f"{kind}_" for kind in _SUMS)):
            by_class[name] = float(sum(values))
        else:
            by_class[name] = float(np.mean(values)) if values else math.nan
    classes = [name.removeprefix("missed_") for name in names if name.startswith("missed_")]
    whole: dict[str, float] = {}
    for kind in ("dice", "dice_paper", "hd95", "hd95_directed", "hd95_mm", *_SUMS):
        own = [value for c in classes if (value := by_class.get(f"{kind}_{c}")) is not None and not math.isnan(value)]
        if own:
            whole[kind] = float(sum(own)) if kind in _SUMS else float(np.mean(own))
    return whole | by_class


def object_f1(found: Array, wanted: Array) -> float:
    """F1 of objects (the GlaS challenge): one is found if it covers more than half of the true object it overlaps most.

    Args:
        found: (H, W) bool; its connected components are objects.
        wanted: (H, W) bool, or whole numbers that tell touching objects apart.

    Returns: 1 where both are empty.
    """
    from scipy import ndimage

    objects, count = ndimage.label(found, np.ones((3, 3)))
    true = wanted if wanted.dtype.kind in "iu" else ndimage.label(wanted, np.ones((3, 3)))[0]
    sizes = {int(k): int(n) for k, n in zip(*np.unique(true[true > 0], return_counts=True), strict=True)}
    hit: set[int] = set()
    for number in range(1, count + 1):
        under = true[(objects == number) & (true > 0)]
        if len(under):
            most = np.bincount(under)
            best = int(most.argmax())
            if best not in hit and most[best] > sizes[best] / 2:
                hit.add(best)
    total = count + len(sizes)
    return 2 * len(hit) / total if total else 1.0
