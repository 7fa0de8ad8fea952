"""Every built-in strategy through the doors of real runs: two stages, then one more modality from the checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medcoss_cli.pretrain import pretrain
from medcoss_cli.pretraining import setup
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.recipe.schema import ExtendRecipe
from tests.pretraining_runs import StopAfter, options, train

WAYS = {
    "medcoss": (),
    "sequential": (),
    "er": ("strategy.decoders=kept",),
    "ewc": (),
    "packnet": ("strategy.spare=1",),
    "cassle": ("strategy.norm=batch",),
    "der": (),
    "derpp": ("strategy.decoders=kept",),
}


def extend(folder: Path, data: Path, strategy: str, *ways: str) -> State:
    settings = ["train.epochs=1", "train.warmup=0", "train.batch=8", f"strategy.name={strategy}", *ways]
    recipe = read_recipe("extend", settings, kind="extend")
    assert isinstance(recipe, ExtendRecipe)
    start = folder / "runs" / strategy / "ckpt.pt"
    there = options(folder, data, f"more-{strategy}")
    return pretrain(setup.begin_extend(recipe, "ultrasound", start, None, there, StopAfter(-1)))


@pytest.mark.parametrize("strategy", WAYS)
def test_a_checkpoint_of_each_strategy_is_extended_by_it(folder: Path, data: Path, strategy: str) -> None:
    ways = WAYS[strategy]
    state = train(folder, data, f"strategy.name={strategy}", *ways, "train.epochs=1", name=strategy)
    before = {name: tensor.clone() for name, tensor in state.model.encoder.state_dict().items()}
    extended = extend(folder, data, strategy, *ways)
    assert [entry["stage"] for entry in extended.history] == [1, 2, 3]
    assert set(extended.memory) == set(state.memory)
    assert any(not torch.equal(tensor, before[n]) for n, tensor in extended.model.encoder.state_dict().items())
    assert set(extended.history[-1]["retention"]) == {"report", "xray", "ultrasound"}


def test_the_first_stage_is_the_same_bits_for_all_but_packnet(folder: Path, data: Path) -> None:
    """So that a comparison may call it one stage, although each strategy leaves another memory of it."""
    first = {}
    for strategy in WAYS:
        found = list((folder / "runs" / strategy / "stages").glob("1-*/encoder.safetensors"))
        if found:
            first[strategy] = load_file(found[0])
    if "sequential" not in first:
        pytest.skip("the tests above were not run")
    for strategy, weights in first.items():
        same = all(torch.equal(tensor, first["sequential"][name]) for name, tensor in weights.items())
        assert same == (strategy != "packnet"), strategy
