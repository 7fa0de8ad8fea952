"""What all runs that train begin with: options, the folders of data and of prepared sets, a run folder of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.recipe.schema import Recipe
from medcoss_cli.store.run import Run, run_name


@dataclass(frozen=True)
class Options:
    """The options that pretrain, extend and finetune share."""

    name: str | None = None
    overwrite: bool = False
    data_root: Path | None = None
    prepared: Path | None = None
    runs: Path = Path("runs")


def folders(recipe: Recipe, options: Options) -> tuple[Path, Path]:
    """(data root, folder of prepared sets): the recipe's, then the option's, then the environment's, then ./data.

    Raises: UsageError for a run's name that could not be given, so that a dry run does not pass it.
    """
    if options.name is not None:
        run_name(options.name)
    root = recipe.data.root or options.data_root or os.environ.get("MEDCOSS_DATA") or "data"
    prepared = options.prepared or recipe.data.prepared or os.environ.get("MEDCOSS_PREPARED") or "prepared"
    return Path(root), Path(prepared)


def create_run(
    recipe: Recipe,
    stem: str,
    facts: Mapping[str, Any],
    options: Options,
    screen: Screen,
    begin: Callable[[Path], object] | None = None,
) -> Run:
    """A new run's folder, named by `--name` or else `stem`; a taken stem gets -2, -3 and a note.

    Args:
        facts: for run.json, beside the folders and what every run's has.
        begin: writes what the run begins from into its folder.
    """
    root, prepared = folders(recipe, options)
    name = stem if options.name is None else options.name
    run = Run.create(
        options.runs,
        name,
        recipe=recipe.model_dump(mode="json"),
        facts={**facts, "data_root": str(root.absolute()), "prepared": str(prepared.absolute())},
        overwrite=options.overwrite,
        exact=options.overwrite or options.name is not None,
        begin=begin,
    )
    if run.folder.name != name:
        screen.warn(f"{options.runs / name} already exists; this run is {run.folder}")
    return run
