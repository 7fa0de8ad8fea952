"""The verb `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medcoss_cli.cli import options, terminal
from medcoss_cli.errors import UsageError

app = typer.Typer(add_completion=False)
_PRECISIONS = ("fp32", "fp16", "int8")
_FORMATS = ("onnx", "timm")


@app.command()
def export(
    source: Annotated[
        Path | None, typer.Argument(metavar="CKPT", help="A ckpt.pt, or the run's folder that holds it.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The .onnx file to write.")] = Path(
        "encoder.onnx"
    ),
    modality: Annotated[
        str | None, typer.Option("--modality", help="Its tokenizer and the encoder; else the encoder alone.")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", metavar="RUN", help="A fine-tuned run, with its head.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of a run, whose network; else the best.")] = None,
    precision: Annotated[str, typer.Option("--precision", help="fp32, fp16 or int8.")] = "fp32",
    form: Annotated[
        str, typer.Option("--format", help="onnx, or timm: a 2D encoder that timm.create_model loads.")
    ] = "onnx",
    opset: Annotated[int | None, typer.Option("--opset", min=18, help="Of ONNX; else the exporter's own.")] = None,
    samples: Annotated[
        Path | None, typer.Option("--samples", metavar="DIR", help="Prove it on these; else on what is at hand.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Of the weights, for the card.")] = "not stated",
    as_json: options.Json = False,
) -> None:
    """Write one ONNX file that is proved equal to the checkpoint, with a model card beside it.

    Example: medcoss export ckpt.pt --modality xray -o xray.onnx
    """
    if form not in _FORMATS:
        raise UsageError(f"there is no format {form!r}", where="--format", fix="take onnx or timm")
    if precision not in _PRECISIONS:
        raise UsageError(f"there is no precision {precision!r}", where="--precision", fix="take fp32, fp16 or int8")
    from medcoss_cli.export.metadata import card_beside

    screen = terminal.screen(as_json)
    common: dict[str, Any] = {"modality": modality, "samples": samples, "licence": licence, "screen": screen}
    if form == "timm":
        if run is not None or seed is not None or precision != "fp32" or opset is not None:
            raise UsageError(
                "timm takes an encoder in fp32",
                where="--format",
                fix="leave --run, --seed, --precision and --opset out",
            )
        from medcoss_cli.export.timm_export import export_timm

        facts = export_timm(source, out, **common)
    else:
        from medcoss_cli.export.driver import export as verb

        facts = verb(source, out, run=run, seed=seed, precision=precision, opset=opset, **common)
    if as_json:
        terminal.result_json(facts)
        return
    screen.table(
        f"{out.name} against torch, on {facts['samples']}",
        ["batch", "size", "difference", "in deviations", "cosine"],
        [_row(row) for row in facts["rows"]],
    )
    if facts["neighbours"] is not None:
        screen.say(
            f"nearest-neighbour accuracy: torch {facts['neighbours']['torch']:.3f}, "
            f"{precision} {facts['neighbours']['onnx']:.3f}"
        )
    size, card = facts["bytes"] / 2**20, card_beside(out).name
    screen.say(f"{size:.1f} MiB in {facts['seconds']:.0f} s (shareable): {out}, with its card {card}")


def _row(row: dict[str, Any]) -> list[str]:
    size = " x ".join(map(str, row["size"]))
    return [str(row["batch"]), size, f"{row['difference']:.2g}", f"{row['relative']:.2g}", f"{row['cosine']:.6f}"]
