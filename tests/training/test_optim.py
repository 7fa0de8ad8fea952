"""Schedule and optimiser."""

from __future__ import annotations

import pytest
import torch

from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.training.optim import adamw, cosine, decay_on_matrices


def test_the_rate_rises_linearly_then_falls_as_half_a_cosine() -> None:
    rates = [cosine(step, 100, 10, 1.0) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert 0 < rates[-1] < 1e-3


def test_decay_is_on_matrices_only() -> None:
    model = Model(EncoderShape(32, 2, 2, layer_scale=1e-5), seed=0)
    groups = decay_on_matrices(model.named_parameters(), 0.05)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = {names[id(p)] for p in groups[0]["params"]}
    rest = {names[id(p)] for p in groups[1]["params"]}
    assert groups[0]["weight_decay"] == 0.05
    assert groups[1]["weight_decay"] == 0
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)
    assert {"encoder.cls", "encoder.blocks.0.norm1.weight", "encoder.blocks.0.ls1.gamma"} <= rest
    assert decayed | rest == set(names.values())


def test_what_a_step_does_not_use_stays_as_it_is() -> None:
    used, unused = torch.nn.Parameter(torch.ones(3, 3)), torch.nn.Parameter(torch.ones(3, 3))
    adam = adamw(decay_on_matrices([("used", used), ("unused", unused)], 0.05), 0.95)
    for group in adam.param_groups:
        group["lr"] = 0.1
    for parameter in ((used, unused), (used,), (used,)):
        adam.zero_grad(set_to_none=True)
        sum(p.sum() for p in parameter).backward()  # type: ignore[union-attr]
        before = unused.detach().clone()
        adam.step()
    assert torch.equal(unused, before)
    assert not torch.equal(used, before)
