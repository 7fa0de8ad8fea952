"""Nearest neighbours: never of one's own group, fewer where fewer are left."""

from __future__ import annotations

import math

import numpy as np

from medcoss_cli.metrics.neighbours import agreement, neighbours

FEATURES = np.array([[1.0, 0.0], [0.99, 0.1], [-1.0, 0.1], [-0.98, 0.0], [0.0, 1.0]])


def test_a_sample_of_the_same_group_is_no_neighbour() -> None:
    labels = ["a", "a", "b", "b", "c"]
    assert agreement(neighbours(FEATURES[:4], 1)[0], labels[:4]) == 1.0
    nearest, near = neighbours(FEATURES, 1, ["p", "p", "q", "q", "r"])
    assert set(nearest[0]) <= {2, 3, 4}
    assert agreement(nearest, labels) == 0.0
    assert np.isfinite(near).all()


def test_where_fewer_are_left_the_places_are_empty() -> None:
    nearest, _ = neighbours(FEATURES, 3, ["p", "p", "p", "p", "r"])
    assert nearest.shape == (5, 3)
    assert nearest[0].tolist() == [4, -1, -1]
    assert -1 not in nearest[4]
    nothing, _ = neighbours(FEATURES, 3, ["p"] * 5)
    assert nothing.shape == (5, 0)
    assert math.isnan(agreement(nothing, list("aabbc")))
