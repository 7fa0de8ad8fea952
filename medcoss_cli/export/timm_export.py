"""A 2D encoder as a safetensors file that plain timm loads, proved to give the same features."""

from __future__ import annotations

import json
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save

from medcoss_cli.console import Screen
from medcoss_cli.errors import UsageError
from medcoss_cli.export import metadata, model_card, timm_vit, verify
from medcoss_cli.export.metadata import Description, hash_of
from medcoss_cli.export.samples import gather
from medcoss_cli.export.target import features_of
from medcoss_cli.model.outputs import Array
from medcoss_cli.pretraining.state import read_for
from medcoss_cli.store import atomic
from medcoss_cli.store.checkpoint import find_checkpoint


def export_timm(
    source: Path | None, out: Path, *, modality: str | None, samples: Path | None, licence: str, screen: Screen
) -> dict[str, Any]:
    """Write OUT (.safetensors), its model card and the numbers of its proof.

    Returns: what --json prints. Raises: ExportError (exit 8) where it differs; nothing is then under the final name.
    """
    if out.suffix != ".safetensors":
        raise UsageError("the file to write is a .safetensors file", where=out, fix=f"name it {out.stem}.safetensors")
    if modality is None:
        raise UsageError("a ViT of timm has one tokenizer", where="--modality", fix="name a modality of images")
    began = time.monotonic()
    file, said = find_checkpoint(source)
    if said:
        screen.say(said)
    state = read_for(file, modality, screen)
    model, known = state.model.cpu().eval(), state.model.modalities[modality]
    arguments = timm_vit.arguments(model, modality)
    shown = gather(known, samples, state.buffer.get(modality), screen)
    ours = features_of(state, known, shown)
    about = Description(
        **ours.about,
        precision="fp32",
        opset=None,
        axes=["batch", "channel", "height", "width"],
        sizes=["any", 3, *known.size],
        checkpoint=hash_of(file),
        licence=licence,
    )
    about.versions["timm"] = version("timm")
    tensors, lower = timm_vit.weights(model, modality)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=atomic.PREFIX) as scratch:
            made = Path(scratch) / out.name
            atomic.write(made, save(tensors, {metadata.KEY: about.to_text()}))
            there = timm.create_model(timm_vit.NAME, checkpoint_path=str(made), **arguments).eval()

            def here(inputs: Array) -> list[Array]:
                with torch.no_grad():
                    return [part.numpy() for part in ours.network(torch.from_numpy(inputs))]

            def timms(inputs: Array) -> list[Array]:
                three = torch.from_numpy(inputs).expand(-1, 3, -1, -1)  # grey is repeated, as our tokenizer does
                with torch.no_grad():
                    found = there.forward_features(three)
                    found[:, 0] += lower
                    return [found.numpy(), there(three).numpy()]

            rows = [verify.compare(here, timms, [shown.inputs[:count]], known.size) for count in verify.BATCHES]
            verify.judge(rows, "fp32")
            facts = {
                "file": out.name,
                "bytes": made.stat().st_size,
                "sha256": hash_of(made),
                "precision": "fp32",
                "against": "timm",
                "samples": shown.origin,
                "tolerance": {"relative": verify.TOLERANCE["fp32"], "cosine": verify.COSINE["fp32"]},
                "rows": [row.to_plain() for row in rows],
                "neighbours": None,
                "seconds": round(time.monotonic() - began, 1),
            }
            atomic.write(metadata.proof_beside(out), json.dumps(facts, indent=1).encode())
            text = model_card.write(about, facts, out.name, _use(out.name, arguments, lower))
            atomic.write(metadata.card_beside(out), text.encode())
            atomic.write(out, made.read_bytes())
    except OSError as error:
        raise atomic.told(error, out) from error
    return facts


def _use(name: str, arguments: dict[str, Any], lower: float) -> list[str]:
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return [
        "```python",
        "import timm",
        f'model = timm.create_model("{timm_vit.NAME}", checkpoint_path="{name}", {given})',
        "pooled = model.eval()(images)  # (N, 3, H, W), grey repeated, values as above, to the pooled feature (N, D)",
        "tokens = model.forward_features(images)  # (N, 1 + L, D), the cls token first",
        "```",
        "",
        f"All is as medcoss gives it, but the cls token's features: they lack {lower:.3g} in every value alike.",
    ]
