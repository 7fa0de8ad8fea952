"""The verb `compare`: methods of pre-training side by side, on labelled tasks, over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from medcoss_cli.comparing import outcomes, page, tables
from medcoss_cli.comparing.cases import write_cases
from medcoss_cli.comparing.cells import Cell, Later, Plan, Simple, Training, Tuning
from medcoss_cli.comparing.numbers import Column, Numbers
from medcoss_cli.comparing.outcomes import Place
from medcoss_cli.comparing.processes import carry_out
from medcoss_cli.console import Screen
from medcoss_cli.errors import CellError, UsageError
from medcoss_cli.recipe.comparison import CompareRecipe
from medcoss_cli.store import atomic, lock

MEASURES = {
    "frozen": "Frozen heads after all stages",
    "refitted": "Linear heads trained after all stages",
    "full": "Fine-tuning of all weights",
}


def compare(
    recipe: CompareRecipe,
    plan: Plan,
    place: Place,
    screen: Screen,
    *,
    jobs: int = 1,
    only: Sequence[str] = (),
    cases: int = 0,
) -> dict[str, Any]:
    """Make what is missing, then write the tables; a second call goes on where one was stopped.

    Args:
        jobs: cells at once.
        only: names of methods or tasks whose cells are made; the tables show every cell that is done.
        cases: of each task, how many test cases are drawn under every method.

    Returns: what --json prints.
    Raises: CellError where cells failed; the others are done, and the tables are written. ResourceError where another process
        works in the folder.
    """
    write_recipe(recipe, place)
    _say_unused(plan, place, screen)
    wanted, locked = plan.wanted(list(only)), lock.hold(place.folder)
    try:
        failed = carry_out(plan, wanted, titles(plan), place, jobs, screen)
    finally:
        lock.release(locked)
    results = write_tables(recipe, plan, place, screen)
    if cases:
        path = write_cases(Numbers(recipe, plan, place), place, cases, screen)
        screen.say(f"cases (private: shows samples): {path}")
    _raise_failed(failed, len(wanted), place)
    return results


def make_one(key: str, plan: Plan, place: Place, screen: Screen) -> dict[str, Any]:
    """One cell alone, whose needs are done: what a cluster's job runs. Raises: CellError, UsageError for an unknown key."""
    if key not in plan.cells:
        raise UsageError(f"--cell {key}: the comparison has no such cell", fix="submit it again")
    failed = carry_out(plan, {key: plan.cells[key]}, titles(plan), place, 1, screen)
    _raise_failed(failed, 1, place)
    return {"cell": key}


def write_recipe(recipe: CompareRecipe, place: Place) -> None:
    """The recipe as it is now, with every default: what marks the folder as a comparison's."""
    place.folder.mkdir(parents=True, exist_ok=True)
    atomic.write(place.folder / "recipe.yaml", _written(recipe).encode())


def _written(recipe: CompareRecipe) -> str:
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _say_unused(plan: Plan, place: Place, screen: Screen) -> None:
    """Cells in the folder that are not of the plan: the recipe, the data or a plugin has changed since they were made."""
    if unused := len(_made(place) - plan.cells.keys()):
        screen.warn(f"{unused} cells in the folder were made with other settings, data or plugins and are not used")


def _made(place: Place) -> set[str]:
    return {path.stem for path in (place.folder / "cells").glob("*.json")}


def _raise_failed(failed: Mapping[str, str], count: int, place: Place) -> None:
    if failed:
        raise CellError(
            f"{len(failed)} of {count} cells failed, the others are done",
            where=place.folder / "logs",
            fix="see the lines above; the same command tries the failed ones again",
        )


def check_names(only: Sequence[str], recipe: CompareRecipe) -> None:
    """Raises: UsageError for a name that is neither a method's nor a task's."""
    known = [*recipe.names, *(task.name for task in recipe.tasks)]
    if unknown := [name for name in only if name not in known]:
        raise UsageError(f"--only {unknown[0]}: there is no such method or task", fix=f"there are {', '.join(known)}")


def check_folder(place: Place, plan: Plan, recipe: CompareRecipe) -> None:
    """Raises: UsageError for a folder of a run, or of a comparison of which no cell belongs to this one."""
    made, path = _made(place), place.folder / "recipe.yaml"
    is_taken = place.folder.exists() and any(place.folder.iterdir())
    is_comparison = path.is_file() and not (place.folder / "run.json").exists()
    is_ours = is_comparison and (not made or made & plan.cells.keys() or path.read_bytes() == _written(recipe).encode())
    if is_taken and not is_ours:
        raise UsageError(
            "this folder is of another run or comparison: no cell in it belongs to this recipe",
            where=place.folder,
            fix="choose another --name",
        )


def titles(plan: Plan) -> dict[str, str]:
    """What a cell is, for people; one that several methods share is named by the first."""
    found: dict[str, str] = {}
    for (method, seed), key in plan.trainings.items():
        found.setdefault(key, f"{method}, seed {seed}: pre-training")
    for use in plan.uses:
        name = use.method or {"random": "random encoder", "simple": "no encoder"}[use.measure]
        found.setdefault(use.cell, f"{name}, seed {use.seed}: {use.task}, {use.measure}")
    for key, cell in plan.cells.items():
        if isinstance(cell, Training):
            found.setdefault(key, f"pre-training on {', '.join(cell.order)}, seed {cell.recipe.seed}")
    return {key: found.get(key, key) for key in plan.cells}


