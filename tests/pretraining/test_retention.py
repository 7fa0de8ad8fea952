"""Retention: the measures against their definitions, and the choice of anchors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medcoss_cli.pretraining.retention import centred_cosine, choose_anchors, cka, lowest, rows


def brute_cka(a: np.ndarray, b: np.ndarray) -> float:
    """HSIC of linear kernels, centred: Kornblith et al. 2019, section 3."""
    n = len(a)
    centre = np.eye(n) - 1 / n
    k, m = centre @ (a @ a.T) @ centre, centre @ (b @ b.T) @ centre
    return float((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


def test_cka_is_its_definition_and_knows_no_rotation_or_scale() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 7)) + 5, rng.normal(size=(40, 7))
    assert cka(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(brute_cka(a, b))
    turned = a @ np.linalg.qr(rng.normal(size=(7, 7)))[0] * 3 + 1
    assert cka(torch.from_numpy(a), torch.from_numpy(turned)) == pytest.approx(1)
    assert cka(torch.from_numpy(a), torch.from_numpy(b)) < 0.5


def test_centred_cosine_sees_what_plain_cosine_hides() -> None:
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.normal(size=(200, 16)) + 100) for _ in range(2))
    plain = torch.nn.functional.cosine_similarity(a, b, dim=1).mean()
    assert plain > 0.99
    assert abs(centred_cosine(a, b)) < 0.1
    assert centred_cosine(a, a + 7) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=400), st.integers(0, 5))
def test_probes_are_whole_groups_and_a_small_part(sizes: list[int], seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    n = len(groups)
    chosen = choose_anchors(groups, (seed, 1))
    inside = set(groups[chosen])
    assert not inside & set(np.delete(groups, chosen))
    assert len(chosen) <= max(min(max(round(0.02 * n), 16), 256, n // 5) + max(sizes), 0)
    assert len(chosen) <= n // 3
    if n >= 80 and max(sizes) == 1:
        assert len(chosen) == min(max(round(0.02 * n), 16), 256)
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


def test_losses_are_told_relative_to_predicting_the_mean() -> None:
    history = [
        {"stage": 1, "modality": "a", "baseline": 5.0, "retention": {"a": {"loss": 4.0}}},
        {"stage": 2, "modality": "b", "baseline": 0.5, "retention": {"a": {"loss": 5.0}, "b": {"loss": 0.25}}},
    ]
    assert rows(history, "loss") == [["a", "0.800", "1.000"], ["b", "", "0.500"]]
