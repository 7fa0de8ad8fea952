"""The verb `pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medcoss_cli.cli import options, terminal
from medcoss_cli.errors import UsageError

app = typer.Typer(add_completion=False)


@app.command()
def pretrain(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Recipe file, or the name of a shipped recipe.")
    ] = None,
    overrides: options.Overrides = None,
    name: options.Name = None,
    resume: options.Resume = None,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    data_root: options.DataRoot = None,
    prepared: options.Prepared = None,
    min_retention: options.MinRetention = None,
) -> None:
    """Teach one encoder several modalities, one after another (Algorithm 1).

    Example: medcoss pretrain mini data.root=my-data train.epochs=5
    """
    from medcoss_cli.cli.training import carry_out
    from medcoss_cli.importers.init import read_init
    from medcoss_cli.pretraining import setup
    from medcoss_cli.recipe.read import read_recipe
    from medcoss_cli.recipe.schema import PretrainRecipe
    from medcoss_cli.training import runs

    screen = terminal.screen(as_json)
    choices = runs.Options(name, overwrite, data_root, prepared)
    if resume is not None:
        if recipe is not None or overwrite or name:
            raise UsageError("--resume goes on with the run's own recipe", fix=f"medcoss pretrain --resume {resume}")
        carry_out(setup.resume(resume, choices, screen), min_retention=min_retention, as_json=as_json)
        return
    if recipe is None:
        raise UsageError("no recipe is given", fix="medcoss pretrain mini, or see `medcoss recipes list`")
    read = read_recipe(recipe, overrides or [], kind="pretrain")
    assert isinstance(read, PretrainRecipe)
    start, notes = read_init(read)
    if dry_run:
        from medcoss_cli.pretraining.dry_run import outlook

        outlook(read, read.stages, setup.first_state(read, start), choices, screen)
        return
    job = setup.begin_pretrain(read, Path(recipe).stem, choices, screen, start, notes)
    carry_out(job, min_retention=min_retention, as_json=as_json)
