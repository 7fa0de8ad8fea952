"""Paired differences: against a brute-force twin, and on data whose answer is known."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcoss_cli.metrics.paired import difference, draws_of, holm, same_cases


def accuracy(arrays):
    return {"accuracy": float(arrays["right"].mean())}


def run(right, groups=None):
    right = np.asarray(right, float)
    return {"right": right, "group": np.arange(len(right)) if groups is None else np.asarray(groups)}


def test_draws_are_those_of_whole_patients():
    arrays = run([1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1])
    values = draws_of([arrays], accuracy, ["accuracy"], 0, 400)["accuracy"]
    assert values.shape == (400, 1)
    assert set(np.round(values[:, 0], 6)) == {0.0, 0.5, 1.0}  # never a part of a patient
    assert abs((values == 0.5).mean() - 0.5) < 0.1


def test_the_same_draw_holds_the_same_patients():
    right = np.random.default_rng(0).integers(0, 2, 40)
    ours, theirs = (draws_of([run(r)], accuracy, ["accuracy"], 0, 50)["accuracy"] for r in (right, 1 - right))
    assert np.allclose(ours + theirs, 1.0)


def test_interval_and_p_agree_with_theory():
    """The mean of n differences of known variance: the interval is mean ± 1.96 s / sqrt(n), p of a normal test."""
    generator = np.random.default_rng(1)
    gaps = generator.normal(0.1, 1.0, 400)
    base = run(generator.normal(0, 5, 400))
    ours = run(base["right"] + gaps)
    drawn = [draws_of([arrays], accuracy, ["accuracy"], 0, 4000)["accuracy"] for arrays in (ours, base)]
    found = difference(*drawn, float(gaps.mean()), 0)
    error = gaps.std(ddof=1) / 20
    assert found.low == pytest.approx(gaps.mean() - 1.96 * error, abs=0.01)
    assert found.high == pytest.approx(gaps.mean() + 1.96 * error, abs=0.01)
    assert found.p == pytest.approx(2 * NormalDist().cdf(-abs(gaps.mean()) / error), abs=0.03)


def test_seeds_that_disagree_widen_the_interval():
    cases = np.arange(50) % 2
    base = [run(cases), run(cases)]
    agree = draws_of([run(np.ones(50)), run(np.ones(50))], accuracy, ["accuracy"], 0, 500)["accuracy"]
    differ = draws_of([run(np.ones(50)), run(np.zeros(50))], accuracy, ["accuracy"], 0, 500)["accuracy"]
    reference = draws_of(base, accuracy, ["accuracy"], 0, 500)["accuracy"]
    narrow, wide = difference(agree, reference, 0.5, 0), difference(differ, reference, 0.0, 0)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert narrow.p < 0.05 < wide.p


def test_no_difference_at_all():
    values = draws_of([run([1, 0, 1])], accuracy, ["accuracy"], 0, 100)["accuracy"]
    found = difference(values, values, 0.0, 0)
    assert (found.low, found.high, found.p) == (0.0, 0.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_a_step_down_of_bonferroni(values):
    corrected = holm(values)
    order = sorted(range(len(values)), key=lambda i: values[i])
    for rank, i in enumerate(order):
        brute = max(min(1.0, values[j] * (len(values) - k)) for k, j in enumerate(order[: rank + 1]))
        assert corrected[i] == pytest.approx(brute)
    assert all(c >= p for c, p in zip(corrected, values, strict=True))


def test_what_is_not_known_is_not_counted():
    assert holm([0.01, float("nan"), 0.04])[0] == pytest.approx(0.02)


def test_other_cases_are_told_apart():
    assert same_cases([run([1, 0]), run([0, 0])])
    assert not same_cases([run([1, 0]), run([0, 0, 1])])
