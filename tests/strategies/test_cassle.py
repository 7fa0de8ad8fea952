"""CaSSLe: its second term against loops, which stages it holds, and what the predictor is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medcoss_cli.conformance.toy_run import ToyRun
from medcoss_cli.strategies import StageInfo, terms
from medcoss_cli.strategies.cassle import CaSSLe, predictor


def second_stage(folder: Path, **settings: Any) -> ToyRun:
    """After stage 1, at the beginning of stage 2, whose modality has the same tokenizer."""
    run = ToyRun(CaSSLe, CaSSLe.Settings(**settings), folder / "run")
    run.finish_stage(1)
    run.begin(2)
    return run


@pytest.mark.parametrize(("distance", "weight"), [("mse", 25), ("cosine", 1)])
def test_without_predictor_the_term_is_zero_at_the_weights_of_the_teacher(
    tmp_path: Path, distance: str, weight: float
) -> None:
    run = second_stage(tmp_path, distance=distance)
    run.strategy.predictor = nn.Identity()
    batch = next(run.whole_batches())
    first, (value, count) = terms(run.strategy.loss(run.model, batch))
    alone, _ = run.model.masked_loss(batch)
    assert first[0].item() == alone.item()
    assert value.item() == pytest.approx(0, abs=1e-3 if distance == "cosine" else 0)
    assert float(count) == len(batch.inputs) * (4 + 1)  # a quarter of 16 patches, and cls
    assert run.strategy.weights == {"second": weight}


@pytest.mark.parametrize(("distance", "weight"), [("mse", 25), ("cosine", 1)])
def test_the_term_is_the_mean_over_tokens_of_the_distance_to_the_teacher(
    tmp_path: Path, distance: str, weight: float
) -> None:
    run = second_stage(tmp_path, distance=distance)
    batch = next(run.whole_batches())
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(0.01)
        value, count = terms(run.strategy.loss(run.model, batch))[1]
        distances = []
        for row in range(len(batch.inputs)):
            part = replace(batch, inputs=batch.inputs[row : row + 1], rows=slice(row, row + 1))
            student, teacher = (model.features(part)[0][0] for model in (run.model, run.strategy.teacher))
            for z, old in zip(run.strategy.predictor(student), teacher, strict=True):
                cosine = (z @ old) / (z.norm() * old.norm())
                distances.append((z - old).square().mean() if distance == "mse" else 1 - cosine)
    assert (value / count).item() == pytest.approx(weight * torch.stack(distances).mean().item(), rel=1e-4)


def test_a_tokenizer_that_the_stage_brings_is_not_distilled_and_that_is_recorded(tmp_path: Path) -> None:
    run = second_stage(tmp_path)
    assert run.strategy.memory() == {"weights": {"1": {"first": 0.0}, "2": {"second": 25.0}}}
    run.strategy.begin_stage(run.model, StageInfo(3, None, ("first", "second"), ("first", "second")))
    assert run.strategy.memory()["weights"]["3"] == {"first": 0.0, "second": 0.0}
    assert not list(run.strategy.predictor.parameters())
    assert isinstance(run.strategy.loss(run.model, next(run.whole_batches())), tuple)


def test_the_predictor_is_new_in_every_stage_and_trained(tmp_path: Path) -> None:
    run = second_stage(tmp_path)
    assert "predictor.0.weight" in dict(run.strategy.parameters(run.model))
    before = run.strategy.predictor[0].weight.detach().clone()
    run.finish_stage(2)
    assert not torch.equal(run.strategy.predictor[0].weight, before)
    run.strategy.begin_stage(run.model, StageInfo(3, None, ("second",), ()))
    assert not torch.equal(run.strategy.predictor[0].weight, before)  # stage 3 draws its own
    assert all(not p.requires_grad for p in run.strategy.teacher.parameters())


def test_with_batch_norm_a_stage_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = second_stage(tmp_path / "whole", norm="batch")
    assert isinstance(predictor(8, "batch")[1], nn.BatchNorm1d)
    whole.finish_stage(2)
    cut = second_stage(tmp_path / "cut", norm="batch")
    weights = {name: tensor.clone() for name, tensor in cut.model.state_dict().items()}
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("decoders.second")}
    cut.finish_stage(2, stop_after=5)
    memory = {"weights": {"1": {"first": 0.0}}}
    cut.restart(weights, CaSSLe(CaSSLe.Settings(norm="batch")))
    cut.strategy.load_memory(memory)
    cut.finish_stage(2)
    assert all(torch.equal(tensor, cut.model.state_dict()[name]) for name, tensor in whole.model.state_dict().items())


def test_settings_are_checked() -> None:
    for wrong in ({"weight": float("inf")}, {"weight": -1.0}, {"norm": "none"}, {"distance": "l1"}):
        with pytest.raises(ValueError, match="validation error"):
            CaSSLe.Settings(**wrong)  # type: ignore[arg-type]
