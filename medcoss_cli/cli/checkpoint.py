"""The verbs `checkpoint show|strip|import`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medcoss_cli.cli import options, terminal
from medcoss_cli.errors import UsageError

if TYPE_CHECKING:
    from medcoss_cli.store.checkpoint import Checkpoint

app = typer.Typer(
    add_completion=False,
    help="Look into a checkpoint, share a part of it, or import weights.\n\nExample: medcoss checkpoint show runs/mini",
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
        terminal.result_json(facts)
        return
    screen = terminal.screen()
    encoder = known.encoder
    terminal.result(facts["private"])
    terminal.result(
        f"Encoder {encoder['width']} x {encoder['depth']}, {encoder['heads']} heads, {facts['weights'] / 1e6:.1f} million weights"
    )
    rows = [
        [name, " x ".join(map(str, m["size"])), m["tokenizer"], str(m["buffer"]), str(m["probes"]), m["distribution"]]
        for name, m in facts["modalities"].items()
    ]
    screen.table("", ["modality", "size", "tokenizer", "buffer", "probes", "plugin"], _printable(rows))
    columns = ["stage", "modality", "strategy", "trained on", "epochs", "steps", "of them old", "loss", "lowest CKA"]
    keys = ("stage", "modality", "strategy", "train", "epochs", "steps", "rehearsal_steps", "loss", "lowest")
    rows = [["" if s[key] is None else _cell(s[key]) for key in keys] for s in facts["stages"]]
    screen.table("", columns, _printable(rows))
    if facts["origin"] is not None:
        terminal.result("Begun from " + "".join(c for c in str(facts["origin"]) if c.isprintable()))
    terminal.result("loss: on its own probes when the stage was done, 1 is predicting the mean")
    for key, words in facts["vocabularies"].items():
        terminal.result(f"Vocabulary {key}: {words} pieces")
    for name, values in facts["memory"].items():
        terminal.result(_printable([[f"Memory of the strategy {name}: {values:,} values"]])[0][0])
    if facts["lowest"] is not None:
        terminal.result(f"Least remembered: {facts['lowest'][0]}, CKA {facts['lowest'][1]:.3f}")
    if facts["versions"]:
        terminal.result("Written with " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))


@app.command()
def strip(
    path: File,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, as in encoder.safetensors.")],
) -> None:
    """Write what may be shared: encoder, tokenizers, vocabulary, history; no sample, no name, no path.

    Example: medcoss checkpoint strip runs/mini/ckpt.pt encoder.safetensors
    """
    from medcoss_cli.importers.shareable import strip as write
    from medcoss_cli.store import checkpoint

    found, _ = checkpoint.find_checkpoint(path)
    size = write(found, out)
    terminal.screen().say(f"shareable, {size / 2**20:.1f} MiB: {out}")


@app.command(name="import")
def import_weights(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="A file of weights, or timm:NAME where timm has fetched it before.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The checkpoint to write.")] = Path(
        "ckpt.pt"
    ),
    modality: Annotated[
        list[str] | None,
        typer.Option("--modality", help="To make it known to; again for more. Else all of medcoss's own that fit."),
    ] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option("--vocabulary", metavar="FILE", help="vocab.txt or JSON that its text was trained with."),
    ] = None,
    heads: Annotated[
        int | None, typer.Option("--heads", min=1, help="Of the attention; else 64 values a head.")
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Name every tensor that was taken, dropped or is random.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
    as_json: options.Json = False,
) -> None:
    """Make a checkpoint from the authors' MedCoSS file, Uni-Perceiver, a ViT of timm or MAE, or a stripped file.

    Example: medcoss checkpoint import checkpoint-299.pth -o ckpt.pt --vocabulary vocab.txt
    """
    from medcoss_cli.importers.convert import convert
    from medcoss_cli.store import checkpoint

    if out.exists() and not overwrite:
        raise UsageError("this file is there already", where=out, fix="name another with -o, or give --overwrite")
    screen = terminal.screen(as_json)
    made = convert(source, modality or [], vocabulary, heads, screen=screen)
    checkpoint.save(made.state.to_checkpoint(), out)
    facts = {
        "origin": made.origin,
        "checkpoint": str(out),
        "modalities": list(made.state.model.modalities),
        "taken": made.taken,
        "dropped": made.dropped,
        "random": made.random,
        "notes": made.notes,
    }
    if as_json:
        terminal.result_json(facts)
        return
    taken = {name for found in made.taken.values() for name in found}
    counts = ", ".join(f"{into} {len(found)}" for into, found in made.taken.items())
    screen.say(f"{made.origin}: {len(taken)} tensors taken ({counts}), {len(made.dropped)} dropped")
    screen.say(f"{len(made.random)} of the new checkpoint's are random" if made.random else "nothing of it is random")
    if names:
        rows = [[into, name] for into, found in made.taken.items() for name in found]
        rows += [["dropped", name] for name in made.dropped] + [["random", name] for name in made.random]
        screen.table("", ["into", "tensor"], _printable(rows))
    for note in made.notes:
        screen.warn(note)
    screen.say(f"knows {', '.join(made.state.model.modalities)}, holds no samples: {out}")
    screen.say(f"next: medcoss extend --modality NAME --from {out}, medcoss finetune RECIPE --from {out}")


def summary(known: Checkpoint) -> dict[str, Any]:
    """What `checkpoint show --json` prints."""
    from medcoss_cli.pretraining import retention

    buffer = {name: len(entry["integers"]) for name, entry in known.buffer.items()}
    probes = {name: len(entry["integers"]) for name, entry in known.probes.items()}
    held = {name: buffer.get(name, 0) + probes.get(name, 0) for name in known.modalities}
    several = ", ".join(f"{count} from {name}" for name, count in held.items())
    last = known.history[-1] if known.history else {}
    return {
        "private": f"Private: holds {sum(held.values())} real samples ({several or 'none'}); "
        "`medcoss checkpoint strip` makes a shareable file.",
        "encoder": known.encoder,
        "weights": sum(w.numel() for name, w in known.weights.items() if not name.startswith("decoders.")),
        "modalities": {
            name: {"distribution": "unknown", **facts, "buffer": buffer.get(name, 0), "probes": probes.get(name, 0)}
            for name, facts in known.modalities.items()
        },
        "tokenizers": known.tokenizers,
        "vocabularies": {key: _pieces(text) for key, text in known.vocabularies.items()},
        "stages": [_stage(entry, retention.lowest(known.history[: i + 1])) for i, entry in enumerate(known.history)],
        "history": known.history,
        "origin": next((entry["origin"] for entry in known.history if "origin" in entry), None),
        "lowest": retention.lowest(known.history),
        "memory": {name: sum(_values(entry)) for name, entry in known.memory.items()},
        "versions": {key: value for key, value in last.get("versions", {}).items() if key not in known.modalities},
    }


def _stage(entry: dict[str, Any], least: tuple[str, float] | None) -> dict[str, Any]:
    """One line of the table of stages; what an entry does not say is None, a loss of several modalities their mean."""
    from medcoss_cli.store.history import parts

    recipe = entry.get("recipe", {})
    stages = recipe.get("stages") or []
    own = stages[entry["stage"] - 1] if 0 < entry["stage"] <= len(stages) else {}
    found = [
        row["loss"] / (part.get("baseline") or 1.0)
        for name, part in parts(entry).items()
        if "loss" in (row := entry.get("retention", {}).get(name, {}))
    ]
    return {
        **{key: entry.get(key) for key in ("stage", "modality", "strategy", "train", "steps", "rehearsal_steps")},
        "epochs": own.get("epochs") or recipe.get("train", {}).get("epochs"),
        "loss": sum(found) / len(found) if found else None,
        "lowest": None if least is None else least[1],
    }


def _values(memory: Any) -> Iterator[int]:
    """How many numbers each tensor of a strategy's memory has."""
    if isinstance(memory, dict | list):
        for entry in memory.values() if isinstance(memory, dict) else memory:
            yield from _values(entry)
    elif hasattr(memory, "numel"):
        yield memory.numel()


def _pieces(text: str) -> int:
    """How many pieces a vocabulary has."""
    import json

    try:
        return len(json.loads(text)["model"]["vocab"])
    except (ValueError, KeyError, TypeError):
        return 0


def _cell(value: Any) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _printable(rows: list[list[str]]) -> list[list[str]]:
    """A stranger's file does not get to steer the terminal."""
    return [["".join(c if c.isprintable() else "?" for c in str(cell)) for cell in row] for row in rows]
