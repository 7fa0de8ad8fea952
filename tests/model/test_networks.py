"""What a file says of a network, held against its tensors before the network is built."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medcoss_cli.model.networks import UNWRITTEN, misfit, within

TENSORS = nn.Linear(8, 4).state_dict()


@pytest.mark.parametrize(
    ("built", "told"),
    [
        (lambda: nn.Linear(8, 4), None),
        (lambda: nn.Linear(2**20, 2**20), "weight of it would be 1048576 x 1048576, in the file it is 4 x 8"),
        (lambda: nn.Sequential(nn.Linear(8, 4)), "0.weight of it is not in the file"),
        (lambda: nn.BatchNorm1d(4), "weight of it would be 4, in the file it is 4 x 8"),
        (lambda: nn.Linear(int(torch.ones(1).sum().item()), 4), None),  # it cannot be built without numbers
    ],
)
def test_other_shapes_than_the_tensors_are_told_without_room_for_them(built: object, told: str | None) -> None:
    assert callable(built)
    assert misfit("it", built, TENSORS) == told


def test_what_has_no_tensors_is_of_a_usual_size_or_told() -> None:
    assert misfit("it", lambda: nn.Linear(768, 512), {}, absent=True) is None
    said = misfit("it", lambda: nn.Linear(UNWRITTEN, 1, bias=False), {}, absent=True)
    assert said is None
    said = misfit("it", lambda: nn.Linear(UNWRITTEN, 2, bias=False), {}, absent=True)
    assert said == "it would have 268,435,456 values, and the file has none"
    assert misfit("it", lambda: nn.Linear(768, 512), {}) == "weight of it is not in the file"
    assert within("a.", {"a.b.c": torch.ones(1), "ab.c": torch.ones(1)}).keys() == {"b.c"}
