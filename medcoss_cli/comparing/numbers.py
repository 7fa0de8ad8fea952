"""What the cells gave, as numbers by method, task and measure; which tasks count; what differs from the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medcoss_cli.comparing import outcomes
from medcoss_cli.comparing.cells import Later, Plan, Training, Tuning, Use, key_of
from medcoss_cli.comparing.outcomes import Place
from medcoss_cli.console import Bar
from medcoss_cli.errors import CheckpointError
from medcoss_cli.finetuning.results import mean_sd
from medcoss_cli.metrics.paired import Difference, difference, draws_of, holm, same_cases
from medcoss_cli.recipe.comparison import CompareRecipe, Table, Task
from medcoss_cli.store.arrays import load_arrays, save_arrays
from medcoss_cli.tasks import TaskKind

_AGAIN = "remove the cell's run and its file in cells; the cell is then made again"


@dataclass(frozen=True)
class Number:
    """One cell's metrics under one encoder.

    Args:
        status: done, failed or missing.
        metrics: empty unless done.
        arrays: of the test cases; None where there are none.
        validation: of the cell's own training.
    """

    use: Use
    status: str
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    validation: Mapping[str, float | None] = field(default_factory=dict)
    arrays: Path | None = None


@dataclass(frozen=True)
class Column:
    """One measure of one task: a group of columns in a table.

    Args:
        after: "end", or "own": the stage in which the task's modality was learned.
    """

    task: str
    measure: str
    labels: float
    after: str = "end"


@dataclass(frozen=True)
class Counted:
    """Whether a task counts: its own stage's head against that on a random encoder, and against no encoder at all.

    Args:
        own, random, simple: main metric on validation, mean over the seeds; None where not measured.
        kept: the recipe keeps it in the tables in any case.
    """

    task: str
    metric: str
    own: float | None
    random: float | None
    simple: float | None
    kept: bool = False

    @property
    def beaten(self) -> bool:
        """Is the own stage's head better than both? What is not measured drops no task."""
        rivals = [value for value in (self.random, self.simple) if value is not None]
        return self.own is None or all(self.own > value for value in rivals)

    @property
    def counts(self) -> bool:
        """Is the task in the tables?"""
        return self.beaten or self.kept

    @property
    def verdict(self) -> str:
        """In words."""
        return "counts" if self.beaten else "kept by the recipe" if self.kept else "dropped"


@dataclass(frozen=True)
class Tested:
    """A difference, and its p corrected over the methods that are tested against the same reference (Holm)."""

    gap: Difference
    p: float


