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
    EMPTY_PENALTY,
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
from medcoss_cli.tasks.segmentation import Segmentation

Array = np.ndarray[Any, Any]


def scores(n: int, classes: int, seed: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), generator.integers(classes, size=n - classes)])
    logits = (8 * generator.normal(size=(n, classes))).round() / 8  # ties, and sums without rounding
    logits[np.arange(n), truth] += 1.0
    return logits, truth


def softmax(logits: Array) -> Array:
    """In the order of the logits to the last bit but one, so that ties are ties."""
    powers = np.exp(logits)
    return (powers / powers.sum(1, keepdims=True)).round(12)


@pytest.mark.parametrize("classes", [3, 5, 9])
@pytest.mark.parametrize("seed", range(5))
def test_classes_agree_with_scikit_learn(classes: int, seed: int) -> None:
    logits, truth = scores(60, classes, seed)
    known, probabilities = classification(logits, truth), softmax(logits)
    predicted = logits.argmax(1)
    assert known["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted), abs=1e-12)
    for key, way in (("auc_ovo", "ovo"), ("auc_ovr", "ovr")):
        wanted = sk.roc_auc_score(truth, probabilities, average="macro", multi_class=way)
        assert known[key] == pytest.approx(wanted, abs=1e-9)
    assert known["f1"] == known["f1_macro"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"), abs=1e-12)
    assert confusion(logits, truth, classes) == sk.confusion_matrix(truth, predicted).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_are_the_binary_case_of_scikit_learn(seed: int) -> None:
    logits, truth = scores(40, 2, seed)
    known, probabilities = classification(logits, truth), softmax(logits)
    assert known["auc_ovo"] == known["auc_ovr"] == pytest.approx(sk.roc_auc_score(truth, probabilities[:, 1]), abs=1e-9)
    assert known["f1"] == pytest.approx(sk.f1_score(truth, probabilities[:, 1] >= 0.5), abs=1e-12)
    assert known["f1_macro"] == pytest.approx(sk.f1_score(truth, probabilities.argmax(1), average="macro"), abs=1e-12)


def test_a_class_nobody_has_is_left_out_of_averages() -> None:
    logits, truth = scores(30, 4, 0)
    kept = truth != 2
    known, probabilities = classification(logits[kept], truth[kept]), softmax(logits)
    pairs = [k for k in range(4) if k != 2]
    wanted = [
        sk.roc_auc_score(truth[own] == k, probabilities[own, k])
        for a, b in itertools.combinations(pairs, 2)
        for k in (a, b)
        if (own := np.isin(truth, (a, b))).any()
    ]
    assert known["auc_ovo"] == pytest.approx(np.mean(wanted), abs=1e-9)
    alone = classification(logits[truth == 1], truth[truth == 1])
    assert math.isnan(alone["auc_ovr"])
    assert alone["accuracy"] >= 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 25), classes=st.integers(2, 5))
def test_metrics_of_classes_lie_in_their_range_and_know_no_order(seed: int, n: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, classes)).round()  # ties
    truth = generator.integers(classes, size=n)  # classes may be absent
    known = classification(logits, truth)
    assert all(math.isnan(value) or 0 <= value <= 1 for value in known.values())
    assert math.isnan(known["auc_ovo"]) == math.isnan(known["auc_ovr"]) == (len(set(truth)) < 2)
    shuffled = generator.permutation(n)
    assert classification(logits[shuffled], truth[shuffled]) == pytest.approx(known, nan_ok=True)
    sure = classification(np.eye(classes)[truth], truth)
    assert all(math.isnan(value) or value == 1 for key, value in sure.items() if key != "f1" or 1 in truth)
    assert sum(map(sum, confusion(logits, truth, classes))) == n


def test_a_tie_at_one_half_is_class_0_for_accuracy_and_class_1_for_the_binary_f1() -> None:
    known = classification(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([1, 0]))  # logits, or anything in their order
    assert (known["accuracy"], known["f1"]) == (0.5, 1.0)
    assert confusion(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([1, 0]), 2) == [[1, 0], [1, 0]]
    assert confusion(np.array([[0.1, 0.9, 0.0]]), np.array([0]), 3) == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_the_order_of_saturated_logits_counts(classes: int, scale: float) -> None:
    """A frozen head under a changed encoder is sure of one class everywhere: softmax is 1 for all, the order is not lost."""
    logits, truth = scores(200, classes, 0)
    logits[:, 0] += 40  # float32 and float64 probabilities of class 0 are 1
    scored, wanted = classification(scale * logits, truth), classification(logits - [40, *[0] * (classes - 1)], truth)
    assert scored["accuracy"] == pytest.approx((truth == 0).mean())
    if classes == 2:
        assert scored["auc_ovo"] == scored["auc_ovr"] == wanted["auc_ovr"] > 0.6
    else:
        assert scored["auc_ovr"] > 0.6
    assert classification(logits.astype(np.float32), truth)["auc_ovr"] > 0.6


