"""The verb `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medcoss_cli.cli import options, terminal
from medcoss_cli.errors import DataError

app = typer.Typer(add_completion=False)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a fine-tuned run.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...", parser=options.place, help="Files, folders, zip archives or URLs to predict."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Output folder.")],
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of the run to use (default: the best on validation).")
    ] = None,
    overlays: Annotated[int, typer.Option("--overlays", min=0, help="Number of first cases to draw.")] = 3,
    as_json: options.Json = False,
) -> None:
    """Predict classes, or masks on each input's own grid (NIfTI, DICOM Segmentation, PNG). Research use only.

    Example: medcoss predict runs/lits scans/ -o masks/
    """
    from medcoss_cli import predict as verb

    screen = terminal.screen(as_json)
    written = verb.predict(run, inputs, out, seed=seed, overlays=overlays, screen=screen)
    screen.say(f"{written.done} done; everything (private: patients' data) lies in {out}")
    if as_json:
        files = [str(path) for path in written.files]
        terminal.result_json({"done": written.done, "files": files, "bad": [item.reason for item in written.bad]})
    if written.bad:
        raise DataError(
            f"{len(written.bad)} inputs could not be used; the first: {written.bad[0].reason}",
            where=written.bad[0].source,
            fix=f"see {out / 'quarantine.csv'}; all others are done",
        )
