"""The verb `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medcoss_cli.cli import terminal

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where everything is written.")] = Path("medcoss-demo"),
    seed: Annotated[int, typer.Option(help="Of the synthetic data.")] = 0,
) -> None:
    """See it work on synthetic data: one encoder learns six modalities, and what it still knows of the first ones.

    Takes a few minutes on two cores and draws one picture. Called again, it goes on where it was stopped.

    Example: medcoss demo
    """
    from medcoss_cli import demo as verb

    verb.demo(folder, seed, terminal.screen())
