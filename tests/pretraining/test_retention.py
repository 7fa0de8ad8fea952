"""Retention: the measures against their definitions, and the choice of anchors."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medcoss_cli.pretraining.retention import (
    centred_cosine,
    choose_anchors,
    cka,
    lowest,
    rows,
    shift,
    similarity,
    unlearned,
    write,
)


def brute_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased HSIC of linear kernels as a sum over sets of four different samples: Song et al. 2012, theorem 2."""
    k, m = a @ a.T, b @ b.T

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in itertools.permutations(range(len(k)), 4)]
        return float(np.mean(terms))

    return hsic(k, m) / float(np.sqrt(hsic(k, k) * hsic(m, m)))


def test_cka_is_its_definition_and_knows_no_rotation_or_scale() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 7)) + 5, rng.normal(size=(9, 7))
    assert cka(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(brute_cka(a, b))
    turned = a @ np.linalg.qr(rng.normal(size=(7, 7)))[0] * 3 + 1
    assert cka(torch.from_numpy(a), torch.from_numpy(turned)) == pytest.approx(1)
    assert cka(torch.from_numpy(a), torch.zeros(9, 7)) == 0  # an encoder that gives one answer for all


@pytest.mark.parametrize("n", [16, 64, 256])
@pytest.mark.parametrize("width", [96, 768])
def test_unrelated_features_have_no_cka_whatever_their_number_and_width(n: int, width: int) -> None:
    """The mean over 48 draws; of one draw at n = 16 the spread is some .09, at n = 256 some .006."""
    draws = torch.Generator().manual_seed(0)
    values = [cka(*torch.randn(2, n, width, generator=draws)) for _ in range(48)]
    assert abs(np.mean(values)) < 0.05
    if n == 256:
        assert np.abs(values).max() < 0.05


def test_what_is_remembered_is_the_lower_of_both_measures() -> None:
    a = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    turned = a.roll(1, dims=1)  # a rotation: no head that was trained on a works
    row = {"cka": cka(a, turned), "cosine": centred_cosine(a, turned)}
    assert row["cka"] == pytest.approx(1)
    assert similarity(row) == row["cosine"] < 0.3


def test_centred_cosine_sees_what_plain_cosine_hides() -> None:
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.normal(size=(200, 16)) + 100) for _ in range(2))
    plain = torch.nn.functional.cosine_similarity(a, b, dim=1).mean()
    assert plain > 0.99
    assert abs(centred_cosine(a, b)) < 0.1
    assert centred_cosine(a, a + 7) == pytest.approx(1)


def test_a_moved_mean_is_seen_by_shift_alone() -> None:
    a = torch.randn(256, 16, generator=torch.Generator().manual_seed(0))
    moved = a + 7 / 4  # 7 in all, over 16 features; the samples lie 4 from their mean
    assert cka(moved, a) == pytest.approx(1)
    assert centred_cosine(moved, a) == pytest.approx(1)
    assert shift(a, a) == 0
    assert shift(moved, a) == pytest.approx(7 / 4, rel=0.05)
    assert shift(3 * moved, 3 * a) == pytest.approx(shift(moved, a))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=400), st.integers(0, 5))
def test_probes_are_whole_groups_and_a_small_part(sizes: list[int], seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    n = len(groups)
    chosen = choose_anchors(groups, (seed, 1))
    inside = set(groups[chosen])
    assert not inside & set(np.delete(groups, chosen))
    assert len(chosen) <= min(256, n // 5) + max(sizes)
    assert len(chosen) <= n // 3
    assert len(chosen) == 0 or len(chosen) >= 4
    if n >= 20 and max(sizes) == 1:
        assert len(chosen) == min(256, n // 5)
    assert np.array_equal(chosen, choose_anchors(groups, (seed, 1)))


def test_the_lowest_is_of_an_earlier_modality() -> None:
    history = [
        {"stage": 1, "modality": "a", "retention": {"a": {"cka": 1.0}}},
        {"stage": 2, "modality": "b", "retention": {"a": {"cka": 0.7}, "b": {"cka": 0.6}}},
    ]
    assert lowest(history) == ("a", 0.7)
    assert lowest(history[:1]) is None
    assert lowest([]) is None
    assert rows(history) == [["a", "1.000", "0.700"], ["b", "", "0.600"]]


def test_a_modality_that_was_not_learned_is_called_so_wherever_retention_is_told(tmp_path: Path) -> None:
    """Of the issue: CKA 1.000 beside losses .981 and 1.049 relative to predicting the mean."""
    row = {"cka": 1.0, "cosine": 1.0, "loss": 0.5, "loss_then": 0.5, "anchors": 16.0}
    history = [
        {"stage": 1, "modality": "a", "baseline": 0.7, "retention": {"a": row | {"relative_then": 0.5 / 0.7}}},
        {
            "stage": 2,
            "modality": "b",
            "baseline": 0.5 / 0.981,
            "retention": {"a": row | {"relative_then": 0.5 / 0.7}, "b": row | {"relative_then": 0.981}},
        },
    ]
    assert unlearned(history) == {"b": 0.981}
    assert [line[0] for line in rows(history)] == ["a", "b (learned nothing)"]
    assert rows(history, "loss")[1] == ["b (learned nothing)", "", "0.981"]
    write(tmp_path, history)
    assert json.loads((tmp_path / "retention.json").read_text())["learned_nothing"] == {"b": 0.981}


def test_losses_are_told_relative_to_predicting_the_mean() -> None:
    history = [
        {"stage": 1, "modality": "a", "baseline": 5.0, "retention": {"a": {"loss": 4.0}}},
        {"stage": 2, "modality": "b", "baseline": 0.5, "retention": {"a": {"loss": 5.0}, "b": {"loss": 0.25}}},
    ]
    assert rows(history, "loss") == [["a", "0.800", "1.000"], ["b", "", "0.500"]]


def test_a_name_in_another_encoding_is_drawn(tmp_path: Path) -> None:
    row = {"cka": 1.0, "cosine": 1.0, "shift": 0.0, "loss": 1.0, "loss_then": 1.0, "relative_then": 0.5}
    write(tmp_path, [{"stage": 1, "modality": "xray", "retention": {"x\udcff": row}, "modalities": {"x\udcff": {}}}])
    assert (tmp_path / "retention.png").read_bytes().startswith(b"\x89PNG")
