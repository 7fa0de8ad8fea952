"""The options that pretrain, extend and finetune share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medcoss_cli.errors import UsageError


def place(text: str) -> Path:
    """A local path; of a URL (s3://bucket/folder) or a zip archive what lies there, in the cache."""
    from medcoss_cli.cli import terminal
    from medcoss_cli.kit.sources.places import local

    if not text:  # which Python would take for the current folder
        raise UsageError("the name of the folder is empty", fix="name one, or . for the current folder")
    return local(text, say=terminal.screen(as_json=True).say)


Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Override recipe keys, such as train.epochs=3.")
]
Name = Annotated[str | None, typer.Option("--name", help="Name of the run's folder below runs/.")]
Resume = Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Continue an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start the run of this name again.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan; read headers only, write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", metavar="DIR", help="Root of relative data paths (default: $MEDCOSS_DATA, or ./data)."),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="KIND",
        help="Read DICOM that may show a name: secondary-capture or burned-in. May be repeated.",
    ),
]
Tilt = Annotated[
    str,
    typer.Option(
        "--tilt", help="correct: resample series of a tilted gantry or uneven steps to an even grid; or keep."
    ),
]
Loader = Annotated[
    list[str] | None,
    typer.Option(
        "--loader", metavar="KEY=VALUE", help="A setting of the modality's loader, see its README. May be repeated."
    ),
]


def reading(allow: list[str] | None, tilt: str, loader: list[str] | None = None) -> dict[str, Any]:
    """Settings of loaders that differ from their defaults. Raises: UsageError for what cannot be one."""
    from medcoss_cli.store import yaml_text

    if tilt not in ("keep", "correct"):
        raise UsageError(f"--tilt {tilt} is not keep or correct")
    settings = {}
    for words in loader or ():
        key, equals, value = words.partition("=")
        try:
            settings[key] = yaml_text.read(value)
        except ValueError:
            equals = ""
        if not (key and equals):
            raise UsageError(f"--loader {words} is not of the form key=value", fix="as in --loader mpp=1.0")
    return {**({"allow": allow} if allow else {}), **({"tilt": tilt} if tilt != "keep" else {}), **settings}


Prepared = Annotated[
    Path | None,
    typer.Option(
        "--prepared", metavar="DIR", help="Folder of prepared sets (default: $MEDCOSS_PREPARED, or ./prepared)."
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="NAME=COLUMN,...",
        help="Names of the manifest's columns where they differ, such as path=File,label=Finding,group=PID; then any table "
        "(.csv, .tsv, .xlsx) in the folder may be its manifest.",
    ),
]
MinRetention = Annotated[
    float | None,
    typer.Option(
        "--min-retention",
        min=0.0,
        max=1.0,
        help="Exit with code 9 if an earlier modality is remembered less (the lower of debiased CKA and centred cosine, "
        "0 to 1); everything is kept.",
    ),
]


def columns_of(text: str | None) -> dict[str, str] | None:
    """--columns as a mapping: {"path": "File", "label": "Finding"}. Raises: UsageError."""
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    if any(not name.strip() or not column.strip() for name, _, column in pairs):
        raise UsageError(
            f"--columns {text} is not of the form NAME=COLUMN,...", fix="write --columns path=File,label=Finding"
        )
    return {name.strip(): column.strip() for name, _, column in pairs}