def blobs(seed: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    share = (0.7, 0.15)[seed % 2]  # sparse, and dense enough to have voxels inside, which are no surface
    found, wanted = (generator.random(shape) > share for _ in range(2))
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
        directed = max(np.percentile(there, 95), np.percentile(back, 95))
        assert hd95_directed(found, wanted, given_) == pytest.approx(directed, abs=1e-6)


@pytest.mark.parametrize("shape", [(16, 13), (7, 9, 8)])
def test_dice_is_monais(shape: tuple[int, ...]) -> None:
    from monai.metrics import compute_dice

    found, wanted = blobs(0, shape)
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (found, wanted)]
    assert dice(found, wanted) == pytest.approx(compute_dice(*tensors).item(), abs=1e-6)


def test_distances_known_by_hand() -> None:
    one, other = np.zeros((3, 40, 40), bool), np.zeros((3, 40, 40), bool)
    one[1, 5, 5], other[1, 8, 9] = True, True
    assert hd95(one, other) == hd95_directed(one, other) == 5.0
    assert hd95(one, other, (9.0, 2.0, 0.5)) == pytest.approx(math.hypot(6, 2))
    other[:] = one
    other[1, 5, 15] = True  # distances 0 one way, 0 and 10 the other: 0, 0, 10 together
    assert hd95(one, other) == pytest.approx(9.0)
    assert hd95_directed(one, other) == pytest.approx(9.5)
    corner = np.zeros((3, 3), bool)
    corner[1, 1] = True
    full = np.ones((3, 3), bool)  # its centre is not surface, its edge is, though nothing lies beyond
    assert hd95(full, corner) == pytest.approx(np.percentile([1, 1, 1, 1, *[math.sqrt(2)] * 4, 1], 95))


@pytest.mark.parametrize("shape", [(24, 20), (12, 14, 10)])
@pytest.mark.parametrize("seed", range(4))
def test_directed_hd95_is_monais(seed: int, shape: tuple[int, ...]) -> None:
    from monai.metrics import compute_hausdorff_distance

    found, wanted = blobs(seed, shape)
    spacing = (2.0, 0.5, 1.5)[: len(shape)]
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (found, wanted)]
    for steps in (None, spacing):
        theirs = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=steps).item()
        # MONAI gives float32, whose own rounding is above 1e-6 from 16 on, so beyond 1 the tolerance is relative
        assert hd95_directed(found, wanted, steps) == pytest.approx(theirs, abs=1e-6, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.integers(0, 3), scale=st.floats(0.2, 5))
def test_distances_are_symmetric_do_not_move_and_grow_with_spacing(seed: int, shift: int, scale: float) -> None:
    found, wanted = blobs(seed, (7, 6))
    there = hd95(found, wanted, (1.0, 2.0))
    assert hd95(wanted, found, (1.0, 2.0)) == pytest.approx(there)
    moved = [np.pad(mask, ((shift, 3), (1, shift))) for mask in (found, wanted)]
    assert hd95(*moved, (1.0, 2.0)) == pytest.approx(there)
    assert hd95(found, wanted, (scale, 2 * scale)) == pytest.approx(scale * there)
    assert hd95(found, found) == hd95_directed(found, found) == 0
    assert 0 <= there <= math.hypot(6, 2 * 5)
    both = np.logical_and(found, wanted).any()
    assert 0 <= dice_paper(found[None], wanted[None]) <= dice(found, wanted) <= 1
    assert (dice_paper(found[None], wanted[None]) < dice(found, wanted)) == both
    assert dice(found, wanted) == dice(wanted, found)


NOTHING, SOMETHING = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
SOMETHING[1:3, 1:3, 1:3] = True


def test_what_is_done_where_a_mask_is_empty() -> None:
    mm = (1.0, 2.0, 3.0)
    assert (dice(NOTHING, NOTHING), dice_paper(NOTHING, NOTHING)) == (1.0, 0.0)
    assert dice_paper(SOMETHING, SOMETHING) == pytest.approx(16 / 17)
    assert dice_paper(NOTHING[0], NOTHING[0]) == 1.0  # in the plane the paper's Dice is exact
    for measure in (hd95, hd95_directed):
        assert measure(NOTHING, NOTHING) == measure(NOTHING, NOTHING, mm) == 0.0
        for pair in ((NOTHING, SOMETHING), (SOMETHING, NOTHING)):
            assert dice(*pair) == 0.0
            assert measure(*pair) == EMPTY_PENALTY == 500.0
            assert math.isnan(measure(*pair, mm))


