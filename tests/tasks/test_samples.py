"""The order in which samples are trained on."""

from __future__ import annotations

from medcoss_cli.tasks.samples import order


def test_every_sample_comes_once_a_pass_whatever_the_batch() -> None:
    steps = [order(0, 4, step, 10) for step in range(5)]
    places = [place for step in steps for place in step]
    assert sorted(places[:10]) == sorted(places[10:]) == list(range(10))
    assert places[:10] != places[10:]
    assert steps[2] == order(0, 4, 2, 10)  # of the step alone, so that a run can be resumed
    assert steps != [order(1, 4, step, 10) for step in range(5)]
