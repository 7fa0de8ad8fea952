"""What a preview says of its pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medcoss_cli.data.statistics import Statistics, of_set, statistics, unlike
from medcoss_cli.plugin import Sample

USUAL = Statistics(0.0, 0.45, 1.0, 0.9, 0.05, (512, 512), (0.2, 0.2))


def test_numbers_are_of_the_range_that_the_encoder_sees() -> None:
    values = np.full((1, 10, 10), 0.25, np.float32)
    values[0, :2] = 0
    values[0, 2] = 1
    found = statistics(values, Sample(np.zeros((1, 300, 200)), spacing=(0.5, 0.25)), (0.0, 1.0))
    assert (found.low, found.high, found.size, found.spacing) == (0, 1, (300, 200), (0.5, 0.25))
    assert (found.mean, found.ends) == pytest.approx((0.275, 0.3))
    assert found.text == "0.00 | 0.28 | 1.00, 30% at the ends, 300 x 200, 0.5 x 0.25 mm"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"filled": 0.05, "low": 0.01, "high": 0.06}, "fills 5% of the range that the encoder sees (0.01 to 0.06)"),
        ({"ends": 0.9}, "has 90% of its values at the ends of the range"),
        ({"mean": 0.1}, "has a mean of 0.10 where the others have 0.45"),
        ({"size": (64, 512)}, "is 64 x 512 where the others are 512 x 512"),
        ({"spacing": None}, "has no spacing where the others have 0.2 x 0.2 mm"),
        ({"spacing": (2.0, 2.0)}, "has a spacing of 2 x 2 mm where the others have 0.2 x 0.2 mm"),
    ],
)
def test_what_is_unlike_the_others_is_named(change: dict[str, object], reason: str) -> None:
    odd = replace(USUAL, **change)  # type: ignore[arg-type]
    (note,) = unlike([("1", USUAL), ("2", USUAL), ("3", odd), ("4", USUAL)], (0.0, 1.0))
    assert note.startswith(f"3 {reason}")
    (note,) = unlike([("first", USUAL), ("second", odd)], (0.0, 1.0))
    assert note.startswith(f"second {reason}")


def test_pictures_that_are_alike_need_no_word() -> None:
    means = [replace(USUAL, mean=mean, size=(500, 600)) for mean in (0.3, 0.4, 0.5, 0.45)]
    assert unlike([(str(n), item) for n, item in enumerate(means)], (0.0, 1.0)) == []
    assert of_set(means).mean == pytest.approx(0.425)
