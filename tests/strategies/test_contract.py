"""The contract through the doors of real runs: phases, after_step, memory, state, samples, blame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medcoss_cli.errors import Interrupted, PluginError
from medcoss_cli.pretrain import pretrain
from medcoss_cli.pretraining import setup
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.registry import discovery
from medcoss_cli.store import checkpoint
from tests.pretraining_runs import StopAfter, options, resume, train, write_demo


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=40, xray=40, ultrasound=30)


def install(folder: Path, code: str) -> None:
    """A distribution `medcoss-toys` with the strategy `toy`, as pip would leave it in `folder`."""
    info = folder / "medcoss_toys-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: medcoss-toys\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[medcoss.strategies]\ntoy = medcoss_toys:Toy\n")
    (folder / "medcoss_toys.py").write_text(code)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a strategy of this code for one test."""
    import sys

    def put(code: str) -> None:
        install(tmp_path / "site", code)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        discovery.forget()

    yield put
    sys.modules.pop("medcoss_toys", None)
    monkeypatch.undo()
    discovery.forget()


WHOLE = "from tests.conformance.toy_strategies import Whole as Toy\n"


def weights(state: State) -> dict[str, torch.Tensor]:
    return state.model.state_dict()


def same(a: State, b: State) -> bool:
    return all(torch.equal(tensor, weights(b)[name]) for name, tensor in weights(a).items())


def test_two_phases_memory_and_samples_resume_to_the_same_bits(tmp_path: Path, data: Path, toy: Any) -> None:
    toy(WHOLE)
    ways = ("strategy=toy", "strategy.weight=1.0")
    whole = train(tmp_path, data, *ways, name="whole")
    steps = [entry["steps"] for entry in whole.history]
    assert whole.memory["toy"]["steps"] == steps[1]
    assert set(whole.memory["toy"]["fisher"]) == set(whole.memory["toy"]["anchor"])
    assert whole.history[0]["strategy"] == "toy (weight: 1.0)"
    start = round(2 / 3 * steps[1])
    for at in (steps[0] + 2, steps[0] + start, steps[0] + start + 1):  # in the first phase, at its end, in the second
        with pytest.raises(Interrupted):
            train(tmp_path, data, *ways, name=f"cut-{at}", screen=StopAfter(at))
        assert same(resume(tmp_path, data, f"cut-{at}"), whole)
    kept = checkpoint.load(tmp_path / "runs" / "whole" / "ckpt.pt")
    assert kept.memory["toy"]["stage"] == 2


def test_extend_takes_the_memory_up_and_another_strategy_says_that_it_does_not(
    tmp_path: Path, data: Path, toy: Any
) -> None:
    toy(WHOLE)
    train(tmp_path, data, "strategy=toy", "train.epochs=1")
    start = tmp_path / "runs" / "run" / "ckpt.pt"

    def extend(name: str, *ways: str) -> tuple[State, list[str]]:
        recipe = read_recipe("extend", ["train.epochs=1", "train.warmup=0", "train.batch=8", *ways], kind="extend")
        screen = StopAfter(-1)
        job = setup.begin_extend(recipe, "ultrasound", start, None, options(tmp_path, data, name), screen)  # type: ignore[arg-type]
        return pretrain(job), screen.said

    weak, _ = extend("weak", "strategy=toy", "strategy.weight=0")
    strong, said = extend("strong", "strategy=toy", "strategy.weight=1000")
    assert not same(weak, strong)  # so the importance of the checkpoint is in use
    assert strong.memory["toy"]["stage"] == 3
    assert not any("memory" in line for line in said)
    other, said = extend("other", "strategy=sequential")
    assert any(
        line == "the checkpoint keeps memory of the strategy toy, which sequential does not use" for line in said
    )
    assert other.memory["toy"]["stage"] == 2


BROKEN = {
    "loss": "def loss(self, model, batch): raise KeyError('fisher')",
    "begin_stage": "def begin_stage(self, model, stage): raise SystemExit(3)",
    "after_step": "def after_step(self, model): 1 / 0",
    "end_stage": "def end_stage(self, model, samples): next(iter([]))",
    "on_begin": "def phases(self, stage): return [Phase(1.0, lambda model: 1 / 0)]",
    "__init__": "def __init__(self, settings): raise ValueError('licence')",
}


@pytest.mark.parametrize("member", BROKEN)
def test_a_member_that_raises_is_the_plugins_fault(tmp_path: Path, data: Path, toy: Any, member: str) -> None:
    toy(f"from medcoss_cli.strategies import Phase, Strategy\nclass Toy(Strategy):\n    {BROKEN[member]}\n")
    with pytest.raises(PluginError, match=rf"the strategy toy \(medcoss-toys 0.1\) fails in its {member} \(") as told:
        train(tmp_path, data, "strategy=toy", "train.epochs=1")
    assert told.value.exit_code == 3


def test_memory_that_a_checkpoint_cannot_hold_is_refused(tmp_path: Path, data: Path, toy: Any) -> None:
    toy("from tests.conformance.toy_strategies import OddMemory as Toy\n")
    with pytest.raises(PluginError, match=r"toy keeps what a checkpoint cannot hold in its memory \(set is neither"):
        train(tmp_path, data, "strategy=toy", "train.epochs=1")


def test_a_class_that_is_no_strategy_is_broken(toy: Any) -> None:
    toy("from medcoss_cli.strategies import Strategy\nclass Toy(Strategy):\n    rehearses = 'yes'\n")
    with pytest.raises(PluginError, match="its rehearses is 'yes', not True or False"):
        discovery.load_strategy("toy")
