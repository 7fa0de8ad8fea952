"""The verb `finetune`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from medcoss_cli.cli import options, terminal
from medcoss_cli.errors import UsageError

app = typer.Typer(add_completion=False)


@app.command()
def finetune(
    recipe: Annotated[str | None, typer.Argument(help="Recipe file, or the name of a shipped recipe.")] = None,
    overrides: options.Overrides = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="CKPT", help="A checkpoint, weights of others, or `scratch` (default: the recipe's)."
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds", metavar="0,10,100", help="Seeds to train, one network each (default: the recipe's seed)."
        ),
    ] = None,
    name: options.Name = None,
    resume: options.Resume = None,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    columns: options.Columns = None,
    as_json: options.Json = False,
    data_root: options.DataRoot = None,
    prepared: options.Prepared = None,
) -> None:
    """Train a head for a labelled task on a checkpoint's encoder, and test it.

    Example: medcoss finetune lits --from ckpt.pt --data-root my-data --seeds 0,10,100
    """
    from medcoss_cli.finetune import finetune as carry_out
    from medcoss_cli.finetuning import setup
    from medcoss_cli.recipe.finetuning import FinetuneRecipe
    from medcoss_cli.recipe.read import read_recipe
    from medcoss_cli.training import runs

    screen = terminal.screen(as_json)
    choices = runs.Options(name, overwrite, data_root, prepared)
    if resume is not None:
        if recipe is not None or source or seeds or overwrite or name or columns:
            raise UsageError("--resume goes on as the run was begun", fix=f"medcoss finetune --resume {resume}")
        job = setup.resume_finetune(resume, choices, screen)
    else:
        if recipe is None:
            raise UsageError("no recipe is given", fix="medcoss finetune lits, or see `medcoss recipes list`")
        named = options.columns_of(columns)
        changes = [*(overrides or []), *([f"data.columns={json.dumps(named)}"] if named else [])]
        read = read_recipe(recipe, changes, kind="finetune")
        assert isinstance(read, FinetuneRecipe)
        if dry_run:
            setup.outlook(read, source, choices, screen)
            return
        job = setup.begin_finetune(read, Path(recipe).stem, source, _numbers(seeds), choices, screen)
    results = carry_out(job)
    job.run.finish()
    job.run.close()
    show_results(results, job.run.folder, job.screen)
    if as_json:
        terminal.result_json({"run": str(job.run.folder), **results})


def _numbers(seeds: str | None) -> list[int] | None:
    if seeds is None:
        return None
    parts = [part.strip() for part in seeds.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UsageError(f"--seeds {seeds} is no list of different numbers", fix="write --seeds 0,10,100")
    return [int(part) for part in parts]


def show_results(results: dict[str, Any], folder: Path, screen: Any) -> None:
    """Test metrics: mean and std over the seeds, each seed with its interval, the trivial baseline."""
    from medcoss_cli.registry.discovery import load_task
    from medcoss_cli.store.start import titled
    from medcoss_cli.training.distributed import memory_text

    tested = [seed for seed in results["seeds"] if seed["test"]]
    kind, rows = load_task(results["task"]), list[list[str]]()
    headings = kind.headings(results["classes"], {name: e["mean"] for name, e in results["summary"].items()})
    for metric, heading in headings.items():
        entry = results["summary"][metric]
        cells = [terminal.spread(entry["mean"], entry["sd"])]
        cells += [terminal.interval(seed["test"], metric) for seed in tested]
        rows.append(
            [
                heading,
                *cells,
                terminal.number(tested[0]["test"].get("baseline", {}).get(metric)),
            ]
        )
    if rows:
        columns = ["metric", "mean ± std", *(f"seed {seed['seed']}" for seed in tested), "trivial"]
        screen.table(f"Test: {results['title'] or results['task']}, from {titled(results['start'])}", columns, rows)
    seconds = sum(seed["seconds"] for seed in results["seeds"])
    largest = max(results["seeds"], key=lambda seed: seed["peak_memory_gib"])
    screen.say(f"{seconds:.0f} s, at most {memory_text(largest)}")
    screen.say(
        f"results (shareable): {folder / 'results.json'}; cases (private: names files): {folder}/seed-*/cases.csv"
    )
    screen.say(f"next: medcoss predict {folder} FILES -o OUT, medcoss report {folder}")
