"""The verbs `plugins list|info|new|check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medcoss_cli.cli import options, terminal
from medcoss_cli.errors import PluginError

if TYPE_CHECKING:
    from medcoss_cli.registry.discovery import Status

app = typer.Typer(
    add_completion=False, help="Modalities that are installed, and new ones.\n\nExample: medcoss plugins list"
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A modality, as in `medcoss plugins list`.")]


@app.command(name="list")
def list_plugins(as_json: options.Json = False) -> None:
    """List the installed modalities and whether each can be used.

    Example: medcoss plugins list
    """
    from medcoss_cli.registry.discovery import recipe_statuses, statuses

    found, screen = [_facts(status) for status in statuses()], terminal.screen(as_json)
    if as_json:
        terminal.result_json(found)
    else:
        usable, others = [], []
        for f in found:
            size, source = " x ".join(map(str, f["size"])), f"{f['distribution']} {f['version']}"
            if f["status"] == "ok":
                usable.append([f["name"], f["title"], size, f["tokenizer"], source, "ok"])
            else:
                others.append([f["name"], source, f["status"]])
        screen.table("", ["modality", "title", "size", "tokenizer", "from", "status"], usable)
        if others:  # apart, so that on a narrow terminal there is room for the reasons
            screen.table("These cannot be used", ["modality", "from", "status"], others)
    for status in recipe_statuses():
        if status.status != "ok":
            screen.warn(f"recipes of {status.distribution} {status.version} ({status.name}) are {status.status}")


def _facts(status: Status) -> dict[str, Any]:
    """A line of the list; what a broken plugin does not tell is empty."""
    modality = status.modality
    return {
        "name": status.name,
        "title": modality.title if modality else "",
        "size": list(modality.size) if modality else [],
        "tokenizer": modality.tokenizer.key if modality else "",
        "distribution": status.distribution,
        "version": status.version,
        "status": status.status,
    }


@app.command()
def info(name: Name, as_json: options.Json = False) -> None:
    """Say which parts a modality is made of.

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
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the modality, as in ecg.")],
    dims: Annotated[int, typer.Option(min=1, max=3, help="1: signals, 2: images, 3: volumes.")] = 2,
    where: Annotated[Path, typer.Option(metavar="DIR", help="Where its folder is made.")] = Path(),
) -> None:
    """Write a plugin for a new modality, which passes its own tests as it is.

    Example: medcoss plugins new ecg --dims 1
    """
    from medcoss_cli.registry.scaffold import new_plugin

    folder = new_plugin(name, dims, where)
    screen = terminal.screen()
    screen.say(f"written: {folder}")
    screen.say(f"next: pip install -e {folder} && pytest {folder}; then medcoss plugins check {name}")


@app.command()
def check(name: Name, as_json: options.Json = False) -> None:
    """Run the conformance suite on an installed modality, on its own demo data.

    Example: medcoss plugins check ct
    """
    import tempfile

    from medcoss_cli import conformance
    from medcoss_cli.plugin import PLUGIN_API
    from medcoss_cli.registry.discovery import load_modality, statuses

    modality = load_modality(name)
    status = next(s.status for s in statuses() if s.name == name)  # what it is beside the others that are installed
    with tempfile.TemporaryDirectory() as folder:
        faults = [*([] if status == "ok" else [status]), *conformance.check(modality, Path(folder))]
    if as_json:
        terminal.result_json({"name": name, "conforms": not faults, "faults": faults})
    if faults:
        raise PluginError(f"{name} does not conform to plugin API {PLUGIN_API}:\n  " + "\n  ".join(faults))
    terminal.screen(as_json).say(f"{name} conforms to plugin API {PLUGIN_API}")