def test_a_case_has_every_measure_of_every_class() -> None:
    counts = ("missed", "with", "false_alarm", "without", "n_empty", "lesions", "lesions_found", "false_lesions")
    kinds = ("dice", "dice_paper", "hd95", "hd95_directed", *counts)
    moved = np.roll(SOMETHING, 1, axis=0)
    found, wanted = {"a": SOMETHING, "b": SOMETHING}, {"a": moved, "b": NOTHING}
    flat = mask_case(found, wanted, None)
    assert flat.keys() == {f"{kind}_{c}" for kind in kinds for c in "ab"}
    case = mask_case(found, wanted, (3.0, 1.0, 1.0))
    assert case.keys() == flat.keys() | {"hd95_mm_a", "hd95_mm_b"}
    assert (case["dice_a"], case["hd95_a"], case["hd95_mm_a"]) == (0.5, 1.0, 3.0)
    assert case["dice_paper_a"] == dice_paper(SOMETHING, moved)
    assert case["hd95_directed_a"] == hd95_directed(SOMETHING, moved)
    assert [case[f"{kind}_{c}"] for kind in ("missed", "false_alarm") for c in "ab"] == [0.0, 0.0, 0.0, 1.0]


def test_a_case_in_the_plane_counts_objects() -> None:
    numbers = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 2, 2]])
    wanted, found = numbers > 0, numbers == 1
    case = mask_case({"gland": found}, {"gland": wanted}, None, {"gland": numbers})
    assert case["object_f1_gland"] == object_f1(found, numbers) == pytest.approx(2 / 3)
    assert mask_summary([case, case])["object_f1"] == pytest.approx(2 / 3)
    assert "object_f1_gland" not in mask_case({"gland": found}, {"gland": wanted}, None)


def test_a_summary_counts_what_it_leaves_out() -> None:
    pairs = [(NOTHING, SOMETHING), (SOMETHING, NOTHING), (SOMETHING, SOMETHING), (NOTHING, NOTHING)]
    moved = np.roll(SOMETHING, 1, axis=0)
    cases = [mask_case({"a": f, "b": moved}, {"a": w, "b": SOMETHING}, (2.0, 1.0, 1.0)) for f, w in pairs]
    summary = mask_summary(cases)
    assert (summary["missed_a"], summary["false_alarm_a"], summary["n_empty_a"]) == (1.0, 1.0, 2.0)
    assert (summary["missed_b"], summary["n_empty_b"], summary["with_b"], summary["without_b"]) == (0.0, 0.0, 4.0, 0.0)
    assert math.isnan(summary["false_alarm_b"])  # no case without it was there
    assert (summary["missed"], summary["false_alarm"], summary["n_empty"]) == (1.0, 1.0, 2.0)
    assert (summary["dice_a"], summary["hd95_a"], summary["hd95_mm_a"]) == (0.5, 250.0, 0.0)
    assert (summary["dice_b"], summary["hd95_b"], summary["hd95_mm_b"]) == (0.5, 1.0, 2.0)
    assert (summary["dice"], summary["hd95"], summary["hd95_mm"]) == (0.5, 125.5, 1.0)
    assert summary["hd95_directed"] == 125.5
    assert summary["dice_paper_a"] == pytest.approx(16 / 17 / 4)
    lost = mask_summary([mask_case({"a": NOTHING, "b": moved}, {"a": SOMETHING, "b": SOMETHING}, (2.0, 1.0, 1.0))])
    assert math.isnan(lost["hd95_mm_a"])
    assert lost["hd95_mm"] == lost["hd95_mm_b"] == 2.0  # of the classes that have one


def test_lesions_are_counted_one_by_one() -> None:
    """Two lesions, of which a corner of one is found, and something found where nothing is."""
    truth, found = np.zeros((2, 4, 12, 12), bool)
    truth[1:3, 1:4, 1:4] = truth[1:3, 7:10, 7:10] = True
    found[2, 3, 3] = found[0, 11, 0:2] = True
    case = mask_case({"a": found}, {"a": truth}, None)
    assert (case["lesions_a"], case["lesions_found_a"], case["false_lesions_a"], case["missed_a"]) == (2, 1, 1, 0)
    elsewhere = mask_case({"a": np.roll(truth, 6, axis=1) & ~truth}, {"a": truth}, None)
    assert (elsewhere["lesions_found_a"], elsewhere["missed_a"], elsewhere["n_empty_a"]) == (
        0,
        1,
        0,
    )  # not empty, yet missed
    total = mask_summary([case, elsewhere])
    assert (total["lesions_a"], total["lesions_found_a"], total["missed_a"], total["with_a"]) == (4, 1, 1, 2)
    headings = Segmentation().headings(["a"], total)
    assert headings["missed_a"] == "nothing of it found, cases ↓: a, of 2"
    assert headings["lesions_found_a"] == "lesions (connected parts) found: a, of 4"
    assert not {"with_a", "without_a", "lesions_a", "with"} & headings.keys()


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


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int32])
def test_a_truth_of_one_value_is_a_mask_whose_components_are_objects(kind: type) -> None:
    wanted = np.zeros((10, 10), kind)
    wanted[1:4, 1:4] = wanted[6:9, 6:9] = 1
    wanted[4, 4] = 1  # touches the first by its corner only: the same object
    assert object_f1(wanted > 0, wanted) == 1.0
    first = np.zeros((10, 10), bool)
    first[1:4, 1:4] = True
    assert object_f1(first, wanted) == pytest.approx(2 / 3)
    assert object_f1(np.zeros((10, 10), bool), wanted) == object_f1(first, np.zeros((10, 10), kind)) == 0.0


