"""What the tests of comparisons share: a tiny recipe of each kind, written as a user would."""

from __future__ import annotations

from pathlib import Path

from medcoss_cli.comparing.cells import Plan
from medcoss_cli.comparing.plan import plan
from medcoss_cli.recipe.comparison import CompareRecipe
from medcoss_cli.recipe.read import read_recipe
from tests.pretraining_runs import options

BASE = """\
kind: pretrain
encoder: {width: 32, depth: 2, heads: 2}
decoder: {width: 16, depth: 1, heads: 2}
data: {workers: 1}
train: {epochs: 1, warmup: 0, batch: 8, lr: 1e-3, workers: 0}
rehearsal: {ratio: 0.2, share: 0.25}
stages:
  - {modality: pathology, data: pathology, size: [32, 32], tokenizer: patch2d-8}
  - {modality: report, data: report, size: [32], vocabulary_size: 300}
"""
HEAD = "[modality=pathology, data.folder=pathology, data.workers=1, train.steps=6, train.warmup=0, train.batch=8]"
METHODS = """\
  - {name: scratch, from: scratch}
  - {name: single, stages: own}
  - {name: sequential, strategy: sequential}
  - {name: medcoss, strategy: medcoss}
"""


def write(
    folder: Path, methods: str = METHODS, more: str = "labels: [1]", task: str = f"set: {HEAD}, keep: true"
) -> Path:
    """A comparison's recipe, and the pre-training's beside it."""
    (folder / "base.yaml").write_text(BASE)
    path = folder / "tiny.yaml"
    tasks = f"  - {{name: tiles, recipe: classify, {task}}}\n"
    path.write_text(
        f"kind: compare\ntitle: Tiny\npretrain: {folder / 'base.yaml'}\nmethods:\n{methods}tasks:\n{tasks}draws: 100\n{more}\n"
    )
    return path


def planned(folder: Path, data: Path, *overrides: str, **parts: str) -> tuple[CompareRecipe, Plan]:
    """A recipe and its cells."""
    recipe = read_recipe(str(write(folder, **parts)), overrides, kind="compare")
    assert isinstance(recipe, CompareRecipe)
    return recipe, plan(recipe, options(folder, data))
