"""Intensity rules: what is stored, and what comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medcoss_cli.kit import Colour8, Grey8, Hounsfield, ZScore
from medcoss_cli.plugin import Intensity, Sample
from medcoss_cli.plugin.networks import lacking

RULES = [Grey8(), Colour8(), Hounsfield(), ZScore()]


def through(rule: Any, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    integers, scale, offset = rule.encode(Sample(array))
    batch = torch.from_numpy(integers)[None]
    decoded = rule.decode(batch, torch.tensor([scale]), torch.tensor([offset]))
    assert decoded.dtype == torch.float32
    return np.asarray(decoded[0])


def test_rules_fulfil_the_contract() -> None:
    assert [lacking(rule, Intensity) for rule in RULES] == [[]] * len(RULES)


def test_eight_bits_are_stored_as_they_are() -> None:
    levels = np.arange(256, dtype=np.float32).reshape(1, 16, 16)
    integers, scale, offset = Grey8().encode(Sample(levels))
    assert integers.dtype == np.uint8
    assert (scale, offset) == (1, 0)
    assert np.array_equal(integers, levels)
    assert through(Grey8(), levels).max() == 1
    assert through(Colour8(), np.array([[-3.0], [127.5], [400.0]], np.float32)).flatten() == pytest.approx(
        [0, 128 / 255, 1]
    )


def test_hounsfield_units_are_clipped_to_minus_one_and_one() -> None:
    units = np.array([[-3000.0, -1024, -1000, 0, 40.4, 1024, 9000]], np.float32)
    expected = [-1, -1, -1000 / 1024, 0, 40 / 1024, 1, 1]
    assert Hounsfield().encode(Sample(units))[0].dtype == np.int16
    assert through(Hounsfield(), units)[0] == pytest.approx(expected)
    assert through(Hounsfield(low=0, high=80), np.array([[-5.0, 0, 40, 80]]))[0] == pytest.approx([-1, -1, 0, 1])


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=6),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_z_scores_come_back_within_a_step(array: np.ndarray[Any, Any]) -> None:
    clipped = np.clip(array.astype(np.float64), *np.percentile(array.astype(np.float64), (0.2, 99.8)))
    back = through(ZScore(), array)
    if clipped.std() == 0:
        assert not back.any()
        return
    expected = (clipped - clipped.mean()) / clipped.std()
    assert np.abs(back - expected).max() <= (expected.max() - expected.min()) / 65534 + 1e-5


def test_z_scores_ignore_outliers() -> None:
    array = np.random.default_rng(0).normal(300, 20, (1, 8, 40, 40)).astype(np.float32)
    array[0, 0, 0, 0] = 1e9
    back = through(ZScore(), array)
    assert abs(float(back.mean())) < 1e-3
    assert float(back.std()) == pytest.approx(1, abs=1e-3)
    assert np.corrcoef(back.flatten()[1:], array.flatten()[1:])[0, 1] > 0.99


def test_each_sample_of_a_batch_has_its_own_scale() -> None:
    batch = torch.ones(2, 1, 3, dtype=torch.int16)
    decoded = ZScore().decode(batch, torch.tensor([2.0, 3.0]), torch.tensor([1.0, -1.0]))
    assert decoded[:, 0, 0].tolist() == [3, 2]
