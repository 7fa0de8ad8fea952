"""The largest organ with its tumours: by hand, and against flood filling written as loops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcoss_cli.data.masks.postprocess import SMALL, largest_organ

Array = np.ndarray[Any, Any]
Places = set[tuple[int, ...]]


def test_the_largest_organ_keeps_its_large_tumours() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:14, 2:14, 2:14] = 1
    labels[3:8, 3:8, 3:8] = 2  # 125 voxels
    labels[10:12, 10:12, 10:12] = 2  # 8 voxels: becomes organ
    labels[16:20, 16:20, 16:20] = 2  # 64 voxels, but outside: removed
    labels[0, 18, 0] = 1  # a crumb: removed
    before = labels.copy()
    cleaned = largest_organ(labels)
    expected = np.zeros_like(labels)
    expected[2:14, 2:14, 2:14] = 1
    expected[3:8, 3:8, 3:8] = 2
    assert np.array_equal(cleaned, expected)
    assert cleaned.dtype == np.uint8
    assert np.array_equal(labels, before)  # what was given stays as it was


def test_nothing_stays_nothing() -> None:
    assert not largest_organ(np.zeros((3, 4, 5), np.uint8)).any()


@pytest.mark.parametrize(("voxels", "kept"), [(50, 0), (51, 51)])
def test_a_tumour_of_50_voxels_is_too_small(voxels: int, kept: int) -> None:
    assert SMALL == 50
    labels = np.ones((3, 5, 60), np.uint8)
    labels[1, 2, :voxels] = 2
    cleaned = largest_organ(labels)
    assert (cleaned == 2).sum() == kept
    assert cleaned.all()


@pytest.mark.parametrize(("step", "together"), [((0, 0, 1), True), ((0, 1, 1), True), ((1, 1, 1), False)])
def test_voxels_touch_by_face_and_edge_but_not_by_corner(step: tuple[int, ...], together: bool) -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[:2, :2, :2] = 1
    labels[tuple(1 + s for s in step)] = 1
    assert largest_organ(labels).sum() == labels.sum() - (not together)


def test_a_tumour_is_organ_where_the_organ_is_told() -> None:
    labels = np.zeros((4, 12, 12), np.uint8)
    labels[:, :4, :4] = 1  # 64 voxels
    labels[:, 6:, 6:11] = 2  # 120 voxels of tumour are the largest organ
    assert np.array_equal(largest_organ(labels), np.where(labels == 2, 2, 0))


def test_labels_may_have_other_numbers() -> None:
    labels = np.zeros((6, 20, 20), np.uint8)
    labels[1:5, 1:15, 1:15] = 1
    labels[2:4, 3:9, 3:9], labels[2, 11, 11], labels[5, 19, 19] = 2, 2, 1
    cleaned = largest_organ(labels)
    assert set(np.unique(cleaned)) == {0, 1, 2}
    swapped = np.array([0, 7, 4], np.uint8)
    assert np.array_equal(largest_organ(swapped[labels], organ=7, tumour=4), swapped[cleaned])


def parts(mask: Array) -> list[Places]:
    """Components of 18 neighbours (8 in the plane), in scanning order."""
    steps = [s for s in itertools.product((-1, 0, 1), repeat=mask.ndim) if 1 <= sum(map(abs, s)) <= 2]
    left = {tuple(map(int, place)) for place in np.argwhere(mask)}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        queue, own = [start], {start}
        while queue:
            place = queue.pop()
            near = {tuple(p + s for p, s in zip(place, step, strict=True)) for step in steps} & left
            left -= near
            own |= near
            queue += near
        found.append(own)
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), flat=st.booleans())
def test_it_is_the_rule_written_as_loops_and_twice_is_once(seed: int, flat: bool) -> None:
    generator = np.random.default_rng(seed)
    coarse = generator.choice(3, p=(0.55, 0.2, 0.25), size=(5, 6) if flat else (3, 4, 4))
    labels = np.kron(coarse, np.ones((4,) * coarse.ndim)).astype(np.uint8)
    labels[generator.random(labels.shape) < 0.05] = 0
    expected = np.zeros_like(labels)
    organs = parts(labels >= 1)
    for place in max(organs, key=len, default=set()):
        expected[place] = 1
    for tumour in parts((labels == 2) & (expected == 1)):
        for place in tumour:
            expected[place] = 2 if len(tumour) > SMALL else 1
    cleaned = largest_organ(labels)
    assert np.array_equal(cleaned, expected)
    assert np.array_equal(largest_organ(cleaned), cleaned)
