"""PackNet: owners, shares, and that what is frozen stays the same to the last bit under AdamW with decay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medcoss_cli.conformance.toy_run import ToyRun
from medcoss_cli.errors import CheckpointError, Interrupted, UsageError
from medcoss_cli.pretrain import pretrain
from medcoss_cli.pretraining import setup
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.strategies.packnet import PackNet, maskable
from tests.finetuning_runs import CLASSES, begin
from tests.pretraining_runs import RECIPE, StopAfter, options, resume, train

THREE = RECIPE + "  - {modality: ultrasound, data: ultrasound, size: [32, 32]}\n"


@pytest.fixture(scope="module")
def three(folder: Path, data: Path) -> State:
    """Three stages with strong decay, room left for one more."""
    ways = ("strategy.name=packnet", "strategy.spare=1", "train.weight_decay=0.5", "train.lr=1e-2")
    return train(folder, data, *ways, name="three", text=THREE)


def stage_weights(folder: Path, name: str, number: int) -> dict[str, torch.Tensor]:
    (path,) = (folder / "runs" / name / "stages").glob(f"{number}-*/encoder.safetensors")
    return load_file(path)


def test_weights_of_a_stage_are_the_same_bits_after_every_later_stage(folder: Path, three: State) -> None:
    owner = three.memory["packnet"]["owner"]
    weights = [stage_weights(folder, "three", number) for number in (1, 2, 3)]
    moved = 0
    for name, stages in owner.items():
        for number, at in enumerate(weights, 1):
            if name not in at:
                continue
            own = stages == number
            assert own.any()
            for later in weights[number:]:
                assert torch.equal(at[name][own], later[name][own])
            assert not at[name][stages > number].any()  # free weights are 0
            moved += int(own.sum())
    assert moved > 1000
    for name in three.memory["packnet"]["settled"]:
        at_first = next(at for at in weights if name in at)
        assert torch.equal(at_first[name], weights[-1][name])


def test_an_earlier_modality_is_served_as_its_stage_left_it(three: State) -> None:
    for row in three.history[-1]["retention"].values():
        assert row["loss"] == row["loss_then"]
        assert row["cosine"] == pytest.approx(1, abs=1e-9)


def test_shares_are_those_of_the_stages_to_come(three: State) -> None:
    """Of n weights 1 of 4, then 1 of 3, then 1 of 2, and the rest is free."""
    owner = three.memory["packnet"]["owner"]["encoder.blocks.0.mlp.fc1.weight"]
    n = owner.numel()
    first = round(n / 4)
    second = round((n - first) / 3)
    assert [int((owner == number).sum()) for number in (1, 2, 3)] == [
        first,
        second,
        round((n - first - second) / 2),
    ]


def test_pruning_keeps_the_largest_of_the_free_weights(tmp_path: Path) -> None:
    run = ToyRun(PackNet, PackNet.Settings(), tmp_path / "run")
    strategy = run.begin(1)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    strategy.phases(run.info)[1].on_begin(run.model)  # type: ignore[misc]
    for name in maskable(run.model):
        after = run.model.get_parameter(name)
        order = sorted(before[name].abs().flatten().tolist(), reverse=True)
        kept = order[: round(len(order) / 2)]
        assert sorted(after[after != 0].abs().tolist(), reverse=True) == kept
        assert torch.equal(after != 0, strategy.owner[name] == 1)


def test_biases_norms_and_cls_stay_after_their_first_stage(tmp_path: Path) -> None:
    run = ToyRun(PackNet, PackNet.Settings(), tmp_path / "run")
    run.finish_stage(1)
    names = [name for name, _ in run.model.shared_parameters() if name not in maskable(run.model)]
    assert "encoder.cls" in names
    before = {name: run.model.get_parameter(name).detach().clone() for name in names}
    run.finish_stage(2)
    assert all(torch.equal(run.model.get_parameter(name), before[name]) for name in names)
    assert all(p.requires_grad for _, p in run.model.shared_parameters())


def test_fine_tuning_begins_with_what_serves_the_modality_where_that_is_asked_for(
    folder: Path, data: Path, three: State
) -> None:
    """Stage 2 of 3 trained X-rays: weights of stage 3 are 0, unlike in the checkpoint."""
    checkpoint, owner = folder / "runs" / "three" / "ckpt.pt", three.memory["packnet"]["owner"]
    name = "encoder.blocks.0.mlp.fc1.weight"
    job = begin(folder, data, CLASSES, "head.subnetwork=true", start=str(checkpoint), name="part")
    job.run.close()
    second = stage_weights(folder, "three", 2)
    assert torch.equal(job.weights[name], second[name])
    assert not job.weights[name][owner[name] > 2].any()
    assert torch.equal(job.network(0).state_dict()[name], second[name])
    whole = begin(folder, data, CLASSES, start=str(checkpoint), name="all")
    whole.run.close()
    assert whole.weights[name][owner[name] > 2].all()


def test_a_part_of_the_weights_is_asked_for_in_vain(folder: Path, data: Path, three: State) -> None:
    run = folder / "runs" / "three"
    with pytest.raises(CheckpointError, match="which weights serve xray is not in this file"):
        begin(
            folder, data, CLASSES, "head.subnetwork=true", start=str(run / "stages" / "2-xray" / "encoder.safetensors")
        )
    train(folder, data, "strategy=er", "train.epochs=1", name="same")
    with pytest.raises(CheckpointError, match="the strategy er has the same weights for all modalities"):
        begin(folder, data, CLASSES, "head.subnetwork=true", start=str(folder / "runs" / "same" / "ckpt.pt"))
    with pytest.raises(UsageError, match="this starts from scratch"):
        begin(folder, data, CLASSES, "head.subnetwork=true")


NAME = "encoder.blocks.0.attn.qkv.weight"


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["history"].clear(),
        lambda content: content["history"][-1]["recipe"].update(strategy=5),
        lambda content: content["history"][-1]["recipe"].update(strategy="unheard"),
        lambda content: content["history"][-1]["recipe"].update(strategy={"name": "packnet", "spare": -1}),
        lambda content: content["memory"]["packnet"].clear(),
        lambda content: content["memory"]["packnet"]["owner"].update({NAME: torch.zeros(3, dtype=torch.uint8)}),
        lambda content: content["memory"]["packnet"]["owner"].update({NAME: 3}),
        lambda content: content["memory"]["packnet"].update(stages={"xray": "1"}),
    ],
)
def test_a_part_of_the_weights_of_a_damaged_file_is_a_sentence(
    folder: Path, data: Path, three: State, change: Callable[[dict[str, Any]], object]
) -> None:
    content = torch.load(folder / "runs" / "three" / "ckpt.pt", weights_only=True)
    change(content)
    torch.save(content, folder / "damaged.pt")
    with pytest.raises(CheckpointError):
        begin(folder, data, CLASSES, "head.subnetwork=true", start=str(folder / "damaged.pt"), name="damaged")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["owner"].clear(),
        lambda state: state["owner"].update({maskable_name(state): torch.zeros(3, dtype=torch.uint8)}),
        lambda state: state.update(pruned=torch.ones(2)),
    ],
)
def test_a_state_that_is_not_of_the_stage_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    strategy = ToyRun(PackNet, PackNet.Settings(), tmp_path / "run").begin(1)
    state = strategy.state()
    strategy.load_state(state)
    state = {**state, "owner": dict(state["owner"])}
    change(state)
    with pytest.raises(ValueError, match=r"has another shape|is of another form"):
        strategy.load_state(state)


def maskable_name(state: dict[str, Any]) -> str:
    return next(iter(state["owner"]))


def extend(folder: Path, data: Path, start: str, name: str) -> State:
    recipe = read_recipe(
        "extend", ["train.epochs=2", "train.warmup=0", "train.batch=8", "strategy=packnet"], kind="extend"
    )
    checkpoint = folder / "runs" / start / "ckpt.pt"
    job = setup.begin_extend(recipe, "ultrasound", checkpoint, None, options(folder, data, name), StopAfter(-1))  # type: ignore[arg-type]
    return pretrain(job)


def test_extend_takes_half_of_what_is_free(folder: Path, data: Path, three: State) -> None:
    before = three.memory["packnet"]["owner"]
    after = extend(folder, data, "three", "more").memory["packnet"]["owner"]
    for name, owner in before.items():
        assert torch.equal(after[name][owner > 0], owner[owner > 0])
        assert int((after[name] == 4).sum()) == round(int((owner == 0).sum()) / 2)


def test_more_stages_than_room_is_a_sentence(folder: Path, data: Path) -> None:
    train(folder, data, "strategy=packnet", "train.epochs=1", name="full")
    with pytest.raises(CheckpointError, match="packnet has no room for stage 3: no weights of a layer are free"):
        extend(folder, data, "full", "over")
    train(folder, data, "strategy=sequential", "train.epochs=1", name="other")
    with pytest.raises(CheckpointError, match="not trained with packnet"):
        extend(folder, data, "other", "foreign")


def test_a_stage_resumes_to_the_same_bits_before_and_after_pruning(folder: Path, data: Path) -> None:
    whole = train(folder, data, "strategy=packnet", name="whole")
    first, second = (entry["steps"] for entry in whole.history)
    for at in (first + 1, first + round(second * 2 / 3) + 1):
        with pytest.raises(Interrupted):
            train(folder, data, "strategy=packnet", name=f"cut-{at}", screen=StopAfter(at))
        again = resume(folder, data, f"cut-{at}")
        weights = whole.model.state_dict()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in again.model.state_dict().items())


def test_a_stage_without_room_is_refused_at_its_beginning(tmp_path: Path) -> None:
    run = ToyRun(PackNet, PackNet.Settings(spare=1000), tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"no room for stage 1: \d+ weights of a layer are free, for 1002 stages"):
        run.begin(1)
