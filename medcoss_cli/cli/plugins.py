"""The verbs `plugins list|info|new|check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medcoss_cli.cli import options, show
from medcoss_cli.errors import PluginError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Modalities that are installed, and new ones.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A modality, as in `medcoss plugins list`.")]


@app.command(name="list")
def list_plugins(as_json: options.Json = False) -> None:
    """List the installed modalities and whether each can be used.

    Example: medcoss plugins list
    """
    from medcoss_cli.discovery import statuses

    found = statuses()
    if as_json:
        show.result_json(
            [{"name": s.name, "distribution": s.distribution, "version": s.version, "status": s.status} for s in found]
        )
        return
    rows = []
    for s in found:
        m = s.modality
        size = " x ".join(map(str, m.size)) if m else ""
        key = m.tokenizer.key if m and m.tokenizer else ""
        rows.append([s.name, m.title if m else "", size, key, f"{s.distribution} {s.version}", s.status])
    show.screen().table("", ["modality", "title", "size", "tokenizer", "from", "status"], rows)


@app.command()
def info(name: Name, as_json: options.Json = False) -> None:
    """Say which parts a modality is made of.

    Example: medcoss plugins info ct
    """
    from medcoss_cli.discovery import distribution_of, load_modality

    modality = load_modality(name)
    tokenizer: Any = modality.tokenizer
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
        "tokenizer": {"key": tokenizer.key, **tokenizer.spec},
        "decoder": repr(modality.decoder),
        "demo": modality.demo is not None,
    }
    if as_json:
        show.result_json(facts)
        return
    for key, value in facts.items():
        show.result(f"{key:10s} {value}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the modality, as in ecg.")],
    dims: Annotated[int, typer.Option(min=1, max=3, help="1: signals, 2: images, 3: volumes.")] = 1,
    where: Annotated[Path, typer.Option(metavar="DIR", help="Where its folder is made.")] = Path(),
) -> None:
    """Write a plugin for a new modality, which passes its own tests as it is.

    Example: medcoss plugins new ecg --dims 1
    """
    from medcoss_cli.scaffold import new_plugin

    folder = new_plugin(name, dims, where)
    screen = show.screen()
    screen.say(f"written: {folder}")
    screen.say(f"next: pip install -e {folder} && pytest {folder}; then medcoss plugins check {name}")


@app.command()
def check(name: Name) -> None:
    """Run the conformance suite on an installed modality, on its own demo data.

    Example: medcoss plugins check ct
    """
    import tempfile

    from medcoss_cli.discovery import load_modality
    from medcoss_cli.kit import conformance

    modality = load_modality(name)
    with tempfile.TemporaryDirectory() as folder:
        faults = conformance.check(modality, Path(folder))
    if faults:
        raise PluginError(f"{name} does not conform:\n  " + "\n  ".join(faults))
    show.screen().say(f"{name} conforms to plugin API 1")
