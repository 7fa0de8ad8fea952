"""`finetune`: a head for a labelled task, on a folder or on a table of paths or texts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medcoss_cli.console import Screen
from medcoss_cli.errors import UsageError
from medcoss_cli.finetune import finetune as carry_out
from medcoss_cli.finetuning import setup
from medcoss_cli.kit.manifest import NAME
from medcoss_cli.python.loaded import Loaded
from medcoss_cli.python.sources import load
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.store import atomic
from medcoss_cli.training.runs import Options

COLUMNS = ("split", "group", "fold", "label", "mask")
"""Of a table, beside `path` or `text`; all but `label` or `mask` may be missing."""


@dataclass(frozen=True)
class Result:
    """A fine-tuning that is done.

    Args:
        run: its folder.
        metrics: of the test cases, the mean over the seeds; empty without test cases.
        results: what results.json holds.
    """

    run: Path
    metrics: Mapping[str, float]
    results: Mapping[str, Any]

    def load(self, seed: int | None = None) -> Loaded:
        """The network, ready to predict."""
        return load(self.run, seed=seed)


def finetune(
    recipe: str | os.PathLike[str] | Mapping[str, Any],
    data: Any = None,
    *,
    start: str | os.PathLike[str] | None = None,
    seeds: Sequence[int] | None = None,
    name: str | None = None,
    runs: str | os.PathLike[str] = "runs",
    screen: Screen | None = None,
    **overrides: Any,
) -> Result:
    """Train and test a head as a recipe says.

    Example: finetune("tissue-mini", data=table, start="runs/mini", train={"steps": 200})

    Args:
        recipe: a file, a shipped recipe's name, or its content as a dict.
        data: a folder with a manifest.csv; or a table (DataFrame, list of dicts, dict of columns) with columns `path` (or
            `text`), `label` or `mask`, and perhaps `split`, `group`, `fold`. None: the recipe's folder. Of a table a manifest
            with links to the files is written below RUNS/tables; files are not copied, texts are.
        start: a checkpoint or a run's folder, or "scratch"; None: as the recipe says.
        name: of the run's folder; None: as the recipe's.
        overrides: recipe keys, as in train={"steps": 200}, or **{"train.steps": 200}.

    Raises: RecipeError, CheckpointError, DataError, UsageError before anything is trained.
    """
    runs, settings = Path(runs), dict(overrides)
    root = None
    if data is not None:
        folder = Path(data) if isinstance(data, str | os.PathLike) else write_table(data, runs / "tables")
        if not folder.is_dir():
            raise UsageError("the folder does not exist", where=folder, fix="give a folder, or a table")
        root, settings["data.folder"] = folder.parent, folder.name
    path = _recipe(recipe, runs / "tables") if isinstance(recipe, Mapping) else Path(recipe)
    read = read_recipe(str(path), _flat(settings), kind="finetune")
    assert isinstance(read, FinetuneRecipe)
    options = Options(name, False, root, None, runs)
    job = setup.begin_finetune(
        read, path.stem, None if start is None else str(start), seeds, options, screen or Screen()
    )
    try:
        results = carry_out(job)
        job.run.finish()
    finally:
        job.run.close()
    means = {metric: float(entry["mean"]) for metric, entry in results["summary"].items() if entry["mean"] is not None}
    return Result(job.run.folder, means, results)


def _flat(overrides: Mapping[str, Any], above: str = "") -> list[str]:
    """Overrides as they are written on the command line: train.steps=200."""
    lines = []
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{above}{key}.")
        else:
            lines.append(f"{above}{key}={json.dumps(value)}")
    return lines


def _recipe(content: Mapping[str, Any], folder: Path) -> Path:
    text = yaml.safe_dump({"kind": "finetune", **content}, sort_keys=False)
    path = folder / f"finetune-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write(path, text.encode("utf-8", "surrogateescape"))
    return path


def rows_of(table: Any) -> list[dict[str, Any]]:
    """Rows of a DataFrame of any library, a list of dicts or a dict of columns. Raises: UsageError for what is none."""
    if hasattr(table, "to_dicts"):
        return [dict(row) for row in table.to_dicts()]
    if hasattr(table, "columns") and hasattr(table, "to_dict"):
        return [dict(row) for row in table.to_dict("records")]
    if isinstance(table, Mapping):
        return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    if isinstance(table, Sequence) and all(isinstance(row, Mapping) for row in table):
        return [dict(row) for row in table]
    raise UsageError(
        f"{type(table).__name__} is no table", where="data", fix="give a DataFrame, a list of dicts, or a folder"
    )


def write_table(table: Any, parent: Path) -> Path:
    """A folder below `parent` with a manifest.csv of the table's rows, links to its files, or its texts.

    The same table gives the same folder, so that what was prepared of it is used again. Raises: UsageError.
    """
    rows = rows_of(table)
    if not rows:
        raise UsageError("the table has no rows", where="data", fix="give at least one for each class")
    column = next((name for name in ("path", "text") if name in rows[0]), None)
    if column is None:
        columns = ", ".join(map(str, rows[0]))
        raise UsageError(
            f"there is no column 'path' or 'text'; found: {columns}", where="data", fix="name one of them so"
        )
    for number, row in enumerate(rows):
        if not _text(row.get(column)):
            raise UsageError(f"row {number} has no {column}", where="data", fix="fill it, or drop the row")
        for key in ("path", "mask"):
            if _text(row.get(key)) and not Path(_text(row[key])).exists():
                raise UsageError(f"{key} of row {number} does not exist", where=row[key], fix="check the path")
    plain = [{key: _text(row.get(key)) for key in (column, *COLUMNS)} for row in rows]
    for row in plain:
        row.update({key: str(Path(row[key]).absolute()) for key in ("path", "mask") if row.get(key)})
    folder = parent / hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    if column == "text":
        lines = "".join(json.dumps({"text": row["text"]}) + "\n" for row in plain)
        atomic.write(folder / "texts.jsonl", lines.encode())
    used = [key for key in COLUMNS if any(row[key] for row in plain)]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", *(["index"] if column == "text" else []), *used])
    for number, row in enumerate(plain):
        place = ["texts.jsonl", number] if column == "text" else [_linked(folder, "files", number, row["path"])]
        marks = [_linked(folder, "masks", number, row[key]) if key == "mask" and row[key] else row[key] for key in used]
        writer.writerow([*place, *marks])
    atomic.write(folder / NAME, text.getvalue().encode("utf-8", "surrogateescape"))
    return folder


def _linked(folder: Path, kind: str, number: int, path: str) -> str:
    """A link to a file or folder, relative to the manifest."""
    link = folder / kind / f"{number:06d}-{Path(path).name}"
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(path)
    return link.relative_to(folder).as_posix()


def _text(value: Any) -> str:
    """A cell as text; what is missing (None, NaN) is empty."""
    return "" if value is None or value != value else str(value).strip()
