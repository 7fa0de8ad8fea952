"""The verb `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medcoss_cli.cli import options, terminal

app = typer.Typer(add_completion=False)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a fine-tuned run.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            parser=options.place,
            help="Labelled folder with a manifest, a zip archive or URL of one, or a container of arrays with --columns "
            "label=KEY (default: the run's own data).",
        ),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option("--encoder", metavar="CKPT", help="Test heads of a frozen encoder on this newer encoder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder for results.json and cases (private).")
    ] = None,
    allow_overlap: Annotated[
        bool,
        typer.Option("--allow-overlap", help="Test on patients or samples of the training, too; the results say so."),
    ] = False,
    columns: options.Columns = None,
    as_json: options.Json = False,
    data_root: options.DataRoot = None,
    prepared: options.Prepared = None,
) -> None:
    """Test a fine-tuned run on its own test cases, on new data, or with a newer encoder.

    Example: medcoss evaluate runs/nch --encoder runs/extend-ultrasound/ckpt.pt
    """
    from medcoss_cli import evaluate as verb
    from medcoss_cli.registry.discovery import load_task
    from medcoss_cli.training import runs

    screen = terminal.screen(as_json)
    choices = runs.Options(None, False, data_root, prepared)
    results = verb.evaluate(
        run, data, encoder, out, choices, screen, allow_overlap=allow_overlap, columns=options.columns_of(columns)
    )
    labels = list(results["summary"])
    first = results["seeds"][0]["test"]
    kind, rows = load_task(results["task"]), []
    headings = kind.headings(results["classes"], {n: e["mean"] for n, e in results["summary"][labels[0]].items()})
    for metric, heading in headings.items():
        entries = [results["summary"][label][metric] for label in labels]
        cells = [terminal.spread(entry["mean"], entry["sd"]) for entry in entries]
        cells += [terminal.interval(entry["test"], metric) for entry in results["seeds"]]
        rows.append([heading, *cells, terminal.number(first["baseline"].get(metric))])
    count, seeds = first["samples"], len({entry["seed"] for entry in results["seeds"]})
    several = len(labels) > 1
    each = [f"seed {entry['seed']}" + (f", {entry['encoder']}" if several else "") for entry in results["seeds"]]
    title = f"{count} cases, {seeds} seeds (mean ± std; each seed with its 95 % interval, by patient)"
    screen.table(title, ["metric", *labels, *each, "trivial"], rows)
    if out is not None:
        screen.say(f"next: medcoss report {out}")
        screen.say(f"results (shareable): {out / 'results.json'}; cases (private: name files): {out}/cases-*.csv")
    if as_json:
        terminal.result_json(results)
