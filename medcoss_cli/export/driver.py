"""A checkpoint's encoder, a modality's features or a fine-tuned network as one ONNX file that is proved to be equal."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medcoss_cli.console import Screen
from medcoss_cli.errors import ExportError, UsageError
from medcoss_cli.export import graph, metadata, model_card, runtime, verify
from medcoss_cli.export.metadata import Description, hash_of, sha256
from medcoss_cli.export.requirements import needed
from medcoss_cli.export.samples import Samples, gather
from medcoss_cli.export.target import Exportable, encoder_alone, features_of, task_of
from medcoss_cli.finetuning.checkpoints import best_seed
from medcoss_cli.metrics.neighbours import agreement, neighbours
from medcoss_cli.model.outputs import Array
from medcoss_cli.pretraining.state import read_for
from medcoss_cli.store import atomic
from medcoss_cli.store.checkpoint import find_checkpoint


def export(
    source: Path | None,
    out: Path,
    *,
    modality: str | None,
    run: Path | None,
    seed: int | None,
    precision: str,
    opset: int | None,
    samples: Path | None,
    licence: str,
    screen: Screen,
) -> dict[str, Any]:
    """Write OUT (.onnx) and, beside it, its model card, the numbers of its proof, and the tokenizer where there are words.

    Args:
        source: a checkpoint; with `run` not needed.
        samples: a folder to prove it on; None: what the checkpoint holds, or the plugin's demo set.

    Returns: what --json prints. Raises: ExportError (exit 8) where it differs; nothing is then under the final name.
    """
    if out.suffix != ".onnx":
        raise UsageError("the file to write is an .onnx file", where=out, fix=f"name it {out.stem}.onnx")
    began = time.monotonic()
    one, shown, file = _chosen(source, modality, run, seed, samples, screen)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=atomic.PREFIX) as scratch:
            made = Path(scratch) / out.name
            one, rows = _proved(one, made, precision, opset, screen)
            found = _neighbours(one, shown, made, precision)
            about = _about(one, made, precision, licence, hash_of(file))
            graph.describe(made, about.to_text())
            facts = {
                "file": out.name,
                "bytes": sum(p.stat().st_size for p in Path(scratch).iterdir() if p.name.startswith(out.name)),
                "sha256": hash_of(made),
                "precision": precision,
                "against": "ONNX Runtime",
                "samples": shown.origin if shown else "tokens drawn at random",
                "tolerance": {"relative": verify.TOLERANCE[precision], "cosine": verify.COSINE[precision]},
                "rows": [row.to_plain() for row in rows],
                "neighbours": found,
                "seconds": round(time.monotonic() - began, 1),
            }
            _place(out, made, one, about, facts)
    except OSError as error:
        raise atomic.told(error, out) from error
    return facts


def _chosen(
    source: Path | None, modality: str | None, run: Path | None, seed: int | None, folder: Path | None, screen: Screen
) -> tuple[Exportable, Samples | None, Path]:
    """What is exported, what it is proved on, and the file it comes from."""
    if run is not None:
        if modality is not None or source is not None:
            raise UsageError("a run says itself what it is", where="--run", fix="leave CKPT and --modality out")
        one = best_seed(run, seed, screen)
        shown = gather(one.modality, folder, None, screen)
        return task_of(one, shown), shown, run / f"seed-{one.seed}" / "model.pt"
    file, said = find_checkpoint(source)
    if said:
        screen.say(said)
    state = read_for(file, modality, screen)
    if modality is None:
        return encoder_alone(state), None, file
    chosen = state.model.modalities[modality]
    shown = gather(chosen, folder, state.buffer.get(modality), screen)
    return features_of(state, chosen, shown), shown, file


def _proved(
    one: Exportable, made: Path, precision: str, opset: int | None, screen: Screen
) -> tuple[Exportable, list[verify.Row]]:
    """Written and compared; with fixed axes, said aloud, where changing ones cannot be traced or proved."""
    try:
        return one, _write(one, made, precision, opset)
    except ExportError as error:
        if one.steps is None or one.tokens:
            raise
        screen.warn(f"with axes that change: {error.what}; they are fixed at {' x '.join(map(str, one.size))}")
    fixed = one.fixed()
    return fixed, _write(fixed, made, precision, opset)


def _write(one: Exportable, made: Path, precision: str, opset: int | None) -> list[verify.Row]:
    import onnx

    plain = made.with_name(f"plain-{made.name}") if precision != "fp32" else made
    traced = [torch.from_numpy(part) for part in one.batch(2, one.size)]
    graph.trace(one.network, traced, one.dynamic(), one.names, plain, opset)
    if plain != made:
        graph.convert(plain, made, precision)
    onnx.checker.check_model(str(made))
    try:
        there = runtime.opened(made)
    except Exception as error:  # onnxruntime has a class of its own for each kind of refusal
        raise ExportError(
            f"this onnxruntime cannot compute it in {precision} ({str(error).splitlines()[0][:200]})",
            fix="export with --precision fp32, or where another onnxruntime is installed",
        ) from error
    here = _torch(one)
    rows = [
        verify.compare(here, lambda *inputs: there.run(None, _named(there, inputs)), one.batch(count, size), size)
        for place, size in enumerate(one.sizes())
        for count in (verify.BATCHES if place == 0 else (1, 2))
    ]
    verify.judge(rows, precision)
    return rows


def _torch(one: Exportable) -> Callable[..., list[Array]]:
    network = one.network.cpu().eval()

    @torch.no_grad()
    def run(*inputs: Array) -> list[Array]:
        found = network(*(torch.from_numpy(part) for part in inputs))
        return [part.float().numpy() for part in (found if isinstance(found, tuple) else (found,))]

    return run


def _named(there: Any, inputs: tuple[Array, ...]) -> dict[str, Array]:
    return dict(zip([entry.name for entry in there.get_inputs()], inputs, strict=True))


def _neighbours(one: Exportable, shown: Samples | None, made: Path, precision: str) -> dict[str, float] | None:
    """Nearest-neighbour accuracy of both, where labels are known; int8 may lose half a point."""
    if shown is None or shown.labels is None or one.about["kind"] != "features":
        return None
    there, here = runtime.opened(made), _torch(one)
    inputs = shown.inputs[: len(shown.labels)]
    chunks = [inputs[i : i + 16] for i in range(0, len(inputs), 16)]
    runs: dict[str, Callable[..., list[Array]]] = {
        "torch": here,
        "onnx": lambda chunk: there.run(None, _named(there, (chunk,))),
    }
    shares = {}
    for name, run in runs.items():
        nearest, _ = neighbours(np.concatenate([run(chunk)[-1] for chunk in chunks]), 1, shown.groups)
        shares[name] = agreement(nearest, shown.labels)
    if precision == "int8":
        verify.judge_neighbours(shares["torch"], shares["onnx"])
    return shares


def _about(one: Exportable, made: Path, precision: str, licence: str, checkpoint: str) -> Description:
    import onnx

    axes, sizes = one.axes()
    about = Description(
        **one.about,
        precision=precision,
        opset=onnx.load(made, load_external_data=False).opset_import[0].version,
        axes=axes,
        sizes=sizes,
        checkpoint=checkpoint,
        licence=licence,
        vocabulary=sha256(one.words.encode()) if one.words else None,
    )
    versions = {**about.versions, "onnx": version("onnx"), "onnxruntime": version("onnxruntime")}
    kind = about.task["kind"] if about.task is not None else None
    packages = needed(about.modality, kind) if about.modality else ["numpy", "onnxruntime"]
    return replace(about, versions=versions, packages=packages)


def _place(out: Path, made: Path, one: Exportable, about: Description, facts: dict[str, Any]) -> None:
    """Everything under its final name, the ONNX file last."""
    if one.words is not None:
        atomic.write(metadata.words_beside(out), one.words.encode())
    atomic.write(metadata.proof_beside(out), json.dumps(facts, indent=1).encode())
    atomic.write(
        metadata.card_beside(out), model_card.write(about, facts, out.name, model_card.use(about, out.name)).encode()
    )
    large = made.with_name(made.name + ".data")
    if large.exists():
        large.chmod(made.stat().st_mode)  # some libraries make it for its owner alone
        large.replace(out.with_name(large.name))
    made.replace(out)
