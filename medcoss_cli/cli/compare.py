"""The verb `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medcoss_cli.cli import options, terminal

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    recipe: Annotated[str, typer.Argument(help="Recipe of kind compare: a file, or the name of a shipped one.")],
    overrides: options.Overrides = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the folder below runs/ (default: the recipe's).")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Cells of this method or task; may be repeated.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Cells at once; they take turns on the GPUs.")] = 1,
    submit: Annotated[
        Literal["slurm"] | None, typer.Option("--submit", help="Send every cell to a cluster instead.")
    ] = None,
    sbatch: Annotated[
        str,
        typer.Option("--sbatch", metavar="OPTIONS", help="Options for sbatch, as in '--gres=gpu:1 --time=24:00:00'."),
    ] = "",
    cases: Annotated[
        int, typer.Option("--cases", min=0, help="Draw so many test cases of each task under every method (private).")
    ] = 0,
    cell: Annotated[
        str | None, typer.Option("--cell", hidden=True, help="Make this cell alone: what a cluster's job runs.")
    ] = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    data_root: options.DataRoot = None,
    prepared: options.Prepared = None,
) -> None:
    """Compare methods of pre-training on labelled tasks; the same command goes on where it was stopped.

    Example: medcoss compare compare/mini --data-root my-data --dry-run
    """
    from medcoss_cli import compare as step
    from medcoss_cli.comparing.plan import plan
    from medcoss_cli.recipe.comparison import CompareRecipe
    from medcoss_cli.recipe.read import read_recipe
    from medcoss_cli.store.run import run_name
    from medcoss_cli.training.runs import Options, folders

    screen = terminal.screen(as_json)
    read = read_recipe(recipe, overrides or [], kind="compare")
    assert isinstance(read, CompareRecipe)
    choices = Options(None, False, data_root, prepared)
    made = plan(read, choices)
    root, sets = folders(read, choices)
    name = run_name(name or f"compare-{Path(recipe).stem}")
    place = step.place_of(choices.runs / name, root, sets)
    step.check_names(only or [], read)
    step.check_folder(place, made, read)
    if dry_run:
        results = step.outlook(read, made, place, only or [], screen)
    elif submit is not None:
        from medcoss_cli.comparing.slurm import send

        step.write_recipe(read, place)
        results = send(made, only or [], place, sbatch, screen)
    elif cell is not None:
        results = step.make_one(cell, made, place, screen)
    else:
        results = step.compare(read, made, place, screen, jobs=jobs, only=only or [], cases=cases)
    if as_json:
        terminal.result_json(results)