class Numbers:
    """All numbers of a comparison."""

    def __init__(self, recipe: CompareRecipe, plan: Plan, place: Place) -> None:
        self.recipe, self.plan, self.place = recipe, plan, place
        self.outcomes = {key: outcomes.read(place, key) or {} for key in plan.cells}
        self.all = [self._number(use) for use in plan.uses]
        self.kinds = dict(self._kinds())
        self.counted = [self._counts(task) for task in recipe.tasks if task.name in self.kinds]

    @property
    def tasks(self) -> list[str]:
        """Those that count, in the recipe's order."""
        return [entry.task for entry in self.counted if entry.counts]

    def trainings(self, method: str) -> list[tuple[int, Training]]:
        """A method's trainings by seed; of one that trains each modality alone, one of each that a task needs."""
        keys = [(seed, key) for (name, seed), key in self.plan.trainings.items() if name == method]
        if not keys:
            tuned = [(use.seed, self.plan.cells[use.cell]) for use in self.plan.uses if use.method == method]
            keys = [
                (seed, cell.start.training) for seed, cell in tuned if isinstance(cell, Tuning) and cell.start.training
            ]
        found = [(seed, self.plan.cells[key]) for seed, key in dict.fromkeys(keys)]
        return [(seed, cell) for seed, cell in found if isinstance(cell, Training)]

    def tested(self, task: str) -> tuple[str, str]:
        """How many test cases a task has, and the main metric of always giving the same answer, as printed."""
        cells = (self.outcomes[use.cell] for use in self.plan.uses if use.task == task)
        done = next((found for found in cells if found.get("samples")), {})
        guess = (done.get("baseline") or {}).get(self.kinds[task].main)
        return str(done.get("samples", "–")), "–" if guess is None else f"{guess:.3f}"

    def trained(self, task: str) -> str:
        """How many cases a task is trained on, by share of the labels: "302; 20 %: 61"."""
        counts: dict[float, int] = {}
        for use in self.plan.uses:
            if use.task == task and "trained" in self.outcomes[use.cell]:
                counts[use.labels] = self.outcomes[use.cell]["trained"]
        shares = sorted(counts.items(), reverse=True)
        return "; ".join(f"{count}" if share == 1 else f"{100 * share:g} %: {count}" for share, count in shares) or "–"

    def file_of(self, method: str) -> str | None:
        """The hash of the file that a method begins with; None while no cell of it is done."""
        starts = [self.outcomes[use.cell].get("start") or {} for use in self.plan.uses if use.method == method]
        return next((str(start["sha256"]) for start in starts if "sha256" in start), None)

    def of(self, method: str, column: Column) -> list[Number]:
        """A method's numbers of a column, seed by seed."""
        found = [
            number
            for number in self.all
            if (number.use.method, number.use.task, number.use.measure, number.use.labels)
            == (method, column.task, column.measure, column.labels)
        ]
        by_seed: dict[int, Number] = {}
        for number in sorted(found, key=lambda n: n.use.after, reverse=column.after == "own"):
            by_seed[number.use.seed] = number  # the last one stays
        return [by_seed[seed] for seed in sorted(by_seed)]

    def stages(self, method: str, task: str) -> dict[int, list[Number]]:
        """The frozen head's numbers by how many stages the encoder had seen."""
        found: dict[int, list[Number]] = {}
        for number in self.all:
            if (number.use.method, number.use.task, number.use.measure) == (method, task, "frozen"):
                found.setdefault(number.use.after, []).append(number)
        return dict(sorted(found.items()))

    def mean(self, method: str, column: Column, metric: str) -> tuple[float | None, float | None]:
        """Mean and std over the seeds; (None, None) while a seed is missing or failed."""
        numbers = self.of(method, column)
        if not numbers or any(number.status != "done" for number in numbers):
            return None, None
        spread = mean_sd([number.metrics.get(metric) for number in numbers])
        return spread["mean"], spread["sd"]

    def status(self, method: str, column: Column) -> str:
        """done, failed, missing, or "" where the method has no such number."""
        states = [number.status for number in self.of(method, column)]
        return next((state for state in ("failed", "missing", "done") if state in states), "")

    def columns(self, measure: str, labels: float = 1.0) -> list[Column]:
        """The tasks that count and have this measure."""
        measured = {(n.use.task, n.use.labels) for n in self.all if n.use.measure == measure and n.use.method}
        return [Column(task, measure, labels) for task in self.tasks if (task, labels) in measured]

    def differences(
        self, table: Table, column: Column, metrics: Sequence[str], bar: Bar
    ) -> dict[tuple[str, str], Tested]:
        """By method and metric: the method minus the table's reference; empty without arrays of both on the same cases."""
        kind, reference = self.kinds[column.task], str(table.reference)
        runs = {name: self._arrays(self.of(name, column)) for name in table.methods}
        base = runs.get(reference) or {}
        paired = {
            name: arrays
            for name, arrays in runs.items()
            if base and arrays.keys() == base.keys() and same_cases([*arrays.values(), *base.values()])
        }
        drawn = {}
        for name, arrays in paired.items() if len(paired) > 1 else ():
            drawn[name] = self._drawn(self.of(name, column), list(arrays.values()), kind, metrics)
            bar.advance()
        found: dict[tuple[str, str], Tested] = {}
        others = [name for name in drawn if name != reference]
        for metric in metrics:
            means = {name: self.mean(name, column, metric)[0] or 0.0 for name in drawn}
            gaps = [
                difference(drawn[name][metric], drawn[reference][metric], means[name] - means[reference], 0)
                for name in others
            ]
            corrected = holm([gap.p for gap in gaps])
            found |= {(name, metric): Tested(gap, p) for name, gap, p in zip(others, gaps, corrected, strict=True)}
        return found

    def _drawn(self, numbers: Sequence[Number], runs: Sequence[Any], kind: TaskKind, metrics: Sequence[str]) -> Any:
        """`draws_of` these runs, kept in the folder: a cell's draws are the same in every table and at every call."""
        cells = [(number.use.cell, number.use.after) for number in numbers]
        key = key_of("draws", {"cells": cells, "metrics": list(metrics), "draws": self.recipe.draws})
        path = self.place.folder / "draws" / f"{key}.npz"
        if path.exists():
            drawn = load_arrays(path)
            shape = (self.recipe.draws, len(runs))
            if all(name in drawn and drawn[name].shape == shape and drawn[name].dtype == float for name in metrics):
                return drawn
        try:
            drawn = draws_of(runs, kind.rescore, metrics, 0, self.recipe.draws)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the predictions of its test cases are damaged ({error})"[:200], where=numbers[0].arrays, fix=_AGAIN
            ) from error
        save_arrays(path, drawn)
        return drawn

    def _arrays(self, numbers: Sequence[Number]) -> dict[int, Any]:
        """Arrays by seed; {} unless all seeds have them."""
        if any(number.arrays is None or not number.arrays.exists() for number in numbers):
            return {}
        found = {number.use.seed: load_arrays(number.arrays) for number in numbers if number.arrays is not None}
        for number in numbers:
            lengths = {array.shape[:1] for array in found[number.use.seed].values()}
            group = found[number.use.seed].get("group")
            if group is None or group.ndim != 1 or not len(group) or len(lengths) > 1:
                raise CheckpointError("the predictions of its test cases are damaged", where=number.arrays, fix=_AGAIN)
        return found

    def _number(self, use: Use) -> Number:
        outcome, cell = self.outcomes[use.cell], self.plan.cells[use.cell]
        status = outcome.get("status", "missing")
        if status == "missing" and any(self.outcomes[need].get("status") == "failed" for need in cell.needs):
            status = "failed"
        if status != "done":
            return Number(use, status)
        metrics = outcome.get("metrics") or {}
        if isinstance(cell, Later):
            return Number(use, status, metrics.get(str(use.after), {}), arrays=self.place.arrays(use.cell, use.after))
        arrays = None
        if isinstance(cell, Tuning):
            arrays = self.place.run(use.cell) / f"seed-{cell.recipe.seed}" / "cases.npz"
        return Number(use, status, metrics, outcome.get("validation") or {}, arrays)

    def _kinds(self) -> Iterator[tuple[str, TaskKind]]:
        for use in self.plan.uses:
            cell = self.plan.cells[use.cell]
            if isinstance(cell, Tuning):
                yield use.task, cell.recipe.task_kind()

    def _counts(self, asked: Task) -> Counted:
        task, kind = asked.name, self.kinds[asked.name]
        reference = str(self.recipe.shown()[0].reference)
        own = [n for n in self.of(reference, Column(task, "frozen", 1.0, "own")) if n.status == "done"]
        by_measure = {
            measure: [n for n in self.all if n.use.task == task and n.use.measure == measure and n.status == "done"]
            for measure in ("random", "simple")
        }
        values = {
            name: mean_sd([n.validation.get(kind.main) for n in numbers])["mean"]
            for name, numbers in {"own": own, **by_measure}.items()
        }
        return Counted(task, kind.title_of(kind.main), values["own"], values["random"], values["simple"], asked.keep)
