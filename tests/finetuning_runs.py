"""What the tests of fine-tuning share: tiny recipes on synthetic data, one call that trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.finetune import finetune
from medcoss_cli.finetuning import setup
from medcoss_cli.finetuning.setup import FinetuneJob
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.read import read_recipe
from tests.pretraining_runs import options

CLASSES = """\
kind: finetune
task: classification
modality: xray
from: scratch
encoder: {width: 32, depth: 2, heads: 2}
tokenizer: patch2d-8
data: {folder: xray}
input: {size: [32, 32]}
train: {lr: 1e-3, batch: 8, steps: 8, epoch: 4}
"""
MASKS = """\
kind: finetune
task: segmentation
modality: ct
classes: {a: any}
from: scratch
encoder: {width: 32, depth: 2, heads: 2}
tokenizer: patch3d-8
data: {folder: ct}
input: {size: [16, 32, 32], spacing: [6, 8, 8], augment: none}
head: {features: 4}
train: {lr: 1e-3, batch: 2, steps: 4, epoch: 2}
predict: {mirror: false}
"""


def recipe_of(folder: Path, text: str, *overrides: str) -> FinetuneRecipe:
    """A recipe as a user would write it, with overrides."""
    path = folder / "task.yaml"
    path.write_text(text)
    recipe = read_recipe(str(path), overrides, kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    return recipe


def begin(
    folder: Path,
    data: Path,
    text: str,
    *overrides: str,
    start: str | None = None,
    seeds: Sequence[int] = (0,),
    screen: Screen | None = None,
    name: str = "run",
) -> FinetuneJob:
    """A run that is ready to go."""
    recipe = recipe_of(folder, text, *overrides)
    return setup.begin_finetune(recipe, "task", start, seeds, options(folder, data, name), screen or Screen())


def tune(folder: Path, data: Path, text: str, *overrides: str, **more: Any) -> tuple[dict[str, Any], Path]:
    """Train and test; returns results.json and the run's folder."""
    job = begin(folder, data, text, *overrides, **more)
    try:
        return finetune(job), job.run.folder
    finally:
        job.run.close()


def resume(folder: Path, data: Path, screen: Screen | None = None) -> dict[str, Any]:
    """Continue an interrupted run."""
    job = setup.resume_finetune(folder / "runs" / "run", options(folder, data), screen or Screen())
    try:
        return finetune(job)
    finally:
        job.run.close()