def outlook(recipe: CompareRecipe, plan: Plan, place: Place, only: Sequence[str], screen: Screen) -> dict[str, Any]:
    """--dry-run: how many cells of each kind there are, are done, and what the others will take; nothing is written."""
    from medcoss_cli.comparing.cost import costs

    _say_unused(plan, place, screen)
    wanted = plan.wanted(list(only))
    words: dict[type[Cell], str] = {
        Training: "pre-trainings",
        Tuning: "fine-tunings and heads",
        Later: "tests of frozen heads under later encoders",
        Simple: "linear models without an encoder",
    }
    rows, hours, disk = [], 0.0, 0.0
    for kind, name in words.items():
        keys = [key for key, cell in wanted.items() if isinstance(cell, kind)]
        if not keys:
            continue
        done = [key for key in keys if outcomes.done(place, key)]
        cost = costs([wanted[key] for key in keys if key not in done], plan, place, screen)
        hours, disk = hours + cost.hours, disk + cost.gib
        rows.append([name, str(len(keys)), str(len(done)), f"{cost.hours:.2f}", f"{cost.gib:.2f}"])
    rows.append(
        [
            "in all",
            str(len(wanted)),
            str(sum(outcomes.done(place, key) for key in wanted)),
            f"{hours:.2f}",
            f"{disk:.2f}",
        ]
    )
    screen.table(recipe.title or "Comparison", ["cells", "number", "done", "about hours", "GiB on disk"], rows)
    screen.say("hours are those of one process on this machine, estimated from cells that are done and from its speed")
    return {"cells": len(wanted), "hours": round(hours, 3), "gib": round(disk, 3)}


def write_tables(recipe: CompareRecipe, plan: Plan, place: Place, screen: Screen) -> dict[str, Any]:
    """tables.html, CSV and LaTeX, from the cells that are done; shareable."""
    numbers = Numbers(recipe, plan, place)
    made: list[page.Made] = []
    differences: list[dict[str, object]] = []
    shown = recipe.shown()
    columns, latex = _columns(numbers), set[Path]()
    methods = sum(len(table.methods) for table in shown)
    with screen.progress("intervals", max(1, methods * len(columns))) as bar:
        for at, table in enumerate(shown, 1):
            tested = {column: numbers.differences(table, column, _metrics(numbers, column), bar) for column in columns}
            grids = []
            for (measure, labels), group in _groups(columns).items():
                share = f" with {100 * labels:g} % of the labels" if labels < 1 else ""
                grid = tables.grid(numbers, table, group, tested, MEASURES[measure] + share)
                grids.append(grid)
                name = f"{at}-{measure}" + (f"-{100 * labels:g}" if measure == "full" else "")
                path = place.folder / "tables" / f"{name}.tex"
                atomic.write(path, tables.latex(grid).encode())
                latex.add(path)
            made.append((table, grids, tested))
            differences += tables.differences_rows(table, tested)
    atomic.write(place.folder / "tables" / "numbers.csv", tables.csv_of(tables.numbers_rows(numbers), tables.NUMBER))
    atomic.write(place.folder / "tables" / "differences.csv", tables.csv_of(differences, tables.DIFFERENCE))
    for old in set((place.folder / "tables").glob("*.tex")) - latex:
        old.unlink()  # of an earlier recipe
    path = place.folder / "tables.html"
    atomic.write(path, page.page(numbers, made))
    for _, grids, _ in made:
        for grid in grids:
            _say(grid, screen)
    heads = ["task", "metric", "own stage", "random encoder", "no encoder", ""]
    rows = [[c.task, c.metric, *(_figure(x) for x in (c.own, c.random, c.simple)), c.verdict] for c in numbers.counted]
    screen.table("Which tasks count (linear heads on validation cases)", heads, rows)
    if numbers.counted and not numbers.tasks:
        screen.warn(page.NO_TASK)
    screen.say(f"tables (shareable): {path}; numbers: {place.folder / 'tables'}")
    return {
        "page": str(path),
        "dropped": [entry.task for entry in numbers.counted if not entry.counts],
        "differences": differences,
    }


def _columns(numbers: Numbers) -> list[Column]:
    found = [*numbers.columns("frozen"), *numbers.columns("refitted")]
    return found + [c for labels in numbers.recipe.labels for c in numbers.columns("full", labels)]


def _groups(columns: Sequence[Column]) -> Mapping[tuple[str, float], list[Column]]:
    groups: dict[tuple[str, float], list[Column]] = {}
    for column in columns:
        groups.setdefault((column.measure, column.labels), []).append(column)
    return groups


def _metrics(numbers: Numbers, column: Column) -> Sequence[str]:
    kind = numbers.kinds[column.task]
    return kind.shown or (kind.main,)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _say(grid: tables.Grid, screen: Screen) -> None:
    """The table's main metrics on the screen."""
    firsts = [i for i, h in enumerate(grid.headings) if i == 0 or grid.headings[i - 1].group != h.group]
    heads = ["method", *(f"{grid.headings[i].group}: {grid.headings[i].title}" for i in firsts)]
    rows = [
        [name, *(row[i].text(grid.headings[i].percent) for i in firsts)]
        for name, row in zip(grid.methods, grid.cells, strict=True)
    ]
    screen.table(f"{grid.title}: {grid.about}", heads, rows)


def place_of(folder: Path, data_root: Path, prepared: Path) -> Place:
    """Absolute folders, so that a cell's process may run anywhere."""
    return Place(folder.absolute(), data_root.absolute(), prepared.absolute())
