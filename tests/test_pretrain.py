"""Algorithm 1 from end to end, through the doors that the verbs use, on tiny synthetic data."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from medcoss_cli.console import Screen
from medcoss_cli.errors import Interrupted, NonFiniteError, RecipeError
from medcoss_cli.pretrain import pretrain
from medcoss_cli.pretraining import setup
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.store import checkpoint
from medcoss_cli.training.distributed import Devices
from tests.conftest import CommandLine
from tests.pretraining_runs import RECIPE, StopAfter, options, resume, train, write_demo


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=80, xray=60, ultrasound=40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, State]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, train(folder, data)


def metrics(folder: Path, name: str = "run") -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()]


def same(a: State, b: State) -> bool:
    first, second = a.model.state_dict(), b.model.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_run_leaves_what_it_promises(trained: tuple[Path, State]) -> None:
    folder, state = trained
    run = folder / "runs" / "run"
    for name in ("recipe.yaml", "run.json", "metrics.jsonl", "log.txt", "ckpt.pt", "retention.json", "retention.png"):
        assert (run / name).stat().st_size > 0, name
    with (run / "quarantine.csv").open() as file:
        skipped = list(csv.DictReader(file))
    assert {row["stage"] for row in skipped} == {"1", "2"}
    assert all("of split" in row["reason"] and row["bad"] == "no" for row in skipped)
    for stage in ("1-report", "2-xray"):
        assert (run / "stages" / stage / "encoder.safetensors").exists()
    assert not (run / "resume.pt").exists()
    assert [entry["modality"] for entry in state.history] == ["report", "xray"]


def test_the_buffer_is_exactly_as_large_as_asked_and_holds_no_probe(trained: tuple[Path, State]) -> None:
    _, state = trained
    for entry in state.history:
        kept = state.buffer[entry["modality"]]
        assert len(kept) == entry["buffer"] == math.floor(0.2 * entry["train"] + 0.5)
        anchors = state.anchors[entry["modality"]].samples.integers.flatten(1)
        rows = kept.integers.flatten(1)
        assert not any((rows == probe).all(1).any() for probe in anchors)
        assert entry["train"] + entry["anchors"] == entry["samples"]


def test_the_loss_falls_and_rehearsal_takes_its_share(trained: tuple[Path, State]) -> None:
    folder, _ = trained
    rows = metrics(folder)
    first = [row["loss"] for row in rows if row["stage"] == 1]
    assert sum(first[-3:]) < sum(first[:3])
    second = [row for row in rows if row["stage"] == 2]
    assert sum(not row["new"] for row in second) == len(second) // 4
    assert next(row["loss"] for row in second if not row["new"]) < 1e-2


def test_distillation_is_exactly_zero_before_the_first_step_on_new_data(tmp_path: Path, data: Path) -> None:
    train(tmp_path, data, "train.lr=1e-30")
    assert all(row["loss"] == 0 for row in metrics(tmp_path) if row["stage"] == 2 and not row["new"])


def test_retention_is_one_in_its_own_stage_and_is_measured_after(trained: tuple[Path, State]) -> None:
    _, state = trained
    last = state.history[-1]["retention"]
    assert last["xray"]["cka"] == pytest.approx(1)
    assert last["xray"]["loss"] == last["xray"]["loss_then"]
    assert 0 < last["report"]["cka"] < 1
    assert last["report"]["loss_then"] == state.anchors["report"].loss


@pytest.mark.parametrize("steps", [1, 9, 20])
def test_interrupted_and_resumed_gives_the_same_bits(
    tmp_path: Path, data: Path, trained: tuple[Path, State], steps: int
) -> None:
    with pytest.raises(Interrupted) as stopped:
        train(tmp_path, data, screen=StopAfter(steps))
    assert stopped.value.exit_code == 130
    assert "--resume" in str(stopped.value)
    state = resume(tmp_path, data)
    assert same(state, trained[1])
    checkpoints = [(folder / "runs" / "run" / "ckpt.pt").read_bytes() for folder in (tmp_path, trained[0])]
    assert checkpoints[0] == checkpoints[1]
    assert all(torch.equal(state.buffer[m].integers, trained[1].buffer[m].integers) for m in state.buffer)
    whole = [(row["stage"], row["step"], row["loss"]) for row in metrics(trained[0])]
    assert [(row["stage"], row["step"], row["loss"]) for row in metrics(tmp_path)] == whole


def test_a_signal_in_the_middle_of_a_step_is_not_lost(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = Devices.add_up_gradients

    def signalled(self: Devices, *arguments: Any) -> None:
        monkeypatch.setattr(Devices, "add_up_gradients", inner)
        os.kill(os.getpid(), signal.SIGTERM)
        inner(self, *arguments)

    monkeypatch.setattr(Devices, "add_up_gradients", signalled)
    with pytest.raises(Interrupted, match="stopped after step 1 of"):
        train(tmp_path, data)


def test_accumulation_gives_the_curve_of_whole_batches(tmp_path: Path, data: Path, trained: tuple[Path, State]) -> None:
    train(tmp_path, data, "train.accumulate=3")
    whole = [row["loss"] for row in metrics(trained[0])]
    assert [row["loss"] for row in metrics(tmp_path)] == pytest.approx(whole, rel=2e-3)


@pytest.mark.parametrize("strategy", ["er", "sequential"])
def test_other_strategies_run_and_resume(tmp_path: Path, data: Path, strategy: str) -> None:
    whole = train(tmp_path, data, f"strategy={strategy}", name="whole")
    with pytest.raises(Interrupted):
        train(tmp_path, data, f"strategy={strategy}", name="cut", screen=StopAfter(20))
    assert same(resume(tmp_path, data, "cut"), whole)
    replayed = [row for row in metrics(tmp_path, "whole") if row["stage"] == 2 and not row["new"]]
    assert bool(replayed) == (strategy == "er")


def test_the_official_profile_trains_and_resumes(tmp_path: Path, data: Path) -> None:
    official = (
        "profile=official",
        "official={encoder: {layer_scale: 1e-3}, decoder: {positions: table}, positions: table, "
        "train: {lr_batch: 4, accumulate: 2, mix: true, drop_path: 0.5}}",
    )
    whole = train(tmp_path, data, *official, name="whole")
    with pytest.raises(Interrupted):
        train(tmp_path, data, *official, name="cut", screen=StopAfter(12))
    assert same(resume(tmp_path, data, "cut"), whole)
    assert max(row["lr"] for row in metrics(tmp_path, "whole")) == pytest.approx(2e-3), "1e-3 * 8 / 4"
    kept = checkpoint.load(tmp_path / "runs" / "whole" / "ckpt.pt")
    assert {key: spec["positions"] for key, spec in kept.tokenizers.items()} == dict.fromkeys(kept.tokenizers, "table")
    assert kept.weights["tokenizers.patch2d-8.table"].shape == (16, 32)
    assert kept.weights["decoders.xray.positions"].abs().max() > 0, "learned from 0"
    assert not same(train(tmp_path, data, *official, "official.train.drop_path=0", name="all"), whole)


def test_without_distillation_it_is_experience_replay(tmp_path: Path, data: Path) -> None:
    replay = train(tmp_path, data, "strategy=er", "rehearsal.select=kmeans", name="b")
    assert same(train(tmp_path, data, "strategy.distill=false", name="a"), replay)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path, data: Path) -> None:
    with pytest.raises(NonFiniteError) as stopped:
        train(tmp_path, data, "stages.1.lr=1e30", "stages.1.warmup=0")
    assert stopped.value.exit_code == 7
    kept = checkpoint.load(tmp_path / "runs" / "run" / "ckpt.pt")
    assert [entry["modality"] for entry in kept.history] == ["report"]
    assert all(weights.isfinite().all() for weights in kept.weights.values())


def test_fewer_samples_than_a_batch_a_buffer_or_a_cluster(tmp_path: Path) -> None:
    data = write_demo(tmp_path / "data", report=9, xray=3)
    state = train(tmp_path, data, "train.batch=16", "rehearsal.ratio=0.9", "data.split=all")
    assert [entry["samples"] for entry in state.history] == [9, 3]
    for entry in state.history:
        assert entry["buffer"] == math.floor(0.9 * entry["train"] + 0.5)
    assert state.history[1]["steps"] > state.history[1]["rehearsal_steps"] > 0


def test_a_checkpoint_alone_is_enough_to_extend(
    tmp_path: Path, data: Path, trained: tuple[Path, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "ckpt.pt").write_bytes((trained[0] / "runs" / "run" / "ckpt.pt").read_bytes())
    monkeypatch.chdir(alone)
    recipe = read_recipe("extend", ["train.epochs=2", "train.warmup=0", "train.batch=8"], kind="extend")
    chosen = options(alone, data)
    job = setup.begin_extend(recipe, "ultrasound", Path("ckpt.pt"), None, chosen, StopAfter(0))  # type: ignore[arg-type]
    state = pretrain(job)
    assert job.run.folder == alone / "runs" / "extend-ultrasound"
    assert [entry["modality"] for entry in state.history] == ["report", "xray", "ultrasound"]
    assert set(state.history[-1]["retention"]) == {"report", "xray", "ultrasound"}
    ultrasound, xray = (state.model.modalities[name] for name in ("ultrasound", "xray"))
    assert ultrasound.size == xray.size == (32, 32)
    assert ultrasound.tokenizer is not None
    assert ultrasound.tokenizer.key == "patch2d-8"
    again = State.from_checkpoint(checkpoint.load(job.run.checkpoint))
    assert same(again, state)


def test_an_extension_resumes_to_the_same_bits(tmp_path: Path, data: Path, trained: tuple[Path, State]) -> None:
    start = trained[0] / "runs" / "run" / "ckpt.pt"
    recipe = read_recipe("extend", ["train.epochs=2", "train.warmup=0", "train.batch=8"], kind="extend")
    whole = pretrain(setup.begin_extend(recipe, "ultrasound", start, None, options(tmp_path, data, "a"), Screen()))  # type: ignore[arg-type]
    job = setup.begin_extend(recipe, "ultrasound", start, None, options(tmp_path, data, "b"), StopAfter(5))  # type: ignore[arg-type]
    with pytest.raises(Interrupted):
        pretrain(job)
    job.run.close()
    assert same(resume(tmp_path, data, "b"), whole)


def test_a_modality_that_comes_again_keeps_both_shares_and_its_size(
    tmp_path: Path, data: Path, trained: tuple[Path, State]
) -> None:
    start = trained[0] / "runs" / "run" / "ckpt.pt"
    pace = ["train.epochs=1", "train.warmup=0", "train.batch=8"]
    recipe = read_recipe("extend", pace, kind="extend")
    job = setup.begin_extend(recipe, "xray", start, None, options(tmp_path, data), Screen())  # type: ignore[arg-type]
    state = pretrain(job)
    assert len(state.buffer["xray"]) == len(trained[1].buffer["xray"]) + round(0.05 * state.history[-1]["train"])
    assert state.model.modalities["xray"].size == (32, 32)
    other = read_recipe("extend", [*pace, "size=[64, 64]"], kind="extend")
    with pytest.raises(RecipeError, match="samples are of size"):
        pretrain(setup.begin_extend(other, "xray", start, None, options(tmp_path, data), Screen()))  # type: ignore[arg-type]


def test_an_extension_by_another_kind_takes_over_the_size_of_the_decoder(
    tmp_path: Path, data: Path, trained: tuple[Path, State]
) -> None:
    volumes = write_demo(tmp_path / "volumes", ct=2)
    pace = ["train.epochs=1", "train.warmup=0", "train.batch=4", "size=[16, 32, 32]"]
    recipe = read_recipe("extend", pace, kind="extend")
    start = trained[0] / "runs" / "run" / "ckpt.pt"
    job = setup.begin_extend(recipe, "ct", start, volumes / "ct", options(tmp_path, data), Screen())  # type: ignore[arg-type]
    state = pretrain(job)
    decoders = [state.model.modalities[name].decoder for name in ("xray", "ct")]
    assert decoders[0] == decoders[1]
    assert state.history[-1]["retention"]["xray"]["cka"] > 0.5


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_dry_run_refuses_a_name_that_the_run_would_refuse(
    tmp_path: Path, command_line: CommandLine, name: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    answer = command_line("pretrain", str(tmp_path / "tiny.yaml"), "--dry-run", "--name", name)
    assert answer.code == 2
    assert "is not a valid name for a run" in answer.err
