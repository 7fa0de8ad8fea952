"""cases.html: the same test cases under every method, as Fig. 8 of the paper. Private: it shows samples."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medcoss_cli.comparing.cells import Tuning
from medcoss_cli.comparing.numbers import Column, Number, Numbers
from medcoss_cli.comparing.outcomes import Place
from medcoss_cli.console import Bar, Screen
from medcoss_cli.errors import CheckpointError
from medcoss_cli.finetuning.checkpoints import trained_seeds
from medcoss_cli.finetuning.dataset import find_cases
from medcoss_cli.kit.sources.places import local
from medcoss_cli.report.page import cases, document, section
from medcoss_cli.store import atomic
from medcoss_cli.tasks import Evaluation
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
        run = place.run(cell.key)
        path = run / f"seed-{cell.recipe.seed}" / "cases.csv"
        try:
            rows = _rows(path) if path.exists() else []  # without test cases there is none
            chosen = chosen or [rows[i * len(rows) // count]["where"] for i in range(min(count, len(rows)))]
            for where in chosen:
                row = next((row for row in rows if row["where"] == where), None)
                if row is not None:
                    pictures.setdefault(where, []).extend((method, png) for png in _draw(run, row, place, cell))
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise CheckpointError(
                f"the table of test cases is damaged ({error})"[:200],
                where=path,
                fix="remove the run's folder, and repeat",
            ) from error
    return list(pictures.values())


def _first(numbers: Numbers, method: str, task: str) -> Number | None:
    """The first seed fine-tuned with all labels, else its refitted head."""
    for column in (Column(task, "full", max(numbers.recipe.labels)), Column(task, "refitted", 1.0)):
        done = [number for number in numbers.of(method, column) if number.status == "done"]
        if done:
            return done[0]
    return None


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def _draw(run: Path, row: Mapping[str, Any], place: Place, cell: Tuning) -> Sequence[bytes]:
    """What the kind of task draws of one case."""
    [head] = trained_seeds(run, Screen(), cell.recipe.seed)
    target = head.kind.target
    data = cell.recipe.data
    found, _ = find_cases(
        head.modality, local(data.folder, place.data_root), target, screen=Screen(), columns=data.columns
    )
    words = {"where", "predicted", target.column}
    values = {key: value if key in words else float(value or "nan") for key, value in row.items()}
    with TemporaryDirectory() as folder:
        evaluation = Evaluation({}, [values], [])
        head.kind.draw(head.predictor(join().device), found, evaluation, Path(folder))
        return [path.read_bytes() for path in sorted(Path(folder).glob("*.png"))]
