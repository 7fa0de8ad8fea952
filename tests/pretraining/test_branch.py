"""A first stage that was trained once is gone on from by every strategy as if it had trained it itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medcoss_cli.console import Screen
from medcoss_cli.errors import UsageError
from medcoss_cli.pretrain import pretrain
from medcoss_cli.pretraining import setup
from medcoss_cli.pretraining.branch import branch
from medcoss_cli.pretraining.job import Job
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.recipe.schema import PretrainRecipe
from tests.pretraining_runs import RECIPE, options, write_demo


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=40, xray=40)


def job_of(folder: Path, data: Path, strategy: str, name: str) -> Job:
    (folder / "tiny.yaml").write_text(RECIPE)
    recipe = read_recipe(str(folder / "tiny.yaml"), [f"strategy={strategy}", "train.epochs=1"], kind="pretrain")
    assert isinstance(recipe, PretrainRecipe)
    return setup.begin_pretrain(recipe, "tiny", options(folder, data, name), Screen())


@pytest.mark.parametrize("strategy", ["medcoss", "er", "ewc", "der", "derpp", "cassle"])
def test_the_second_stage_is_the_same_bits(tmp_path: Path, data: Path, strategy: str) -> None:
    whole = pretrain(job_of(tmp_path, data, strategy, "whole"))
    first = pretrain(job_of(tmp_path, data, "sequential", "first"), last=1)
    later = replace(job_of(tmp_path, data, strategy, "later"), state=first)
    branch(later)
    branched = pretrain(later)
    weights = branched.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in whole.model.state_dict().items())
    for ours, theirs in zip(branched.history, whole.history, strict=True):
        assert {k: v for k, v in ours.items() if v != theirs.get(k)} == {}
    for name, stored in whole.buffer.items():
        assert torch.equal(stored.integers, branched.buffer[name].integers)


def test_what_cannot_be_made_afterwards_is_refused(tmp_path: Path, data: Path) -> None:
    first = pretrain(job_of(tmp_path, data, "sequential", "first"), last=1)
    with pytest.raises(UsageError, match="packnet trains the first stage in a way of its own"):
        branch(replace(job_of(tmp_path, data, "packnet", "later"), state=first))
    with pytest.raises(UsageError, match="behind one stage, but 0 are done"):
        branch(job_of(tmp_path, data, "ewc", "none"))
