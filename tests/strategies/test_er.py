"""Experience replay: what decodes old data in later stages."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from medcoss_cli.conformance.toy_run import ToyRun
from medcoss_cli.registry.discovery import load_strategy
from medcoss_cli.strategies import StageInfo
from medcoss_cli.strategies.er import ExperienceReplay


def third_stage(folder: Path, decoders: str) -> tuple[ToyRun, nn.Module]:
    """At the beginning of a stage behind two; with the replayed decoder as the second left it."""
    run = ToyRun(ExperienceReplay, ExperienceReplay.Settings(decoders=decoders), folder / decoders)  # type: ignore[arg-type]
    run.finish_stage(1)
    run.begin(2)
    run.finish_stage(2)
    left = copy.deepcopy(run.strategy.decoders["first"])
    memory = run.strategy.memory()
    run.strategy = ExperienceReplay(run.strategy.settings)  # type: ignore[arg-type]
    if memory:
        run.strategy.load_memory(memory)
    run.strategy.begin_stage(run.model, StageInfo(3, None, ("third",), ("third",)))
    return run, left


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(tensor, b.state_dict()[name]) for name, tensor in a.state_dict().items())


def test_kept_decoders_go_on_from_where_replay_left_them(tmp_path: Path) -> None:
    run, left = third_stage(tmp_path, "kept")
    assert same(run.strategy.decoders["first"], left)
    assert not same(left, run.model.decoders["first"])  # which measures retention
    assert same(run.strategy.decoders["second"], run.model.decoders["second"])  # not replayed yet


def test_fresh_decoders_are_random_in_every_stage(tmp_path: Path) -> None:
    run, left = third_stage(tmp_path, "fresh")
    assert not same(run.strategy.decoders["first"], left)
    assert not same(run.strategy.decoders["first"], run.model.decoders["first"])
    assert run.strategy.memory() == {}
    again = run.model.fresh_decoder(run.model.modalities["first"], "replay", "first", 3)
    assert same(run.strategy.decoders["first"], again)
    assert not same(again, run.model.fresh_decoder(run.model.modalities["first"], "replay", "first", 4))


def test_medcoss_takes_the_setting_only_where_it_has_an_effect() -> None:
    settings = load_strategy("medcoss").Settings
    assert settings(distill=False, decoders="kept").decoders == "kept"
    with pytest.raises(ValueError, match="decoders has no effect with distill: true"):
        settings(decoders="kept")
    with pytest.raises(ValueError, match="mixup has no effect with distill: false"):
        settings(distill=False, mixup=True)


def test_mixup_is_no_setting_of_er() -> None:
    with pytest.raises(ValueError, match="mixup"):
        ExperienceReplay.Settings(mixup=True)  # type: ignore[call-arg]
