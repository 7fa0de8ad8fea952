"""The suite that every strategy passes: `medcoss plugins check --strategy NAME`, and in an author's own pytest:

def test_it_conforms(tmp_path):
    assert conformance.check_strategy(MyStrategy, tmp_path) == []
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medcoss_cli.conformance.modality import run_steps
from medcoss_cli.conformance.toy_run import ToyRun
from medcoss_cli.model.batch import Batch
from medcoss_cli.registry import validate
from medcoss_cli.store import plain
from medcoss_cli.strategies import Losses, Strategy, terms


def check_strategy(strategy: type[Strategy], folder: Path) -> list[str]:
    """Everything that is wrong with a strategy, one sentence each; empty if it conforms.

    Two stages (one, of a strategy of a single stage) are trained on synthetic images, with the strategy's default
    settings, once as a whole and then interrupted and resumed in each phase, and with memory taken back from a file.

    Args:
        strategy: the class that the plugin's entry point or hook brings.
        folder: an empty folder for what the runs write.
    """
    try:
        validate.check_strategy(strategy)
    except validate.Broken as error:
        return [str(error)]
    suite = _Suite(strategy, folder)
    faults = run_steps([("its Settings", suite.settings), ("its parameters", suite.parameters)])
    faults += run_steps([("training two stages", suite.training)])
    if suite.reference is None:
        return faults
    return faults + run_steps(
        [
            ("its loss", suite.additive),
            ("training a second time", suite.repeated),
            ("its first stage", suite.plain_first_stage),
            ("taking its memory back", suite.memory),
            ("resuming it", suite.resumed),
        ]
    )


class _Suite:
    """Each step yields what is wrong; those behind `training` need what it leaves."""

    def __init__(self, strategy: type[Strategy], folder: Path) -> None:
        self.cls, self.folder = strategy, folder
        self.reference: ToyRun | None = None
        self.last = 1 if strategy.single_stage else 2  # stages are interrupted and looked at in the last one

    def _run(self, name: str) -> ToyRun:
        return ToyRun(self.cls, self.cls.Settings(), self.folder / name)

    def _earlier(self, run: ToyRun) -> None:
        for number in range(1, self.last):
            run.finish_stage(number)

    def settings(self) -> Iterator[str]:
        """Settings have defaults, and can be written into a recipe and read again."""
        settings = self.cls.Settings()
        if self.cls.Settings.model_validate(settings.model_dump(mode="json")) != settings:
            yield "its Settings are others when they are written as JSON and read again"
        for name, key in self.cls.Settings.model_json_schema().get("properties", {}).items():
            if not key.get("description"):
                yield f"its setting {name} has no description"

    def training(self) -> Iterator[str]:
        """Two stages with a finite loss; global random state and kept decoders stay as they are."""
        run = self._run("whole")
        decoder: dict[str, Tensor] = {}
        for number in range(1, self.last + 1):
            run.add(number)  # building a network draws from the global generator
            random_state = _global_state()
            for value, count in (term for loss in run.stage(number) for term in terms(loss)):
                if value.ndim != 0:
                    yield f"its loss has the shape {tuple(value.shape)}; it is a sum, one number"
                    return
                if float(count) <= 0:
                    yield f"its loss says that it counts {float(count):g}"
                    return
            if _global_state() != random_state:
                yield "it uses a global random generator; take medcoss_cli.randomness.seeded(...) or Batch.draw"
                return
            if number == 1:
                decoder = _copy(run.model.decoders.state_dict())
        weights = run.model.decoders.state_dict()
        if not self.cls.trains_decoders and not all(
            torch.equal(weights[name], before) for name, before in decoder.items()
        ):
            yield "it trains an earlier modality's decoder, which measures retention: train a copy, or set trains_decoders"
        self.reference = run

    def additive(self) -> Iterator[str]:
        """Parts of a batch give the sum and the count of the whole."""
        run = self._run("parts")
        self._earlier(run)
        strategy = run.begin(self.last)
        for batch in run.whole_batches():
            full, *halves = (_numbers(strategy.loss(run.model, part)) for part in (batch, *_halves(batch)))
            what = "new" if batch.new else "old"
            for (value, count), *parts in zip(full, *halves, strict=True):
                sums, counts = (sum(half[i] for half in parts) for i in (0, 1))
                if abs(counts - count) > 1e-4 * abs(count):
                    yield f"its loss counts {count:g} on {what} data, its halves {counts:g} together"
                if abs(sums - value) > 1e-3 * max(abs(value), 1e-6):
                    yield f"its loss is {value:.4g} on {what} data, its halves {sums:.4g} together: give a sum, not a mean"

    def parameters(self) -> Iterator[str]:
        """Named parameters that can be trained, each once."""
        run = self._run("parameters")
        named = list(run.begin(1).parameters(run.model))
        trained = [parameter for _, parameter in named if parameter.requires_grad]
        if not trained:
            yield "its parameters give nothing that can be trained"
        if len({id(parameter) for _, parameter in named}) < len(named):
            yield "its parameters give a parameter twice"

    def repeated(self) -> Iterator[str]:
        """The same seed gives the same weights."""
        second = self._run("again")
        for number in range(1, self.last + 1):
            second.finish_stage(number)
        if not _same(second, self.reference):
            yield "the same seed gives other weights the second time"

    def plain_first_stage(self) -> Iterator[str]:
        """Where it says so, its first stage gives the weights of plain training."""
        if not self.cls.plain_first_stage:
            return
        run, plain_run = self._run("first"), ToyRun(Strategy, Strategy.Settings(), self.folder / "plain")
        run.finish_stage(1)
        plain_run.finish_stage(1)
        if not _same(run, plain_run):
            yield "its first stage gives other weights than plain training; set plain_first_stage = False"

    def memory(self) -> Iterator[str]:
        """What memory() gives can be stored, and is all that a later stage needs."""
        run = self._run("memory")
        self._earlier(run)
        state = run.strategy.memory()
        path = self.folder / "memory.pt"
        try:
            plain.save(state, path)
        except TypeError as error:
            yield f"its memory cannot be kept in a checkpoint ({error})"
            return
        run.strategy = self.cls(self.cls.Settings())
        if state:
            run.strategy.load_memory(plain.load(path))
        run.finish_stage(self.last)
        if not _same(run, self.reference):
            yield "a second stage gives other weights after load_memory(memory()); memory lacks something"

    def resumed(self) -> Iterator[str]:
        """Interrupted in each phase and resumed by a new object, it gives the same weights."""
        assert self.reference is not None
        for step in self.reference.steps_within_phases():
            run = self._run(f"resumed-{step}")
            self._earlier(run)
            start = _copy(run.model.state_dict()), plain.plain(run.strategy.memory())
            try:
                run.finish_stage(self.last, stop_after=step)
            except TypeError as error:
                yield f"its state cannot be kept in resume.pt ({error})"
                return
            run.restart(start[0], self.cls(self.cls.Settings()))
            if start[1]:
                run.strategy.load_memory(start[1])
            run.finish_stage(self.last)
            if not _same(run, self.reference):
                yield f"resumed after step {step} of a stage it gives other weights; state() or memory() lacks something"
                return


def _numbers(loss: Losses) -> list[tuple[float, float]]:
    return [(value.item(), float(count)) for value, count in terms(loss)]


def _halves(batch: Batch) -> list[Batch]:
    middle, end = len(batch.inputs) // 2, len(batch.inputs)
    return [
        replace(
            batch,
            inputs=batch.inputs[first:last],
            partner=None if batch.partner is None else batch.partner[first:last],
            rows=slice(first, last),
        )
        for first, last in ((0, middle), (middle, end))
    ]


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def _same(run: ToyRun, other: ToyRun | None) -> bool:
    assert other is not None
    a, b = run.model.state_dict(), other.model.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _global_state() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), str(name), bytes(np.asarray(keys)), tuple(rest), random.getstate()
