"""Every built-in strategy through the doors of real runs: two stages, then one more modality from the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medcoss_cli.errors import CheckpointError
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


def extend(folder: Path, data: Path, strategy: str, *ways: str, start: Path | None = None) -> State:
    settings = ["train.epochs=1", "train.warmup=0", "train.batch=8", f"strategy.name={strategy}", *ways]
    recipe = read_recipe("extend", settings, kind="extend")
    assert isinstance(recipe, ExtendRecipe)
    there = options(folder, data, f"more-{strategy}" if start is None else None)
    start = start or folder / "runs" / strategy / "ckpt.pt"
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


NAME = "encoder.blocks.0.attn.qkv.weight"
Damage = Callable[[dict[str, Any]], object]


def stored(**changes: Callable[[Any], Any]) -> Damage:
    """A change of the first stored part, which is of words."""
    return lambda memory: memory["stored"][0].update(
        {n: change(memory["stored"][0][n]) for n, change in changes.items()}
    )


def pixels(**changes: Callable[[Any], Any]) -> Damage:
    """The same of the second part, which is of an image."""
    return lambda memory: memory["stored"][1].update(
        {n: change(memory["stored"][1][n]) for n, change in changes.items()}
    )


ANY_STORED: dict[str, Damage] = {
    "an unknown modality": stored(modality=lambda _: "unheard"),
    "no modality": lambda memory: memory["stored"][0].pop("modality"),
    "another part": lambda memory: memory["stored"][0].update(keep=1),
    "fewer inputs": pixels(inputs=lambda tensor: tensor[:2]),
    "no rows": pixels(**dict.fromkeys(("inputs", "keep", "tokens"), lambda tensor: tensor[:0])),
    "a part that is a number": lambda memory: memory["stored"].append(3),
    "tokens that are a number": pixels(tokens=lambda _: 3),
    "tokens of another number": pixels(tokens=lambda tensor: tensor[:, 1:]),
    "tokens of another width": stored(tokens=lambda tensor: tensor[..., 1:]),
    "a patch out of range": pixels(keep=lambda tensor: tensor + 15),
    "a patch below 0": pixels(keep=lambda tensor: tensor - 16),
    "a word out of range": stored(hidden=lambda tensor: tensor + 9999),
    "a word that is learned out of range": stored(inputs=lambda tensor: tensor + 9999),
    "inputs of another size": pixels(inputs=lambda tensor: tensor[..., 1:]),
    "words that are numbers": stored(hidden=lambda tensor: tensor.float()),
    "what is no list": lambda memory: memory.update(stored=3),
}
CARRIED: dict[str, Damage] = {
    "no tensors": lambda memory: memory["decoders"].update(report=3),
    "other tensors": lambda memory: memory["decoders"].update(report={"a": torch.ones(1)}),
    "of no modality": lambda memory: memory["decoders"].update(unheard={}),
    "tensors that are numbers": lambda memory: memory["decoders"].update(
        report=dict.fromkeys(memory["decoders"]["report"], 1)
    ),
}
DAMAGED: dict[str, dict[str, Damage]] = {
    "ewc": {
        "another shape": lambda memory: memory["importance"].update({NAME: torch.ones(3)}),
        "a target that is missing": lambda memory: memory["target"].pop(NAME),
        "no tensor": lambda memory: memory["target"].update({NAME: 3}),
        "whole numbers": lambda memory: memory["importance"].update({NAME: memory["importance"][NAME].int()}),
    },
    "packnet": {
        "another shape": lambda memory: memory["owner"].update({NAME: torch.zeros(3, dtype=torch.uint8)}),
        "no bytes": lambda memory: memory["owner"].update({NAME: memory["owner"][NAME].float()}),
        "stages that are words": lambda memory: memory.update(stages={"xray": "1"}),
        "settled that are numbers": lambda memory: memory.update(settled=[1]),
        "no owner": lambda memory: memory.pop("owner"),
    },
    "er": CARRIED,
    "der": ANY_STORED,
    "derpp": ANY_STORED | CARRIED,
}


@pytest.fixture(scope="module")
def memories(folder: Path, data: Path) -> Path:
    for strategy in DAMAGED:
        train(folder, data, f"strategy.name={strategy}", *WAYS[strategy], "train.epochs=0.5", name=f"for-{strategy}")
    return folder


@pytest.mark.parametrize(("strategy", "damage"), [(name, case) for name in DAMAGED for case in DAMAGED[name]])
def test_memory_that_is_not_of_the_model_is_damage(memories: Path, data: Path, strategy: str, damage: str) -> None:
    content = torch.load(memories / "runs" / f"for-{strategy}" / "ckpt.pt", weights_only=True)
    DAMAGED[strategy][damage](content["memory"][strategy])
    place = memories / "damaged.pt"
    torch.save(content, place)
    with pytest.raises(CheckpointError, match="the file is damaged"):
        extend(memories, data, strategy, *WAYS[strategy], start=place)
