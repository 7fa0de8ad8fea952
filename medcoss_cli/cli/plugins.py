"""The verbs `plugins list|info|new|check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medcoss_cli.cli import options, terminal
from medcoss_cli.errors import PluginError, UsageError

if TYPE_CHECKING:
    from medcoss_cli.registry.discovery import Status

app = typer.Typer(
    add_completion=False, help="Plugins that are installed, and new ones.\n\nExample: medcoss plugins list"
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Modality; see `medcoss plugins list`.")]


@app.command(name="list")
def list_plugins(as_json: options.Json = False) -> None:
    """List the installed modalities, strategies, tasks and recipes of plugins, whose they are and whether each can be used.

    Example: medcoss plugins list
    """
    from medcoss_cli.registry import discovery
    from medcoss_cli.registry.recipes import recipe_statuses

    groups = {
        "modality": discovery.statuses(),
        "strategy": discovery.strategy_statuses(),
        "task": discovery.task_statuses(),
        "recipe": recipe_statuses(),
    }
    if as_json:
        facts = {kind: [_facts(status) for status in statuses] for kind, statuses in groups.items()}
        terminal.result_json({plural: facts[kind] for kind, plural in PLURALS.items()})
        return
    screen = terminal.screen()
    unusable = []
    for kind, statuses in groups.items():
        usable = [_row(_facts(status)) for status in statuses if status.status == "ok"]
        columns = ["title", "size", "tokenizer"] if kind == "modality" else []
        if usable:
            screen.table("", [kind, *columns, "from", "status"], usable)
        unusable += [[kind, s.name, f"{s.distribution} {s.version}", s.status] for s in statuses if s.status != "ok"]
    if unusable:  # apart, so that on a narrow terminal there is room for the reasons
        screen.table("These cannot be used", ["kind", "name", "from", "status"], unusable)


PLURALS = {"modality": "modalities", "strategy": "strategies", "task": "tasks", "recipe": "recipes"}


def _row(facts: dict[str, Any]) -> list[str]:
    more = [facts["title"], " x ".join(map(str, facts["size"])), facts["tokenizer"]] if "title" in facts else []
    return [facts["name"], *more, f"{facts['distribution']} {facts['version']}", facts["status"]]


def _facts(status: Status) -> dict[str, Any]:
    """A line of the list; only a modality that can be used has a title, size and tokenizer."""
    modality = status.modality
    about = (
        {}
        if modality is None
        else {
            "title": modality.title,
            "size": list(modality.size),
            "tokenizer": modality.tokenizer.key,
        }
    )
    return {"name": status.name, **about, **{k: getattr(status, k) for k in ("distribution", "version", "status")}}


@app.command()
def info(name: Name, as_json: options.Json = False) -> None:
    """Show the parts of a modality.

    Example: medcoss plugins info ct
    """
    from medcoss_cli.registry.discovery import distribution_of, load_modality

    modality = load_modality(name)
    facts: dict[str, Any] = {
        "name": modality.name,
        "title": modality.title,
        "from": distribution_of(name),
        "dims": modality.dims,
        "size": list(modality.size),
        "channels": modality.channels,
        "pretext": modality.pretext,
        "loader": repr(modality.loader),
        "intensity": repr(modality.intensity),
        "augment": repr(modality.augment),
        "tokenizer": {"key": modality.tokenizer.key, **modality.tokenizer.spec.to_plain()},
        "decoder": repr(modality.decoder),
        "demo": modality.demo is not None,
    }
    if as_json:
        terminal.result_json(facts)
        return
    for key, value in facts.items():
        terminal.result(f"{key:10s} {value}")


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the modality, as in ecg, of the strategy, or of the kind of task.")
    ],
    dims: Annotated[int, typer.Option(min=1, max=3, help="1: signals, 2: images, 3: volumes.")] = 2,
    where: Annotated[Path, typer.Option(metavar="DIR", help="Parent folder of the new plugin.")] = Path(),
    strategy: Annotated[bool, typer.Option("--strategy", help="A strategy instead of a modality.")] = False,
    task: Annotated[bool, typer.Option("--task", help="A kind of task instead of a modality.")] = False,
) -> None:
    """Write a plugin for a new modality, strategy or kind of task, which passes its own tests as it is.

    Example: medcoss plugins new ecg --dims 1
    """
    from medcoss_cli.registry.scaffold import new_plugin

    kind = _kind(strategy, task)
    option = "" if kind == "modality" else f"--{kind} "
    folder = new_plugin(kind, name, where, dims=dims)
    screen = terminal.screen()
    screen.say(f"written: {folder}")
    screen.say(f"next: pip install -e {folder} && pytest {folder}; then medcoss plugins check {option}{name}")


@app.command()
def check(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A modality, as in `medcoss plugins list`, a strategy, or a kind of task."),
    ],
    strategy: Annotated[bool, typer.Option("--strategy", help="NAME is a strategy.")] = False,
    task: Annotated[bool, typer.Option("--task", help="NAME is a kind of task.")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Your files of this modality (default: its demo set).")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Run the conformance suite on an installed plugin; on a modality with its own demo data, or with yours.

    Example: medcoss plugins check ct --data scans
    """
    import tempfile

    from medcoss_cli import conformance
    from medcoss_cli.plugin import PLUGIN_API
    from medcoss_cli.registry.discovery import load_modality, load_strategy, load_task, statuses

    kind = _kind(strategy, task)
    if data is not None and (kind != "modality" or not data.is_dir()):
        what = f"a {kind} is checked without data" if kind != "modality" else "the folder does not exist"
        where = "--data" if kind != "modality" else data
        raise UsageError(what, where=where, fix="name a modality and a folder of its files")
    with tempfile.TemporaryDirectory() as folder:
        if kind == "strategy":
            faults = conformance.check_strategy(load_strategy(name), Path(folder))
        elif kind == "task":
            faults = conformance.check_task(load_task(name), Path(folder))
        else:
            modality = load_modality(name)
            status = next(s.status for s in statuses() if s.name == name)  # beside the others that are installed
            faults = [*([] if status == "ok" else [status]), *conformance.check(modality, Path(folder), data)]
    if as_json:
        terminal.result_json({"name": name, "conforms": not faults, "faults": faults})
    if faults:
        raise PluginError(f"{name} does not conform to plugin API {PLUGIN_API}:\n  " + "\n  ".join(faults))
    terminal.screen(as_json).say(f"{name} conforms to plugin API {PLUGIN_API}")


def _kind(strategy: bool, task: bool) -> str:
    if strategy and task:
        raise UsageError("--strategy and --task exclude each other", fix="leave one of them out")
    return "strategy" if strategy else "task" if task else "modality"
