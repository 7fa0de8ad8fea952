"""cases.html: the same test cases under every method, as Fig. 8 of the paper. Private: it shows samples."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medcoss_cli.comparing.cells import Tuning
from medcoss_cli.comparing.numbers import Column, Number, Numbers
from medcoss_cli.comparing.outcomes import Place
from medcoss_cli.console import Bar, Screen
from medcoss_cli.data.labelled import Case
from medcoss_cli.errors import CheckpointError
from medcoss_cli.finetuning.checkpoints import TrainedSeed, trained_seeds
from medcoss_cli.finetuning.dataset import find_cases
from medcoss_cli.kit.sources.places import local
from medcoss_cli.report.page import cases, document, section
from medcoss_cli.store import atomic
from medcoss_cli.tasks import Evaluation
from medcoss_cli.tasks.predictor import Predictor
from medcoss_cli.training.distributed import join


def write_cases(numbers: Numbers, place: Place, count: int, screen: Screen) -> Path:
    """Draw `count` test cases of every task that counts under the first seed of every method that was fine-tuned for it."""
    sections = []
    with screen.progress("drawing cases", max(1, len(numbers.tasks) * len(numbers.recipe.methods))) as bar:
        for task in numbers.tasks:
            drawn = _of_task(numbers, place, task, count, bar)
            sections.append(section(task, *map(cases, drawn), about="One case below the other, under every method."))
    path = place.folder / "cases.html"
    title = numbers.recipe.title or "Comparison"
    atomic.write(path, document(title, "The same test cases under every method", {}, sections, private=True))
    return path


def _of_task(numbers: Numbers, place: Place, task: str, count: int, bar: Bar) -> list[list[tuple[str, bytes]]]:
    """Of each case the methods and their pictures."""
    pictures: dict[str, list[tuple[str, bytes]]] = {}
    chosen: list[str] = []
    for method in numbers.recipe.names:
        bar.advance()
        number = _first(numbers, method, task)
        cell = None if number is None else numbers.plan.cells[number.use.cell]
        if number is None or not isinstance(cell, Tuning):
            continue
        path = place.run(cell.key) / f"seed-{cell.recipe.seed}" / "cases.csv"
        if not path.exists():  # without test cases there is none
            continue
        [trained] = trained_seeds(place.run(cell.key), Screen(), cell.recipe.seed)
        data = cell.recipe.data
        root = local(data.folder, place.data_root)
        found, _ = find_cases(trained.modality, root, trained.kind.target, screen=Screen(), columns=data.columns)
        rows = _rows(path, trained, {Path(case.where).name: case.where for case in found})
        chosen = chosen or [rows[i * len(rows) // count]["where"] for i in range(min(count, len(rows)))]
        predictor = trained.predictor(join().device)
        for where in chosen:
            row = next((row for row in rows if row["where"] == where), None)
            if row is not None:
                drawn = _draw(trained, predictor, found, row)
                pictures.setdefault(where, []).extend((method, png) for png in drawn)
    return list(pictures.values())


def _first(numbers: Numbers, method: str, task: str) -> Number | None:
    """The first seed fine-tuned with all labels, else its refitted head."""
    for column in (Column(task, "full", max(numbers.recipe.labels)), Column(task, "refitted", 1.0)):
        done = [number for number in numbers.of(method, column) if number.status == "done"]
        if done:
            return done[0]
    return None


def _rows(path: Path, trained: TrainedSeed, known: Mapping[str, str]) -> list[dict[str, Any]]:
    """The table as the kind of task made it, so that what fails in the drawing later is not the table.

    Args:
        known: where the cases are now, by file and line: the folder may be another one than in training.

    Raises: CheckpointError for a damaged table.
    """
    words = {"where", "predicted", trained.kind.target.column}
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [_values(row, words) for row in csv.DictReader(file)]
    except (csv.Error, ValueError) as error:
        raise _damaged(path, error) from error
    for row in rows:
        name = Path(row["where"]).name
        if name not in known:
            raise _damaged(path, f"the data has no case {name}")
        row["where"] = known[name]
        if fault := trained.kind.row_fault(trained.spec, row):
            raise _damaged(path, fault)
    return rows


def _values(row: Mapping[Any, Any], words: Collection[str]) -> dict[str, Any]:
    """A row with numbers where they are some, but in the columns of words; an empty field is NaN. Raises: ValueError."""
    if None in row or None in row.values():
        raise ValueError("a row of another length than the first")
    if "where" not in row:
        raise ValueError("there is no column where")
    return {key: value if key in words else _number(value) for key, value in row.items()}


def _number(field: str) -> float | str:
    try:
        return float(field or "nan")
    except ValueError:  # a kind of task may keep words in a column of its own
        return field


def _damaged(path: Path, fault: object) -> CheckpointError:
    return CheckpointError(
        f"the table of test cases is damaged ({fault})"[:200], where=path, fix="remove the run's folder, and repeat"
    )


def _draw(trained: TrainedSeed, predictor: Predictor, found: Sequence[Case], row: dict[str, Any]) -> list[bytes]:
    """What the kind of task draws of one case."""
    with TemporaryDirectory() as folder:
        trained.kind.draw(predictor, found, Evaluation({}, [row], []), Path(folder))
        return [path.read_bytes() for path in sorted(Path(folder).glob("*.png"))]
