"""DER++ (Buzzega et al., NeurIPS 2020): dark experience replay, and the pretext on stored samples besides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from medcoss_cli.model.batch import Batch
from medcoss_cli.model.multimodal import Model
from medcoss_cli.strategies import Loss, StageInfo
from medcoss_cli.strategies.der import DER, given
from medcoss_cli.strategies.er import check_decoders, replay_decoders


class DERpp(DER):
    """DER's loss + beta L_mim of a second, independent draw of stored samples, under fresh masks."""

    class Settings(DER.Settings):
        """How strong both terms are, and what decodes stored samples."""

        beta: float = Field(0.5, ge=0, description="weight of the pretext on stored samples")
        decoders: Literal["fresh", "kept"] = Field(
            "fresh", description="decoders of stored samples: random in every stage, or carried on; as in er"
        )

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.carried: dict[str, dict[str, Any]] = {}

    def begin_stage(self, model: Model, stage: StageInfo) -> None:
        super().begin_stage(model, stage)
        old = dict.fromkeys(part["modality"] for part in self.stored)
        self.decoders = replay_decoders(
            model, old, stage.number, self.carried if self.settings.decoders == "kept" else None
        )

    def parameters(self, model: Model) -> Iterator[tuple[str, nn.Parameter]]:
        yield from model.named_parameters()
        yield from self.decoders.named_parameters(prefix="replay")

    def replayed(self, model: Model, batch: Batch) -> Iterator[Loss]:
        yield from super().replayed(model, batch)
        if self.stored:
            stored, rows = self.drawn(batch, "second replay")
            inputs = given(stored["inputs"][rows].to(batch.inputs.device))
            key = (*batch.key, "second replay")
            second = Batch(stored["modality"], False, inputs, None, batch.rows, batch.total, key)
            value, count = model.masked_loss(second, self.decoders[second.modality])
            yield self.settings.beta * value, count

    def memory(self) -> dict[str, Any]:
        if self.settings.decoders == "fresh":
            return super().memory()
        self.carried |= {name: dict(decoder.state_dict()) for name, decoder in self.decoders.items()}
        return {**super().memory(), "decoders": self.carried}

    def load_memory(self, memory: dict[str, Any]) -> None:
        super().load_memory(memory)
        self.carried = dict(memory.get("decoders", {}))

    @torch.no_grad()
    def check_memory(self, model: Model) -> None:
        super().check_memory(model)
        check_decoders(self.carried, model)
        for part in self.stored:  # is a decoder for samples of this size?
            inputs = given(part["inputs"][:1].to(model.encoder.cls.device))
            model.masked_loss(Batch(part["modality"], False, inputs, None, slice(1), 1, ("check",)))

    def state(self) -> dict[str, Any]:
        return self.decoders.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        self.decoders.load_state_dict(state)
