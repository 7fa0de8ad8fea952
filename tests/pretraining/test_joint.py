"""Stages of several modalities: trained, resumed to the same bits, extended, planned, shown."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from medcoss_cli.console import Screen
from medcoss_cli.errors import Interrupted, RecipeError
from medcoss_cli.model.batch import Batch
from medcoss_cli.pretrain import pretrain
from medcoss_cli.pretraining import retention, setup
from medcoss_cli.pretraining.dry_run import outlook
from medcoss_cli.pretraining.engine import Engine
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.report.runs import Pretraining, read
from medcoss_cli.strategies import Losses, terms
from tests.conftest import CommandLine
from tests.pretraining_runs import StopAfter, options, resume, train, write_demo

JOINT = (
    "stages=[{modalities: [{modality: xray, data: xray, size: [32, 32], tokenizer: patch2d-8}, "
    "{modality: ultrasound, data: ultrasound}]}, {modality: report, data: report, size: [32], vocabulary_size: 300}]"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=60, xray=60, ultrasound=30, ct=2)


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, State]:
    folder = tmp_path_factory.mktemp("joint")
    return folder, train(folder, data, JOINT)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "runs" / "run" / "metrics.jsonl").read_text().splitlines()]


def test_each_step_is_of_one_modality_in_proportion_to_its_samples(joint: tuple[Path, State]) -> None:
    folder, state = joint
    first = state.history[0]
    counts = {name: part["train"] for name, part in first["modalities"].items()}
    assert first["modality"] == "xray+ultrasound"
    assert first["train"] == sum(counts.values())
    rows = [row for row in metrics(folder) if row["stage"] == 1]
    assert len(rows) == first["steps"] == math.ceil(2 * first["train"] / 8)
    taken = Counter(row["modality"] for row in rows)
    for name, count in counts.items():
        assert abs(taken[name] - len(rows) * count / first["train"]) <= 1


def test_each_modality_has_buffer_probes_decoder_and_retention(joint: tuple[Path, State]) -> None:
    folder, state = joint
    assert set(state.buffer) == set(state.anchors) == set(state.model.decoders) == {"xray", "ultrasound", "report"}
    for name, part in state.history[0]["modalities"].items():
        assert len(state.buffer[name]) == part["buffer"] == math.floor(0.2 * part["train"] + 0.5)
        assert state.history[0]["retention"][name]["cka"] == pytest.approx(1)
    table = {row[0].removesuffix(" (learned nothing)"): row[1:] for row in retention.rows(state.history, "loss")}
    assert list(table) == ["xray", "ultrasound", "report"]
    assert all(float(cell) < 2 for row in table.values() for cell in row if cell)
    assert {row["modality"] for row in metrics(folder) if row["stage"] == 2 and not row["new"]} == {
        "xray",
        "ultrasound",
    }
    assert (folder / "runs" / "run" / "stages" / "1-xray+ultrasound" / "encoder.safetensors").exists()


def test_interrupted_and_resumed_gives_the_same_bits(tmp_path: Path, data: Path, joint: tuple[Path, State]) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, data, JOINT, screen=StopAfter(7))
    again = resume(tmp_path, data).model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in joint[1].model.state_dict().items())


def test_it_is_extended(tmp_path: Path, data: Path, joint: tuple[Path, State]) -> None:
    recipe = read_recipe(
        "extend", ["train.epochs=1", "train.warmup=0", "train.batch=4", "size=[16, 32, 32]"], kind="extend"
    )
    start = joint[0] / "runs" / "run" / "ckpt.pt"
    state = pretrain(setup.begin_extend(recipe, "ct", start, None, options(tmp_path, data), Screen()))  # type: ignore[arg-type]
    assert [entry["modality"] for entry in state.history] == ["xray+ultrasound", "report", "ct"]
    assert set(state.history[-1]["retention"]) >= {"xray", "ultrasound", "report"}


def test_verbs_show_it(command_line: CommandLine, joint: tuple[Path, State]) -> None:
    run = joint[0] / "runs" / "run"
    answer = command_line("checkpoint", "show", str(run))
    assert answer.code == 0
    assert "xray+ultrasound" in answer.out
    stage = json.loads(command_line("checkpoint", "show", str(run), "--json").out)["stages"][0]
    assert stage["loss"] < 2
    page = joint[0] / "page.html"
    assert command_line("report", str(run), "--out", str(page)).code == 0
    assert "ultrasound" in page.read_text()
    assert isinstance(found := read(run, False)[0], Pretraining)
    assert found.stages == {1: "xray+ultrasound", 2: "report"}
    assert command_line("checkpoint", "strip", str(run), str(joint[0] / "e.safetensors")).code == 0


def test_uniform_sampling_and_mixed_micro_batches(tmp_path: Path, data: Path) -> None:
    uniform = JOINT.replace("ultrasound}]}", "ultrasound}], sampling: uniform}")
    state = train(tmp_path, data, uniform, "train.mix=true", "train.accumulate=2", "train.epochs=1")
    rows = metrics(tmp_path)
    steps = [row["step"] for row in rows if row["stage"] == 1]
    assert len(steps) == 2 * state.history[0]["steps"] == 2 * len(set(steps))
    taken = Counter(row["modality"] for row in rows if row["stage"] == 1)
    assert abs(taken["xray"] - taken["ultrasound"]) <= 1
    assert all(row["samples"] == 4 for row in rows)
    kinds = {}
    for row in rows:
        if row["stage"] == 2:
            kinds.setdefault(row["step"], set()).add(row["new"])
    assert {True, False} in kinds.values()  # a step that learns and rehearses
    with pytest.raises(RecipeError, match="mix has no effect with accumulate: 1"):
        train(tmp_path, data, "train.mix=true", name="odd")
    with pytest.raises(RecipeError, match="is no multiple of 3"):
        train(tmp_path, data, "train.mix=true", "train.accumulate=3", name="odd")


def test_a_mixed_step_averages_what_each_micro_batch_gives_alone(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every micro-batch is divided by its own count, of patches or of words, and all weigh alike."""
    alone: list[tuple[torch.Tensor, ...]] = []
    off: list[float] = []
    step = Engine.step

    def compared(self: Engine, batch: Batch, loss: Losses) -> None:
        [(value, count)] = terms(loss)
        grads = torch.autograd.grad(value / count, self.parameters, retain_graph=True, materialize_grads=True)
        alone.append(grads)
        step(self, batch, loss)
        if len(alone) == 2:
            mean = [sum(parts) / 2 for parts in zip(*alone, strict=True)]
            kept = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
            off.append(max(float((a - b).abs().max()) for a, b in zip(mean, kept, strict=True)))
            alone.clear()

    monkeypatch.setattr(Engine, "step", compared)
    train(tmp_path, data, "strategy=er", "train.mix=true", "train.accumulate=2", "train.epochs=1")
    assert len(off) > 4
    assert max(off) < 1e-6


def test_a_mixed_run_resumes_to_the_same_bits(tmp_path: Path, data: Path) -> None:
    mixed = ("train.mix=true", "train.accumulate=2", "train.epochs=1")
    whole = train(tmp_path, data, *mixed, name="whole").model.state_dict()
    with pytest.raises(Interrupted):
        train(tmp_path, data, *mixed, screen=StopAfter(5))
    again = resume(tmp_path, data).model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


def test_a_dry_run_plans_it(tmp_path: Path, data: Path, joint: tuple[Path, State]) -> None:
    (tmp_path / "tiny.yaml").write_text((joint[0] / "tiny.yaml").read_text())
    recipe = read_recipe(str(tmp_path / "tiny.yaml"), [JOINT], kind="pretrain")
    screen = StopAfter(0)
    outlook(recipe, recipe.stages, setup.first_state(recipe), options(tmp_path, data), screen)  # type: ignore[arg-type,union-attr]
    rows = [line for line in screen.said if line.startswith("['1'")]
    assert len(rows) == 2
    assert rows[0].rstrip("]'").rsplit("'", 1)[1].isdecimal()
    assert rows[1].endswith("'']")
