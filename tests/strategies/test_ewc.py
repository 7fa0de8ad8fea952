"""EWC: Fisher, penalty and decay against their formulas written as loops."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medcoss_cli.conformance.toy_run import ToyRun
from medcoss_cli.errors import CheckpointError
from medcoss_cli.strategies import StageInfo
from medcoss_cli.strategies.ewc import EWC, diagonal_fisher, normalised


def toy(folder: Path, **settings: float) -> ToyRun:
    return ToyRun(EWC, EWC.Settings(**settings), folder / "run")


def fisher_by_loop(run: ToyRun) -> dict[str, torch.Tensor]:
    """F = mean over samples of (d l_i / d w)^2 with torch.autograd.grad, each sample for itself."""
    names, parameters = zip(*run.model.shared_parameters(), strict=True)
    sums = {name: torch.zeros_like(p) for name, p in zip(names, parameters, strict=True)}
    batches = list(run.plan.samples(1024, 1))
    for batch in batches:
        value, count = run.model.masked_loss(batch)
        gradients = torch.autograd.grad(value / count, parameters, allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            sums[name] += 0 if gradient is None else gradient**2
    return {name: total / len(batches) for name, total in sums.items()}


def test_fisher_is_the_mean_of_squared_gradients_of_single_samples(tmp_path: Path) -> None:
    run = toy(tmp_path)
    run.finish_stage(1)
    loop, fisher = fisher_by_loop(run), diagonal_fisher(run.model, run.plan.samples, 1024)
    error = max(float((fisher[name] - loop[name]).abs().max()) for name in fisher)
    assert error < 1e-9
    values = torch.cat([part.flatten() for part in normalised(fisher).values()])
    assert float(values[values > 0].mean()) == pytest.approx(1, rel=1e-5)
    run.model.zero_grad()
    whole = next(run.plan.samples(1024, 1024))
    value, count = run.model.masked_loss(whole)
    (value / count).backward()
    mean = sum(float(f.sum()) for f in fisher.values())
    batch = sum(float(p.grad.square().sum()) for _, p in run.model.shared_parameters() if p.grad is not None)
    assert batch < 0.8 * mean


def test_two_stages_pull_like_the_sum_of_their_quadratics(tmp_path: Path) -> None:
    run = toy(tmp_path, weight=3.0)
    quadratics = []
    for number in (1, 2):
        run.finish_stage(number)
        places = {name: p.detach().clone() for name, p in run.model.shared_parameters()}
        quadratics.append((normalised(diagonal_fisher(run.model, run.plan.samples, 1024)), places))
    parameters = dict(run.model.shared_parameters())
    for p in parameters.values():
        p.data += 0.01
        p.grad = torch.zeros_like(p)
    penalty = sum(
        1.5 * (fisher[name] * (parameters[name] - places[name]) ** 2).sum()
        for fisher, places in quadratics
        for name in fisher
    )
    wanted = torch.autograd.grad(penalty, list(parameters.values()))  # type: ignore[arg-type]
    run.strategy.after_backward(run.model)
    for p, gradient in zip(parameters.values(), wanted, strict=True):
        assert torch.allclose(p.grad, gradient, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


def test_a_parameter_without_a_gradient_gets_no_pull_and_gamma_fades(tmp_path: Path) -> None:
    run = toy(tmp_path, gamma=0.5)
    run.finish_stage(1)
    first = run.strategy.memory()["importance"]["encoder.cls"].clone()
    run.begin(2)
    run.model.zero_grad(set_to_none=True)
    run.strategy.after_backward(run.model)
    assert all(p.grad is None for p in run.model.parameters())
    run.strategy.end_stage(run.model, run.plan.samples)
    newest = normalised(diagonal_fisher(run.model, run.plan.samples, 1024))["encoder.cls"]
    assert torch.allclose(run.strategy.memory()["importance"]["encoder.cls"], 0.5 * first + newest)


def test_decay_moves_only_weights_without_importance(tmp_path: Path) -> None:
    run = toy(tmp_path, weight=0.0)
    run.finish_stage(1)
    name = "encoder.blocks.0.mlp.fc1.weight"
    importance = run.strategy.memory()["importance"][name]
    importance[0] = 0
    parameter = dict(run.model.named_parameters())[name]
    places = run.strategy.decay(name, parameter)
    assert places is not None
    assert places[0].all()
    assert not places[1:].any()
    assert run.strategy.decay("decoders.first.embed.weight", parameter) is None


def test_without_importance_of_earlier_stages_it_is_refused(tmp_path: Path) -> None:
    run = toy(tmp_path)
    run.add(1)
    with pytest.raises(CheckpointError, match="not trained with ewc"):
        run.strategy.begin_stage(run.model, StageInfo(2, None, ("first",), ()))


def test_a_strong_pull_keeps_important_weights_nearer(tmp_path: Path) -> None:
    moved = {}
    for weight in (0.0, 1e3):
        run = ToyRun(EWC, EWC.Settings(weight=weight), tmp_path / f"run-{weight}")
        run.finish_stage(1)
        before = {name: p.detach().clone() for name, p in run.model.shared_parameters()}
        importance = {name: part.clone() for name, part in run.strategy.memory()["importance"].items()}
        run.finish_stage(2)
        after = dict(run.model.shared_parameters())
        moved[weight] = sum(float((importance[n] * (after[n].detach() - before[n]) ** 2).sum()) for n in importance)
    assert moved[1e3] < 0.2 * moved[0.0]
