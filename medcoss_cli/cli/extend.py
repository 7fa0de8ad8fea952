"""The verb `extend`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medcoss_cli.cli import options, terminal
from medcoss_cli.errors import UsageError

app = typer.Typer(add_completion=False)


@app.command()
def extend(
    overrides: options.Overrides = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="The new modality; see `medcoss plugins list`.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="CKPT", help="Checkpoint to extend (default: ./ckpt.pt, or the only finished run's)."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", parser=options.place, help="Data folder, or URL (default: <data root>/<modality>)."
        ),
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe of kind extend.")] = "extend",
    name: options.Name = None,
    resume: options.Resume = None,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    columns: options.Columns = None,
    as_json: options.Json = False,
    data_root: options.DataRoot = None,
    prepared: options.Prepared = None,
    min_retention: options.MinRetention = None,
) -> None:
    """Teach a trained encoder one more modality without forgetting the earlier ones.

    Example: medcoss extend --modality ultrasound --from ckpt.pt --data scans
    """
    from medcoss_cli.cli.training import carry_out
    from medcoss_cli.pretraining import setup
    from medcoss_cli.recipe.read import read_recipe
    from medcoss_cli.recipe.schema import ExtendRecipe
    from medcoss_cli.registry.discovery import load_modality
    from medcoss_cli.store.checkpoint import find_checkpoint
    from medcoss_cli.training import runs

    screen = terminal.screen(as_json)
    choices = runs.Options(name, overwrite, data_root, prepared)
    if resume is not None:
        if modality or source or overrides or overwrite or name or columns:
            raise UsageError("--resume goes on as the run was begun", fix=f"medcoss extend --resume {resume}")
        carry_out(setup.resume(resume, choices, screen), min_retention=min_retention, as_json=as_json)
        return
    if modality is None:
        raise UsageError("no modality is given", fix="medcoss extend --modality NAME; see `medcoss plugins list`")
    load_modality(modality)  # one that is not installed is told before anything else
    named = options.columns_of(columns)
    changes = [*(overrides or []), *([f"columns={json.dumps(named)}"] if named else [])]
    read = read_recipe(recipe, changes, kind="extend")
    assert isinstance(read, ExtendRecipe)
    checkpoint, note = find_checkpoint(source)
    if note:
        screen.say(note)
    if dry_run:
        from medcoss_cli.pretraining.dry_run import outlook

        read, state, stage = setup.start_of_extend(read, modality, checkpoint, data, choices, screen)
        outlook(read, [stage], state, choices, screen)
        return
    job = setup.begin_extend(read, modality, checkpoint, data, choices, screen)
    carry_out(job, min_retention=min_retention, as_json=as_json)
