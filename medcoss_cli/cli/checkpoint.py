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
    help="Show, strip or import checkpoints.\n\nExample: medcoss checkpoint show runs/mini",
)

File = Annotated[Path, typer.Argument(metavar="CKPT", help="A ckpt.pt, or a run's folder.")]


@app.command(name="show")
def show_checkpoint(path: File, as_json: options.Json = False) -> None:
    """Show the contents of a checkpoint, private parts first.

    Example: medcoss checkpoint show runs/mini/ckpt.pt
    """
    from medcoss_cli.store import checkpoint

    file, _ = checkpoint.find_checkpoint(path)
    content = checkpoint.load(file)
    facts = summary(content)
    if as_json:
        terminal.result_json(facts)
        return
    screen = terminal.screen()
    encoder = content.encoder
    terminal.result(facts["private"])
    terminal.result(
        f"Encoder {encoder['width']} x {encoder['depth']}, {encoder['heads']} heads, "
        f"{facts['weights'] / 1e6:.1f} million parameters"
    )
    rows = [
        [name, " x ".join(map(str, m["size"])), m["tokenizer"], str(m["buffer"]), str(m["anchors"]), m["distribution"]]
        for name, m in facts["modalities"].items()
    ]
    screen.table("", ["modality", "size", "tokenizer", "buffer", "anchors", "plugin"], _printable(rows))
    columns = [
        "stage",
        "modality",
        "strategy",
        "trained on",
        "epochs",
        "steps",
        "of them old",
        "loss",
        "least remembered",
    ]
    keys = ("stage", "modality", "strategy", "train", "epochs", "steps", "rehearsal_steps", "loss", "lowest")
    rows = [["" if s[key] is None else _cell(s[key]) for key in keys] for s in facts["stages"]]
    screen.table("", columns, _printable(rows))
    if facts["origin"] is not None:
        terminal.result("Begun from " + "".join(c for c in str(facts["origin"]) if c.isprintable()))
    terminal.result("loss: on its own anchors when the stage was done, 1 is predicting the mean")
    for key, words in facts["vocabularies"].items():
        terminal.result(f"Vocabulary {key}: {words} pieces")
    for name, values in facts["memory"].items():
        terminal.result(_printable([[f"Memory of the strategy {name}: {values:,} values"]])[0][0])
    if facts["lowest"] is not None:
        terminal.result(f"Least remembered: {facts['lowest'][0]}, {facts['lowest'][1]:.3f}")
    if facts["versions"]:
        terminal.result("Written with " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))


@app.command()
def strip(
    path: File,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, such as encoder.safetensors.")],
) -> None:
    """Write the shareable part: encoder, tokenizers, vocabulary, history; no sample, name or path.

    Example: medcoss checkpoint strip runs/mini/ckpt.pt encoder.safetensors
    """
    from medcoss_cli.importers.shareable import strip as write
    from medcoss_cli.store import checkpoint

    file, _ = checkpoint.find_checkpoint(path)
    size = write(file, out)
    terminal.screen().say(f"shareable, {size / 2**20:.1f} MiB: {out}")


@app.command(name="import")
def import_weights(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="File of weights, or timm:NAME from timm's download cache.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Checkpoint to write.")] = Path("ckpt.pt"),
    modality: Annotated[
        list[str] | None,
        typer.Option(
            "--modality",
            help="Modality that uses these weights; repeat for more (default: all of medcoss's own that fit).",
        ),
    ] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            "--vocabulary", metavar="FILE", help="The vocab.txt or JSON vocabulary the weights were trained with."
        ),
    ] = None,
    heads: Annotated[
        int | None, typer.Option("--heads", min=1, help="Number of attention heads (default: width / 64).")
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="List every tensor that was loaded, dropped or left random.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: options.Json = False,
) -> None:
    """Make a checkpoint from the authors' MedCoSS file, Uni-Perceiver, a ViT of timm or MAE, or a stripped file.

    Example: medcoss checkpoint import checkpoint-299.pth -o ckpt.pt --vocabulary vocab.txt
    """
    from medcoss_cli.importers.convert import convert
    from medcoss_cli.store import checkpoint

    if out.exists() and not overwrite:
        raise UsageError("this file already exists", where=out, fix="name another with -o, or give --overwrite")
    screen = terminal.screen(as_json)
    converted = convert(source, modality or [], vocabulary, heads, screen=screen)
    checkpoint.save(converted.state.to_checkpoint(), out)
    facts = {
        "origin": converted.origin,
        "checkpoint": str(out),
        "modalities": list(converted.state.model.modalities),
        "taken": converted.taken,
        "dropped": converted.dropped,
        "random": converted.random,
        "notes": converted.notes,
    }
    if as_json:
        terminal.result_json(facts)
        return
    tensors = {name for parts in converted.taken.values() for name in parts}
    counts = ", ".join(f"{group} {len(parts)}" for group, parts in converted.taken.items())
    screen.say(f"{converted.origin}: {len(tensors)} tensors taken ({counts}), {len(converted.dropped)} dropped")
    screen.say(
        f"{len(converted.random)} of the new checkpoint's are random" if converted.random else "nothing of it is random"
    )
    if names:
        rows = [[group, name] for group, parts in converted.taken.items() for name in parts]
        rows += [["dropped", name] for name in converted.dropped] + [["random", name] for name in converted.random]
        screen.table("", ["into", "tensor"], _printable(rows))
    for note in converted.notes:
        screen.warn(note)
    screen.say(f"knows {', '.join(converted.state.model.modalities)}, holds no samples: {out}")
    screen.say(f"next: medcoss extend --modality NAME --from {out}, medcoss finetune RECIPE --from {out}")


