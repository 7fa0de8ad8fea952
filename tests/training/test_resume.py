"""What is read back of a training that was stopped: whatever does not fit is found before the next step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from medcoss_cli.training.resume import load_optimiser


def optimiser() -> torch.optim.Optimizer:
    weights = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    groups = [{"params": weights[:1], "weight_decay": 0.0, "scale": 0.5}, {"params": weights[1:]}]
    return torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.95), weight_decay=0.05)


def step(optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad = parameter.detach() * 2
    optimiser.step()
    return optimiser


def test_moments_come_from_the_file_and_settings_from_the_recipe() -> None:
    state = step(optimiser()).state_dict()
    for group in state["param_groups"]:
        del group["weight_decay"]
        group["betas"] = "x"
    again = optimiser()
    load_optimiser(again, state)
    assert again.state_dict()["param_groups"] == optimiser().state_dict()["param_groups"]
    moments = again.state_dict()["state"]
    assert all(torch.equal(moments[n]["exp_avg"], state["state"][n]["exp_avg"]) for n in (0, 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["state"][1].pop("exp_avg"),
        lambda state: state["state"][1].update(exp_avg=torch.ones(3)),
        lambda state: state["state"][1].update(exp_avg_sq=torch.ones(2).to_sparse()),
        lambda state: state["state"][1].update(more=torch.ones(2)),
        lambda state: [moments.pop("exp_avg") for moments in state["state"].values()],
        lambda state: state["state"][1].update(step=torch.ones(3)),
        lambda state: state["state"][1].update(step=torch.tensor(float("nan"))),
        lambda state: state["state"][1].update(step=torch.tensor(-1.0)),
        lambda state: state["state"][1].update(step="1"),
        lambda state: state["state"].update({1: []}),
        lambda state: state["state"].update({1: {}}),
        lambda state: state["state"].update({7: state["state"][1]}),
        lambda state: state["param_groups"].pop(),
        lambda state: state["param_groups"][0].update(params=[1]),
        lambda state: state.pop("state"),
    ],
)
def test_what_is_of_other_parameters_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    state = copy.deepcopy(step(optimiser()).state_dict())
    change(state)
    with pytest.raises((ValueError, KeyError, AttributeError)):
        load_optimiser(optimiser(), state)
