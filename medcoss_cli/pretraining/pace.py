"""How long and how fast `extend` trains where the user does not say: as the checkpoint's last stage, on the new data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.data.read import find
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.schema import ExtendRecipe, Stage, Train
from medcoss_cli.registry.configure import for_stage, reading

PACE = ("epochs", "warmup", "batch", "lr")
MOST = 300.0
"""Epochs, the paper's: few samples would else be seen without end."""


def paced(recipe: ExtendRecipe, state: State, stage: Stage, screen: Screen) -> ExtendRecipe:
    """The recipe with epochs, warm-up, batch and learning rate where it says nothing of them, printed.

    Raises: DataError where the stage's folder holds nothing of its modality.
    """
    given = recipe.train.model_fields_set & set(PACE)
    last = state.history[-1] if state.history else {}
    if given == set(PACE) or any(
        last.get(key) is None for key in ("steps", "rehearsal_steps", "batch", "learning_rate")
    ):
        return _with(recipe, _warmup(recipe.train, given))
    train = recipe.train
    batch = train.batch if "batch" in given else int(last["batch"])
    # a step on more samples may be longer, one on fewer has to be shorter (linear scaling)
    rate = train.lr if "lr" in given else float(last["learning_rate"]) * batch / int(last["batch"])
    pace: dict[str, Any] = {"batch": batch, "lr": rate}
    if "lr" not in given:
        pace["lr_batch"] = None  # it is for this batch
    if "epochs" not in given:
        modality = for_stage(
            stage.modality,
            state.model.modalities,
            Screen(),
            decoder=recipe.decoder.model_dump() if recipe.decoder else None,
            offered=state.model.offered,
            positions=recipe.positions,
            **stage.parts(),
        )
        part = reading(modality, recipe.data.reading)
        count = len(find(part, Path(stage.data), recipe.data.split, columns=stage.columns).records)
        seen = (int(last["steps"]) - int(last["rehearsal_steps"])) * int(last["batch"])
        pace["epochs"] = round(min(MOST, max(1.0, seen / count)), 1)
    filled = train.model_copy(update=pace)
    filled = filled.model_copy(update=_warmup(filled, given))
    screen.say(
        f"as stage {last['stage']} of the checkpoint: {filled.epochs:g} epochs, {filled.warmup:g} of them warm-up, batches of "
        f"{filled.batch}, learning rate {filled.lr:g}; train.epochs=, warmup=, batch= and lr= set others"
    )
    return recipe.model_copy(update={"train": filled})


def _warmup(train: Train, given: set[str]) -> dict[str, Any]:
    """The recipe's part of the epochs, 40 of 300, so that a short stage is not all warm-up."""
    whole = Train()  # type: ignore[call-arg]  # every key has a default
    return {} if "warmup" in given else {"warmup": round(whole.warmup / whole.epochs * train.epochs, 2)}


def _with(recipe: ExtendRecipe, values: Mapping[str, Any]) -> ExtendRecipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=dict(values))})