def summary(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `checkpoint show --json` prints."""
    from medcoss_cli.pretraining import retention

    buffer = {name: len(entry["integers"]) for name, entry in checkpoint.buffer.items()}
    anchors = {name: len(entry["integers"]) for name, entry in checkpoint.anchors.items()}
    counts = {name: buffer.get(name, 0) + anchors.get(name, 0) for name in checkpoint.modalities}
    listing = ", ".join(f"{count} from {name}" for name, count in counts.items())
    last = checkpoint.history[-1] if checkpoint.history else {}
    return {
        "private": f"Private: holds {sum(counts.values())} real samples ({listing or 'none'}); "
        "`medcoss checkpoint strip` makes a shareable file.",
        "encoder": checkpoint.encoder,
        "weights": sum(w.numel() for name, w in checkpoint.weights.items() if not name.startswith("decoders.")),
        "modalities": {
            name: {"distribution": "unknown", **facts, "buffer": buffer.get(name, 0), "anchors": anchors.get(name, 0)}
            for name, facts in checkpoint.modalities.items()
        },
        "tokenizers": checkpoint.tokenizers,
        "vocabularies": {key: _pieces(text) for key, text in checkpoint.vocabularies.items()},
        "stages": [
            _stage(entry, retention.lowest(checkpoint.history[: i + 1])) for i, entry in enumerate(checkpoint.history)
        ],
        "history": checkpoint.history,
        "origin": next((entry["origin"] for entry in checkpoint.history if "origin" in entry), None),
        "lowest": retention.lowest(checkpoint.history),
        "memory": {name: sum(_values(entry)) for name, entry in checkpoint.memory.items()},
        "versions": {key: value for key, value in last.get("versions", {}).items() if key not in checkpoint.modalities},
    }


def _stage(entry: dict[str, Any], lowest: tuple[str, float] | None) -> dict[str, Any]:
    """One line of the table of stages; what an entry does not say is None, a loss of several modalities their mean."""
    from medcoss_cli.store.history import parts

    recipe = entry.get("recipe", {})
    stages = recipe.get("stages") or []
    settings = stages[entry["stage"] - 1] if 0 < entry["stage"] <= len(stages) else {}
    losses = [
        row["loss"] / (part.get("baseline") or 1.0)
        for name, part in parts(entry).items()
        if "loss" in (row := entry.get("retention", {}).get(name, {}))
    ]
    return {
        **{key: entry.get(key) for key in ("stage", "modality", "strategy", "train", "steps", "rehearsal_steps")},
        "epochs": settings.get("epochs") or recipe.get("train", {}).get("epochs"),
        "loss": sum(losses) / len(losses) if losses else None,
        "lowest": None if lowest is None else lowest[1],
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
    from medcoss_cli.store import typed

    try:
        return len(typed.loads(text)["model"]["vocab"])
    except (ValueError, KeyError, TypeError):
        return 0


def _cell(value: Any) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _printable(rows: list[list[str]]) -> list[list[str]]:
    """A stranger's file does not get to steer the terminal."""
    return [["".join(c if c.isprintable() else "?" for c in str(cell)) for cell in row] for row in rows]
