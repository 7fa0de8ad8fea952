"""The verb `demo`: the whole way on synthetic data, with rehearsal and without."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medcoss_cli.cli import terminal

if TYPE_CHECKING:
    from medcoss_cli.console import Screen
    from medcoss_cli.pretraining.job import Job
    from medcoss_cli.training.runs import Options

app = typer.Typer(add_completion=False)

COUNTS = {1: 400, 2: 128, 3: 16}
"""Synthetic samples by dims; a volume gives several windows."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where everything is written.")] = Path("medcoss-demo"),
    seed: Annotated[int, typer.Option(help="Of the synthetic data.")] = 0,
) -> None:
    """See it work: five synthetic modalities, then a new one, and what is remembered with rehearsal and without.

    Takes a few minutes on two cores. Called again, it goes on where it was stopped.

    Example: medcoss demo
    """
    from medcoss_cli.cli.training import carry_out
    from medcoss_cli.pretraining import setup
    from medcoss_cli.recipe.read import read_recipe
    from medcoss_cli.recipe.schema import ExtendRecipe, PretrainRecipe
    from medcoss_cli.training import runs

    screen = terminal.screen()
    recipe = read_recipe("demo", [], kind="pretrain")
    assert isinstance(recipe, PretrainRecipe)
    names = [member.modality for member in recipe.members]
    extra = _another(names)
    _write_data([*names, *([extra] if extra else [])], folder / "data", seed, screen)

    summaries: dict[str, dict[str, Any]] = {}
    for label, strategy in (("with rehearsal", "medcoss"), ("without", "sequential")):
        options = runs.Options(strategy, data_root=folder / "data", prepared=folder / "prepared", runs=folder / "runs")
        same = read_recipe("demo", [f"strategy={strategy}"], kind="pretrain")
        assert isinstance(same, PretrainRecipe)
        screen.say(f"\nFive modalities, one after another, {label} (strategy {strategy})")
        job = _job(options, screen, partial(setup.begin_pretrain, same, "demo", options, screen))
        summaries[label] = carry_out(job)
        if extra:
            further = read_recipe("extend", [f"strategy={strategy}", *_like(recipe)], kind="extend")
            assert isinstance(further, ExtendRecipe)
            options = runs.Options(f"{strategy}-{extra}", False, options.data_root, options.prepared, options.runs)
            start = job.run.checkpoint
            screen.say(f"\nA sixth, {extra}, {label}: medcoss extend --modality {extra} --from {start}")
            job = _job(options, screen, partial(setup.begin_extend, further, extra, start, None, options, screen))
            summaries[label] = carry_out(job)
    _compare(summaries, screen)
    if not extra:
        screen.say("with another plugin installed (pip install medcoss-ultrasound) the demo also extends by it")
    screen.say(f"everything lies in {folder}: data/, prepared/, runs/*/ckpt.pt and retention.png")


def _another(names: list[str]) -> str | None:
    """An installed modality that the recipe does not use and that can write a demo set."""
    from medcoss_cli.registry.discovery import statuses

    usable = (s.name for s in statuses() if s.modality is not None and s.modality.demo is not None)
    return next((name for name in usable if name not in names), None)


def _write_data(names: list[str], folder: Path, seed: int, screen: Screen) -> None:
    from medcoss_cli.registry.discovery import load_modality

    with screen.progress("writing synthetic data", len(names)) as bar:
        for name in names:
            modality = load_modality(name)
            if modality.demo is not None and not (folder / name / "manifest.csv").exists():
                modality.demo(folder / name, COUNTS[modality.dims], seed)
            bar.advance()


def _like(recipe: Any) -> list[str]:
    """The pace of the demo recipe for the extension."""
    train, rehearsal = recipe.train, recipe.rehearsal
    return [
        f"train.epochs={train.epochs}",
        f"train.warmup={train.warmup}",
        f"train.batch={train.batch}",
        f"train.lr={train.lr}",
        f"rehearsal.ratio={rehearsal.ratio}",
        f"rehearsal.share={rehearsal.share}",
    ]


def _job(options: Options, screen: Screen, new: Callable[[], Job]) -> Job:
    """The run of this name, gone on with if it is there."""
    from medcoss_cli.pretraining import setup

    folder = options.runs / str(options.name)
    return setup.resume(folder, options, screen) if (folder / "run.json").exists() else new()


def _compare(summaries: dict[str, dict[str, Any]], screen: Screen) -> None:
    """The last column of the retention tables, side by side."""
    last = {label: summary["stages"][-1] for label, summary in summaries.items()}
    columns = ["modality", *(f"CKA {label}" for label in last), *(f"loss {label}" for label in last), "loss at first"]
    unit = {stage["modality"]: stage["baseline"] or 1.0 for stage in next(iter(summaries.values()))["stages"]}
    rows = []
    for name in next(iter(last.values()))["retention"]:
        then = [stage["retention"].get(name, {}) for stage in last.values()]
        cells = [f"{row['cka']:.3f}" for row in then] + [f"{row['loss'] / unit[name]:.3f}" for row in then]
        rows.append([name, *cells, f"{then[0]['loss_then'] / unit[name]:.3f}"])
    screen.table("What is remembered at the end (CKA 1: unchanged; loss 1: predicting the mean)", columns, rows)
