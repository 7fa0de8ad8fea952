"""The verb `embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medcoss_cli.cli import options, terminal
from medcoss_cli.errors import DataError

app = typer.Typer(add_completion=False)
SHOWN = 20
"""Samples whose neighbours are printed; the others' are in --json."""


@app.command()
def embed(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A checkpoint, or an .onnx file written by `medcoss export`.")
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", parser=options.place, help="Files, folders, zip archives or URLs to embed."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="A .npz, .jsonl or .parquet file.")],
    modality: Annotated[
        str | None, typer.Option("--modality", help="Modality of the inputs (needed for a checkpoint).")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also write the features of every token.")] = False,
    neighbours: Annotated[
        int | None, typer.Option("--neighbours", min=1, help="Print the N nearest samples of each sample.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--map", metavar="PNG", help="Draw a 2D map of the embeddings.")
    ] = None,
    allow: options.Allow = None,
    tilt: options.Tilt = "keep",
    loader: options.Loader = None,
    as_json: options.Json = False,
) -> None:
    """Write one feature vector per sample, without training.

    Example: medcoss embed ckpt.pt scans --modality xray -o features.npz --neighbours 3
    """
    from medcoss_cli import embed as verb
    from medcoss_cli.metrics.neighbours import agreement
    from medcoss_cli.metrics.neighbours import neighbours as nearest_of
    from medcoss_cli.store.features import draw

    screen = terminal.screen(as_json)
    embedded = verb.embed(
        source, modality, inputs, out, tokens=tokens, reading=options.reading(allow, tilt, loader), screen=screen
    )
    facts = {
        "file": str(out),
        "samples": len(embedded.ids),
        "width": embedded.pooled.shape[1],
        "bad": len(embedded.bad),
    }
    if neighbours is not None and len(embedded.ids) > 1:
        nearest, cosines = nearest_of(embedded.pooled, neighbours, embedded.groups)
        shown = [
            [f"{embedded.ids[j]} ({c:.3f})" for j, c in zip(*pair, strict=True) if j >= 0]
            for pair in zip(nearest, cosines, strict=True)
        ]
        rows = [
            [name, *cells, *[""] * (nearest.shape[1] - len(cells))]
            for name, cells in zip(embedded.ids, shown, strict=True)
        ]
        columns = ["sample", *(f"nearest {k + 1}" for k in range(nearest.shape[1]))]
        screen.table("Nearest samples of other groups (cosine of centred features)", columns, rows[:SHOWN])
        if len(rows) > SHOWN:
            screen.say(f"and {len(rows) - SHOWN} more: --json has all")
        facts["neighbours"] = {row[0]: [embedded.ids[j] for j in nearest[i] if j >= 0] for i, row in enumerate(rows)}
        if not nearest.shape[1]:
            screen.warn("all samples are of one group (patient, recording), so none has a neighbour")
        elif embedded.labels is not None:
            facts["accuracy"] = agreement(nearest, embedded.labels)
            screen.say(f"nearest-neighbour accuracy with {nearest.shape[1]}: {facts['accuracy']:.3f}")
    if picture is not None:
        draw(embedded, picture)
        screen.say(f"map: {picture}")
    screen.say(
        f"{len(embedded.ids)} samples, {embedded.pooled.shape[1]} features each (private: ids name files): {out}"
    )
    if as_json:
        terminal.result_json(facts)
    if embedded.bad:
        raise DataError(
            f"{len(embedded.bad)} inputs could not be used; the first: {embedded.bad[0].reason}",
            where=embedded.bad[0].source,
            fix=f"see {out.stem}-quarantine.csv; all others are done",
        )
