"""The options that pretrain and extend share, told once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Override keys of the recipe: train.epochs=3")
]
Name = Annotated[str | None, typer.Option("--name", help="Name of the run's folder under runs/.")]
Resume = Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Begin the run of this name again.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, read headers only, write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root", metavar="DIR", help="Where relative data paths begin; else $MEDCOSS_DATA, else ./data."
    ),
]
Prepared = Annotated[
    Path | None,
    typer.Option("--prepared", metavar="DIR", help="Where prepared sets lie; else $MEDCOSS_PREPARED, else ./prepared."),
]
MinRetention = Annotated[
    float | None,
    typer.Option(
        "--min-retention",
        min=0.0,
        max=1.0,
        help="Exit with 9 if an earlier modality is remembered less (CKA, 0 to 1); all is kept.",
    ),
]
