"""What the tests of training share: tiny synthetic data, a tiny recipe, one call that trains, a screen that interrupts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medcoss_cli.console import Bar, Screen
from medcoss_cli.importers.init import read_init
from medcoss_cli.pretrain import pretrain
from medcoss_cli.pretraining import setup
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.recipe.schema import PretrainRecipe
from medcoss_cli.registry.discovery import load_modality
from medcoss_cli.training import runs

RECIPE = """\
kind: pretrain
encoder: {width: 32, depth: 2, heads: 2}
decoder: {width: 16, depth: 1, heads: 2}
train: {epochs: 2, warmup: 1, batch: 8, lr: 1e-3, precision: fp32, save_minutes: 1000}
rehearsal: {ratio: 0.2, share: 0.25}
stages:
  - {modality: report, data: report, size: [32], vocabulary_size: 300}
  - {modality: xray, data: xray, size: [32, 32], tokenizer: patch2d-8}
"""


def write_demo(root: Path, **counts: int) -> Path:
    """Synthetic sets by modality under `root`."""
    for name, count in counts.items():
        demo = load_modality(name).demo
        assert demo is not None
        demo(root / name, count, 0)
    return root


def options(folder: Path, data: Path, name: str | None = None, *, overwrite: bool = False) -> runs.Options:
    """Runs in `folder`; prepared sets beside the data, shared by all tests."""
    return runs.Options(name, overwrite, data, data / "prepared", folder / "runs")


def train(
    folder: Path, data: Path, *overrides: str, name: str = "run", screen: Screen | None = None, text: str = RECIPE
) -> State:
    """Train the tiny recipe with overrides."""
    path = folder / "tiny.yaml"
    path.write_text(text)
    recipe = read_recipe(str(path), overrides, kind="pretrain")
    assert isinstance(recipe, PretrainRecipe)
    job = setup.begin_pretrain(recipe, "tiny", options(folder, data, name), screen or Screen(), *read_init(recipe))
    try:
        return pretrain(job)
    finally:
        job.run.close()


def resume(folder: Path, data: Path, name: str = "run", screen: Screen | None = None) -> State:
    """Go on with an interrupted run."""
    job = setup.resume(folder / "runs" / name, options(folder, data), screen or Screen())
    try:
        return pretrain(job)
    finally:
        job.run.close()


class StopAfter(Screen):
    """Sends this process a signal after so many steps of training."""

    def __init__(self, steps: int, number: signal.Signals = signal.SIGTERM) -> None:
        self.left, self.number, self.said = steps, number, list[str]()

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.said += [title, *map(str, rows)]

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Bar]:
        screen = self

        class Counting(Bar):
            def advance(self, steps: int = 1, **facts: str) -> None:
                if "loss" in facts:
                    screen.left -= 1
                    if screen.left == 0:
                        os.kill(os.getpid(), screen.number)

        yield Counting()
