"""The verbs `checkpoint show|strip`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medcoss_cli.cli import options, show
from medcoss_cli.errors import UsageError

if TYPE_CHECKING:
    from medcoss_cli.store.checkpoint import Checkpoint

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Look into a checkpoint, or make a shareable part of it."
)

File = Annotated[Path, typer.Argument(metavar="CKPT", help="A ckpt.pt, or the run's folder that holds it.")]


@app.command(name="show")
def show_checkpoint(path: File, as_json: options.Json = False) -> None:
    """Say what a checkpoint holds: what is private in it first.

    Example: medcoss checkpoint show runs/mini/ckpt.pt
    """
    from medcoss_cli.store import checkpoint

    found, _ = checkpoint.find_checkpoint(path)
    known = checkpoint.load(found)
    facts = summary(known)
    if as_json:
        show.result_json(facts)
        return
    screen = show.screen()
    show.result(facts["private"])
    encoder = known.encoder
    show.result(
        f"Encoder {encoder['width']} x {encoder['depth']}, {encoder['heads']} heads, {facts['weights'] / 1e6:.1f} million weights"
    )
    rows = [
        [name, " x ".join(map(str, m["size"])), m["tokenizer"], str(m["buffer"]), str(m["probes"]), m["distribution"]]
        for name, m in facts["modalities"].items()
    ]
    screen.table("", ["modality", "size", "tokenizer", "buffer", "probes", "plugin"], rows)
    rows = [
        [str(s["stage"]), s["modality"], s["strategy"], str(s["train"]), str(s["steps"]), str(s["rehearsal_steps"])]
        for s in known.history
    ]
    screen.table("", ["stage", "modality", "strategy", "trained on", "steps", "of them old"], rows)
    for key, words in facts["vocabularies"].items():
        show.result(f"Vocabulary {key}: {words} pieces")
    if facts["lowest"] is not None:
        show.result(f"Least remembered: {facts['lowest'][0]}, CKA {facts['lowest'][1]:.3f}")


@app.command()
def strip(
    path: File,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, as in encoder.safetensors.")],
) -> None:
    """Write what may be shared: encoder, tokenizers, vocabulary, history; no sample, no name, no path.

    Example: medcoss checkpoint strip runs/mini/ckpt.pt encoder.safetensors
    """
    from medcoss_cli.store import checkpoint
    from medcoss_cli.store.strip import strip as write

    found, _ = checkpoint.find_checkpoint(path)
    if out.exists() and out.samefile(found):
        raise UsageError("this would overwrite the checkpoint itself", where=out, fix="name another file")
    size = write(found, out)
    show.screen().say(f"shareable, {size / 2**20:.1f} MiB: {out}")


def summary(known: Checkpoint) -> dict[str, Any]:
    """What `checkpoint show --json` prints."""
    import json

    from medcoss_cli import retention

    counts = {name: len(entry["integers"]) for name, entry in known.buffer.items()}
    probes = {name: len(entry["integers"]) for name, entry in known.probes.items()}
    total = sum(counts.values()) + sum(probes.values())
    several = ", ".join(f"{counts.get(name, 0) + probes.get(name, 0)} {name}" for name in known.modalities)
    return {
        "private": f"Private: {total} samples of the training data are inside ({several}); "
        "`medcoss checkpoint strip` makes a shareable file.",
        "encoder": known.encoder,
        "weights": sum(w.numel() for name, w in known.weights.items() if not name.startswith("decoders.")),
        "modalities": {
            name: {**facts, "buffer": counts.get(name, 0), "probes": probes.get(name, 0)}
            for name, facts in known.modalities.items()
        },
        "tokenizers": known.tokenizers,
        "vocabularies": {key: len(json.loads(text)["model"]["vocab"]) for key, text in known.vocabularies.items()},
        "history": known.history,
        "lowest": retention.lowest(known.history),
    }
