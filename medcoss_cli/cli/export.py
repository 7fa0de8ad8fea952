"""The verb `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medcoss_cli.cli import options, terminal

app = typer.Typer(add_completion=False)


@app.command()
def export(
    source: Annotated[Path | None, typer.Argument(metavar="CKPT", help="A ckpt.pt, or a run's folder.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file to write; else encoder.onnx.")
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(
            "--modality", help="Export this modality's tokenizer with the encoder (default: the encoder alone)."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="Export a fine-tuned run with its head.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of the run to export (default: the best on validation).")
    ] = None,
    precision: Annotated[str, typer.Option("--precision", help="fp32; of ONNX also fp16 or int8.")] = "fp32",
    form: Annotated[
        str, typer.Option("--format", help="onnx, timm (a 2D encoder that timm.create_model loads), or a plugin's.")
    ] = "onnx",
    opset: Annotated[int | None, typer.Option("--opset", min=18, help="ONNX opset (default: the exporter's).")] = None,
    samples: Annotated[
        Path | None,
        typer.Option("--samples", metavar="DIR", help="Samples for the parity check (default: the checkpoint's own)."),
    ] = None,
    licence: Annotated[
        str, typer.Option("--licence", help="Licence of the weights, for the model card.")
    ] = "not stated",
    as_json: options.Json = False,
) -> None:
    """Write one ONNX file, verified against the checkpoint, with a model card beside it.

    Example: medcoss export ckpt.pt --modality xray -o xray.onnx
    """
    from medcoss_cli.export import export as carry_out
    from medcoss_cli.export import load_format
    from medcoss_cli.export.metadata import card_beside

    screen, writer = terminal.screen(as_json), load_format(form)
    out = out or Path(f"encoder{writer.suffix}")
    facts = carry_out(
        source,
        out,
        form=writer,
        modality=modality,
        run=run,
        seed=seed,
        precision=precision,
        opset=opset,
        samples=samples,
        licence=licence,
        screen=screen,
    )
    if as_json:
        terminal.result_json(facts)
        return
    screen.table(
        f"{out.name} against torch, on {facts['samples']}",
        ["batch", "size", "difference", "in std", "cosine"],
        [_row(row) for row in facts["rows"]],
    )
    if facts["neighbours"] is not None:
        shares = facts["neighbours"]
        screen.say(f"nearest-neighbour accuracy: torch {shares['torch']:.3f}, {precision} {shares[form]:.3f}")
    size, card = facts["bytes"] / 2**20, card_beside(out).name
    screen.say(f"{size:.1f} MiB in {facts['seconds']:.0f} s (shareable): {out}, with its card {card}")


def _row(row: dict[str, Any]) -> list[str]:
    size = " x ".join(map(str, row["size"]))
    return [str(row["batch"]), size, f"{row['difference']:.2g}", f"{row['relative']:.2g}", f"{row['cosine']:.6f}"]
