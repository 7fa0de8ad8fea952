"""The verb `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medcoss_cli.cli import terminal

app = typer.Typer(add_completion=False)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; several are compared.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="HTML file (default: RUN/report.html, or ./report.html for several)."
        ),
    ] = None,
    with_samples: Annotated[
        bool, typer.Option("--with-samples", help="Include pictures of samples; the page is then private.")
    ] = False,
) -> None:
    """Write one HTML page about a run, or a comparison of several; shareable.

    Example: medcoss report runs/mini
    """
    from medcoss_cli.report import write

    screen = terminal.screen()
    written = write(runs, out, with_samples=with_samples)
    if with_samples and not written.samples:
        screen.warn("there are no pictures of samples here; the page holds none")
    screen.say(f"{'private: holds samples' if written.samples else 'shareable'}: {written.path}")
