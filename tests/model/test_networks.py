"""A network is built with no more values than its file bears out, whatever the file says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medcoss_cli.errors import CheckpointError
from medcoss_cli.model import networks
from medcoss_cli.model.networks import AtMost, within

WEIGHTS = {"weight": torch.zeros(10, 10)}


def test_what_is_built_within_the_limit_is_as_it_would_be_without() -> None:
    torch.manual_seed(0)
    free = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32))
    torch.manual_seed(0)
    with AtMost(WEIGHTS):
        held = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32))
    assert all(torch.equal(a, b) for a, b in zip(free.parameters(), held.parameters(), strict=True))


def test_more_than_the_file_has_values_for_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "ROOM", 1000)
    made = list[nn.Module]()
    with AtMost(WEIGHTS) as limit:
        while limit.left >= 400:  # of 4 x 100 + 1000
            made.append(nn.Linear(20, 20, bias=False))
        with pytest.raises(CheckpointError, match="far larger than the 100 values that it holds"):
            nn.Linear(20, 20, bias=False)
    assert len(made) == 3


def test_views_and_values_that_are_set_anew_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "ROOM", 1000)
    with AtMost(WEIGHTS):
        values = torch.empty(1400)
        for _ in range(8):
            values.view(2, -1).t().zero_()


def test_the_weights_of_a_part_by_its_own_names() -> None:
    assert within("a.", {"a.b.c": torch.ones(1), "ab.c": torch.ones(1)}).keys() == {"b.c"}
