"""What `extend` trains with where the user does not say."""

from __future__ import annotations

import pytest

from medcoss_cli.console import Screen
from medcoss_cli.model.encoder import EncoderShape
from medcoss_cli.model.multimodal import Model
from medcoss_cli.pretraining.pace import paced
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.recipe.schema import ExtendRecipe, Stage
from tests.pretraining_runs import write_demo

LAST = {"stage": 2, "steps": 80, "rehearsal_steps": 20, "batch": 16, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = write_demo(tmp_path_factory.mktemp("data"), xray=60) / "xray"
    return Stage(modality="xray", data=str(folder))


def of(stage: Stage, *overrides: str, **last: float) -> ExtendRecipe:
    """The shipped recipe with overrides, paced behind a stage like `LAST`."""
    recipe = read_recipe("extend", list(overrides), kind="extend")
    assert isinstance(recipe, ExtendRecipe)
    model = Model(EncoderShape(width=32, depth=1, heads=2), 0, {"patches": 0.75, "words": 0.15})
    return paced(recipe, State(model, history=[LAST | last]), stage, Screen())


def test_as_many_new_samples_as_the_last_stage_saw_with_its_batch_and_rate(stage: Stage) -> None:
    train = of(stage, "data.split=all").train
    assert (train.batch, train.lr, train.epochs) == (16, 1e-3, 60 * 16 / 60)
    assert train.warmup == pytest.approx(40 / 300 * train.epochs, abs=0.01)


def test_a_stage_is_never_all_warm_up(stage: Stage) -> None:
    for epochs in (0.5, 5, 39, 300):
        assert of(stage, f"train.epochs={epochs}").train.warmup < 0.2 * epochs
    assert of(stage, steps=10**7).train.epochs == 300


def test_what_the_user_gives_stays(stage: Stage) -> None:
    given = of(stage, "train.epochs=3", "train.warmup=2", "train.batch=8").train
    assert (given.epochs, given.warmup, given.batch) == (3, 2, 8)
    assert given.lr == pytest.approx(5e-4)
