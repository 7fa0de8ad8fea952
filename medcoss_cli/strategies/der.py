"""Dark experience replay (Buzzega et al., NeurIPS 2020), with the encoder's output tokens in the place of logits.

L_mim(new) + alpha mean (z_theta(view) - z)^2, on samples stored at the end of their own stage together with what the encoder
saw of them and the tokens z that it made of that. A stored z means nothing under another mask, so the mask is stored, too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from medcoss_cli.errors import CheckpointError
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.losses import feature_distance
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import TokenNetwork
from medcoss_cli.randomness import generator
from medcoss_cli.strategies import Loss, Losses, Samples, StageInfo, Strategy, check_tensors, terms

CHUNK = 32  # samples that are stored at a time

Stored = Mapping[str, Any]
"""Samples of one modality and stage: modality, inputs (n, ...), keep (n, K) or hidden (n, L), tokens (n, T, D) in fp16."""


class DER(Strategy):
    """Every step on new data also pulls the encoder's tokens of stored samples to what they were at the end of their stage.

    Samples are drawn at random at the end of a stage, as many as `rehearsal.ratio` says, and stored without augmentation
    in fp16 (ViT-B, 224 x 224 x 3: 300 KB, and 77 KB of tokens); z is computed on what is stored. A step's draw is of one
    modality, in proportion to what is stored, and as large as the step's batch. `rehearsal.share` has no part in it.
    """

    class Settings(Strategy.Settings):
        """How strong the pull is."""

        alpha: float = Field(0.5, ge=0, description="weight of the distance to the stored tokens")

    settings: Settings
    plain_first_stage = True
    selection: Literal["kmeans", "random"] = "random"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.stored: list[Stored] = []

    def begin_stage(self, model: Model, stage: StageInfo) -> None:
        """Raises: CheckpointError where earlier stages stored nothing."""
        self.stage = stage
        if stage.number > 1 and not self.stored:
            raise CheckpointError(
                "the checkpoint has no stored tokens: its stages were not trained with this strategy, or with rehearsal.ratio=0",
                fix="train them with it, or choose another strategy",
            )

    def loss(self, model: Model, batch: Batch) -> Losses:
        return [*terms(model.masked_loss(batch)), *self.replayed(model, batch)]

    def replayed(self, model: Model, batch: Batch) -> Iterator[Loss]:
        """The terms on stored samples; none in the first stage."""
        if self.stored:
            stored, rows = self.drawn(batch, "replay")
            modality, device = stored["modality"], batch.inputs.device
            seen = stored["inputs" if "keep" in stored else "hidden"][rows].to(device)
            keep = stored["keep"][rows].long().to(device) if "keep" in stored else None
            inputs = given(seen)
            value, count = feature_distance(
                model.encode(modality, inputs, keep),
                stored["tokens"][rows].to(device),
                model.valid(modality, inputs, keep),
            )
            yield self.settings.alpha * value, count

    def drawn(self, batch: Batch, purpose: str) -> tuple[Stored, Tensor]:
        """Stored samples of one modality, and which of them come with this part of the batch.

        Drawn for the whole global batch from its key and cut to the part, so that ranks and micro-batches make up one draw.
        """
        draw = generator(*batch.key, purpose)
        sizes = torch.tensor([len(part["tokens"]) for part in self.stored], dtype=torch.float64)
        stored = self.stored[int(torch.multinomial(sizes, 1, generator=draw))]
        n = len(stored["tokens"])
        few = n < batch.total
        rows = torch.randint(n, (batch.total,), generator=draw) if few else torch.randperm(n, generator=draw)
        return stored, rows[: batch.total][batch.rows]

    def end_stage(self, model: Model, samples: Samples) -> None:
        parts: dict[str, list[dict[str, Tensor]]] = {}
        for batch in samples(self.stage.kept, batch=CHUNK) if self.stage.kept else ():
            parts.setdefault(batch.modality, []).append(stored_outputs(model, batch))
        for modality, chunks in parts.items():
            joined = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
            self.stored = [*self.stored, {"modality": modality, **joined}]

    def memory(self) -> dict[str, Any]:
        return {"stored": [dict(part) for part in self.stored]}

    def load_memory(self, memory: dict[str, Any]) -> None:
        self.stored = list(memory["stored"])

    def check_memory(self, model: Model) -> None:
        for part in self.stored:
            check_stored(part, model)


@torch.no_grad()
def stored_outputs(model: Model, batch: Batch) -> dict[str, Tensor]:
    """What is kept of samples: inputs, the mask, and the tokens z (n, T, D) of what the mask leaves."""
    if batch.inputs.is_floating_point():  # z belongs to the view as it is stored
        batch = replace(batch, inputs=batch.inputs.half().float())
    seen, keep, _ = model.hide(batch)
    tokens = model.encode(batch.modality, seen, keep).half().cpu()
    if keep is not None:
        return {"inputs": batch.inputs.half().cpu(), "keep": keep.int().cpu(), "tokens": tokens}
    return {"inputs": batch.inputs.int().cpu(), "hidden": seen.int().cpu(), "tokens": tokens}


def given(stored: Tensor) -> Tensor:
    """Stored inputs in the precision that the model takes."""
    return stored.float() if stored.is_floating_point() else stored.long()


@torch.no_grad()
def check_stored(part: Stored, model: Model) -> None:
    """Raises: ValueError, KeyError, IndexError or RuntimeError for stored samples that are not of the model's modality.

    On the CPU, where an index out of range is an exception: the rows with the smallest and the largest ones stand for all.
    """
    modality = model.modalities[part["modality"]]
    words = modality.text_tokenizer is not None
    forms = {"inputs": torch.int32, "hidden": torch.int32} if words else {"inputs": torch.float16, "keep": torch.int32}
    forms["tokens"] = torch.float16
    if part.keys() != {"modality", *forms}:
        raise ValueError(f"the stored samples of {modality.name} have other parts")
    check_tensors({name: part[name] for name in forms}, {})
    if any(part[name].dtype != dtype for name, dtype in forms.items()):
        raise ValueError(f"the stored samples of {modality.name} are of another precision")
    if len({len(part[name]) for name in forms}) > 1 or not part["tokens"].numel():
        raise ValueError(f"the stored samples of {modality.name} are none, or of different numbers")
    network = cast(TokenNetwork, copy.deepcopy(model.tokenizer(modality.name)).cpu())
    for name in ("inputs", "hidden") if words else ("keep",):
        indices = part[name].flatten(1)
        rows = torch.stack([indices.amin(1).argmin(), indices.amax(1).argmax()])
        tokens = network.embed(*[given(part[n][rows]) for n in (("inputs", "keep") if name == "keep" else (name,))])
        shape = (tokens.shape[1] + int(modality.tokenizer.spec.cls), tokens.shape[2])
        if part["tokens"].shape[1:] != shape:
            raise ValueError(f"the stored tokens of {modality.name} have another shape")
