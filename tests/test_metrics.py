"""Metrics against scikit-learn, MONAI and brute force; what is done where a mask or a class is empty."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from medcoss_cli.metrics import (
    bootstrap,
    classification,
    confusion,
    dice,
    dice_paper,
    hd95,
    hd95_directed,
    mask_case,
    mask_summary,
    object_f1,
)
from medcoss_cli.postprocess import largest_organ

Array = np.ndarray[Any, Any]


def scores(n: int, classes: int, seed: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), generator.integers(classes, size=n - classes)])
    logits = generator.normal(size=(n, classes)).round(1)  # ties
    logits[np.arange(n), truth] += 1.0
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), truth


@pytest.mark.parametrize("classes", [3, 5, 9])
@pytest.mark.parametrize("seed", range(5))
def test_classes_agree_with_scikit_learn(classes: int, seed: int) -> None:
    probabilities, truth = scores(60, classes, seed)
    known = classification(probabilities, truth)
    predicted = probabilities.argmax(1)
    assert known["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted), abs=1e-12)
    for key, way in (("auc_ovo", "ovo"), ("auc_ovr", "ovr")):
        wanted = sk.roc_auc_score(truth, probabilities, average="macro", multi_class=way)
        assert known[key] == pytest.approx(wanted, abs=1e-9)
    assert known["f1"] == known["f1_macro"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"), abs=1e-12)
    assert confusion(probabilities, truth, classes) == sk.confusion_matrix(truth, predicted).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_are_the_binary_case_of_scikit_learn(seed: int) -> None:
    probabilities, truth = scores(40, 2, seed)
    known = classification(probabilities, truth)
    assert known["auc_ovo"] == known["auc_ovr"] == pytest.approx(sk.roc_auc_score(truth, probabilities[:, 1]), abs=1e-9)
    assert known["f1"] == pytest.approx(sk.f1_score(truth, probabilities[:, 1] >= 0.5), abs=1e-12)
    assert known["f1_macro"] == pytest.approx(sk.f1_score(truth, probabilities.argmax(1), average="macro"), abs=1e-12)


def test_a_class_nobody_has_is_left_out_of_averages() -> None:
    probabilities, truth = scores(30, 4, 0)
    kept = truth != 2
    known = classification(probabilities[kept], truth[kept])
    pairs = [k for k in range(4) if k != 2]
    wanted = [
        sk.roc_auc_score(truth[own] == k, probabilities[own, k])
        for a, b in itertools.combinations(pairs, 2)
        for k in (a, b)
        if (own := np.isin(truth, (a, b))).any()
    ]
    assert known["auc_ovo"] == pytest.approx(np.mean(wanted), abs=1e-9)
    alone = classification(probabilities[truth == 1], truth[truth == 1])
    assert math.isnan(alone["auc_ovr"])
    assert alone["accuracy"] >= 0


def blobs(seed: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    found, wanted = (generator.random(shape) > 0.7 for _ in range(2))
    found.flat[0] = wanted.flat[-1] = True
    return found, wanted


def brute(found: Array, wanted: Array, spacing: tuple[float, ...]) -> tuple[list[float], list[float]]:
    """Surface distances of both directions, written as loops."""

    def surface(mask: Array) -> list[tuple[int, ...]]:
        own = []
        for place in itertools.product(*map(range, mask.shape)):
            if mask[place]:
                near = [
                    (*place[:axis], place[axis] + step, *place[axis + 1 :])
                    for axis in range(mask.ndim)
                    for step in (-1, 1)
                ]
                inside = [all(0 <= p < n for p, n in zip(one, mask.shape, strict=True)) and mask[one] for one in near]
                if not all(inside):
                    own.append(place)
        return own

    def away(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        return math.sqrt(sum(((x - y) * s) ** 2 for x, y, s in zip(a, b, spacing, strict=True)))

    ends = surface(found), surface(wanted)
    return [min(away(a, b) for b in ends[1]) for a in ends[0]], [min(away(b, a) for a in ends[0]) for b in ends[1]]


@pytest.mark.parametrize("shape", [(9, 8), (5, 6, 4)])
@pytest.mark.parametrize("seed", range(4))
def test_hd95_is_the_percentile_of_both_directions_together(seed: int, shape: tuple[int, ...]) -> None:
    found, wanted = blobs(seed, shape)
    spacing = (2.5, 0.7, 1.3)[: len(shape)]
    for steps, given_ in ((spacing, spacing), ((1.0,) * len(shape), None)):
        there, back = brute(found, wanted, steps)
        assert hd95(found, wanted, given_) == pytest.approx(np.percentile(there + back, 95), abs=1e-6)


@pytest.mark.parametrize("shape", [(24, 20), (12, 14, 10)])
@pytest.mark.parametrize("seed", range(4))
def test_directed_hd95_is_monais(seed: int, shape: tuple[int, ...]) -> None:
    from monai.metrics import compute_hausdorff_distance

    found, wanted = blobs(seed, shape)
    spacing = (2.0, 0.5, 1.5)[: len(shape)]
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (found, wanted)]
    for steps in (None, spacing):
        theirs = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=steps).item()
        assert hd95_directed(found, wanted, steps) == pytest.approx(theirs, abs=1e-4)  # MONAI computes in float32


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.integers(0, 3), scale=st.floats(0.2, 5))
def test_distances_are_symmetric_do_not_move_and_grow_with_spacing(seed: int, shift: int, scale: float) -> None:
    found, wanted = blobs(seed, (7, 6))
    there = hd95(found, wanted, (1.0, 2.0))
    assert hd95(wanted, found, (1.0, 2.0)) == pytest.approx(there)
    moved = [np.pad(mask, ((shift, 3), (1, shift))) for mask in (found, wanted)]
    assert hd95(*moved, (1.0, 2.0)) == pytest.approx(there)
    assert hd95(found, wanted, (scale, 2 * scale)) == pytest.approx(scale * there)
    assert 0 <= dice_paper(found[None], wanted[None]) < dice(found, wanted) <= 1


def test_what_is_done_where_a_mask_is_empty() -> None:
    nothing, something = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    something[1:3, 1:3, 1:3] = True
    assert (dice(nothing, nothing), dice_paper(nothing, nothing), hd95(nothing, nothing)) == (1.0, 0.0, 0.0)
    assert (dice(nothing, something), hd95(nothing, something), hd95(something, nothing)) == (0.0, 500.0, 500.0)
    assert dice_paper(something, something) == pytest.approx(16 / 17)
    assert dice_paper(nothing[0], nothing[0]) == 1.0  # in the plane the paper's Dice is exact
    cases = [
        mask_case({"a": nothing}, {"a": something}, (1.0, 1.0, 1.0)),
        mask_case({"a": something}, {"a": nothing}, (1.0, 1.0, 1.0)),
        mask_case({"a": something}, {"a": something}, (1.0, 1.0, 1.0)),
    ]
    assert math.isnan(cases[0]["hd95_mm_a"])
    summary = mask_summary(cases)
    assert (summary["missed_a"], summary["false_alarm_a"], summary["hd95_mm_a"]) == (1.0, 1.0, 0.0)
    assert summary["dice"] == pytest.approx(1 / 3)
    assert summary["hd95"] == pytest.approx(1000 / 3)


def test_objects_are_found_by_more_than_half() -> None:
    wanted = np.zeros((12, 12), int)
    wanted[1:5, 1:5], wanted[7:11, 7:11] = 1, 2
    found = np.zeros((12, 12), bool)
    found[1:5, 1:4] = True  # three quarters of the first
    found[7:9, 7:11] = True  # half of the second: not found
    assert object_f1(found, wanted) == pytest.approx(2 * 1 / (2 + 2))
    assert object_f1(wanted > 0, wanted) == 1.0
    assert object_f1(np.zeros((4, 4), bool), np.zeros((4, 4), bool)) == 1.0
    touching = np.repeat([[1, 2]], 4, axis=1)  # one object over two that touch
    assert object_f1(np.ones((1, 8), bool), touching) == pytest.approx(2 / 3)  # it finds one, the other is missed


def test_intervals_resample_patients_not_cases() -> None:
    groups = ["a"] * 50 + ["b"] * 50
    values = np.array([0.0] * 50 + [1.0] * 50)
    low, high = bootstrap(groups, lambda own: {"mean": float(values[own].mean())}, seed=0)["mean"]
    assert (low, high) == (0.0, 1.0)  # by case it would be 0.4 to 0.6
    assert bootstrap(groups, lambda own: {"mean": float(values[own].mean())}, seed=0)["mean"] == (low, high)
    assert all(math.isnan(end) for end in bootstrap(["a"] * 9, lambda own: {"mean": 0.0}, seed=0)["mean"])


def test_the_largest_organ_keeps_its_large_tumours() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:14, 2:14, 2:14] = 1
    labels[3:8, 3:8, 3:8] = 2  # 125 voxels
    labels[10:12, 10:12, 10:12] = 2  # 8 voxels: becomes organ
    labels[17:19, 17:19, 17:19] = 2  # outside: removed
    cleaned = largest_organ(labels)
    assert (cleaned == 2).sum() == 125
    assert (cleaned > 0).sum() == 12**3
    assert not largest_organ(np.zeros_like(labels)).any()