def test_an_object_counts_for_the_one_it_overlaps_most_alone() -> None:
    wanted = np.zeros((12, 12), int)
    wanted[:, :8], wanted[5:7, 9:11] = 7, 3
    found = np.zeros((12, 12), bool)
    found[5:7, 4:11] = True  # all of the small one, but more pixels of the large one, of which it covers too few
    assert object_f1(found, wanted) == 0.0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), numbers=st.integers(1, 6))
def test_objects_are_those_of_the_challenges_rule_written_as_loops(seed: int, numbers: int) -> None:
    generator = np.random.default_rng(seed)
    found = generator.random((11, 12)) > generator.uniform(0.3, 0.9)
    wanted = np.repeat(np.repeat(generator.integers(0, numbers + 1, size=(4, 4)), 3, 0), 3, 1)[:11] * 3

    def parts(mask: Array) -> list[set[tuple[int, ...]]]:
        left = {tuple(map(int, place)) for place in np.argwhere(mask)}
        objects = []
        while left:
            queue = [left.pop()]
            objects.append(set(queue))
            while queue:
                y, x = queue.pop()
                near = {(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
                left -= near
                queue += near
                objects[-1] |= near
        return sorted(objects, key=min)  # as they are numbered: of equal overlaps the first counts

    values = [value for value in np.unique(wanted) if value]
    true = parts(wanted > 0) if len(values) < 2 else [set(map(tuple, np.argwhere(wanted == v))) for v in values]
    hit, ours = set(), parts(found)
    for own in ours:
        shared = [len(own & other) for other in true]
        best = max(range(len(true)), key=lambda k: shared[k], default=None)
        if best is not None and shared[best] > len(true[best]) / 2:
            hit.add(best)
    total = len(ours) + len(true)
    assert object_f1(found, wanted) == pytest.approx(2 * len(hit) / total if total else 1.0)


def test_intervals_resample_patients_not_cases() -> None:
    groups = ["a"] * 50 + ["b"] * 50
    values = np.array([0.0] * 50 + [1.0] * 50)
    low, high = bootstrap(groups, lambda own: {"mean": float(values[own].mean())}, seed=0)["mean"]
    assert (low, high) == (0.0, 1.0)  # by case it would be 0.4 to 0.6
    assert bootstrap(groups, lambda own: {"mean": float(values[own].mean())}, seed=0)["mean"] == (low, high)
    assert all(math.isnan(end) for end in bootstrap(["a"] * 9, lambda own: {"mean": 0.0}, seed=0)["mean"])


def test_intervals_hold_the_value_depend_on_the_seed_alone_and_bear_nan() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=60)
    groups = [f"patient-{i // 2}" for i in range(60)]
    seen: list[Array] = []

    def statistic(own: Array) -> dict[str, float]:
        seen.append(own)
        rare = float(values[own].mean()) if 0 in own else math.nan
        return {"mean": float(values[own].mean()), "rare": rare, "never": math.nan}

    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]  # the legacy state is a tuple
    known = bootstrap(groups, statistic, seed=3, draws=200)
    assert np.array_equal(np.random.get_state()[1], before)  # type: ignore[index]  # nothing global is drawn from
    assert len(seen) == 200
    for own in seen:  # whole groups: both rows of a patient come equally often
        counts = np.bincount(own, minlength=60)
        assert counts.sum() == 60
        assert (counts[::2] == counts[1::2]).all()
    drawn = [float(values[own].mean()) for own in seen]
    assert known["mean"] == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))))
    assert known["mean"][0] < values.mean() < known["mean"][1]
    with_it = [float(values[own].mean()) for own in seen if 0 in own]
    assert known["rare"] == pytest.approx(tuple(np.percentile(with_it, (2.5, 97.5))))
    assert all(map(math.isnan, known["never"]))
    assert bootstrap(groups, statistic, seed=3, draws=200)["mean"] == known["mean"]
    assert bootstrap(groups, statistic, seed=4, draws=200)["mean"] != known["mean"]
