"""CaSSLe (Fini et al., CVPR 2022): features of new data are kept predictive of what the encoder before the stage makes of them.

The loss is L_mim + lambda D(g(z_t), z_(t-1)), both of the same view under the same mask; no old data is used. The predictor
g leaves the encoder free to learn what the old features lack.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medcoss_cli.model.batch import Batch
from medcoss_cli.model.encoder import initialise
from medcoss_cli.model.losses import feature_distance
from medcoss_cli.model.multimodal import Model
from medcoss_cli.randomness import generator, seeded
from medcoss_cli.strategies import Loss, Losses, StageInfo, Strategy

HIDDEN = 2048
"""Width of the predictor's hidden layer, as in the source."""
WEIGHTS = {"mse": 25.0, "cosine": 1.0}
"""lambda of each distance, as in the source."""


class CaSSLe(Strategy):
    """New data is reconstructed and distilled through a predictor; nothing is rehearsed.

    A tokenizer that the stage brings is random in the encoder before, so its data is not distilled; `memory` records
    the lambda of every stage and modality.
    """

    class Settings(Strategy.Settings):
        """How the features are compared."""

        distance: Literal["mse", "cosine"] = Field("mse", description="squared distance, or 1 - cosine")
        weight: float | None = Field(None, ge=0, description="lambda; null: 25 for mse, 1 for cosine")
        norm: Literal["batch", "layer"] = Field(
            "layer", description="of the predictor; batch, as in the source: over the tokens of a micro-batch on a rank"
        )

    settings: Settings
    plain_first_stage = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.record: dict[str, dict[str, float]] = {}  # lambda by stage and modality

    def begin_stage(self, model: Model, stage: StageInfo) -> None:
        setting = self.settings.weight
        weight = WEIGHTS[self.settings.distance] if setting is None else setting
        earlier = {m.tokenizer.key for name, m in model.modalities.items() if name not in stage.new}
        keys = {name: model.modalities[name].tokenizer.key for name in stage.modalities}
        self.weights = {name: weight if stage.number > 1 and key in earlier else 0.0 for name, key in keys.items()}
        self.record = {**self.record, str(stage.number): self.weights}
        self.predictor: nn.Module = nn.Module()  # without parameters
        if any(self.weights.values()):
            self.teacher = copy.deepcopy(model).eval().requires_grad_(False)  # rebuilt the same when resumed
            del self.teacher.decoders
            key = (model.seed, "weights", "predictor", stage.number)
            with seeded(*key):  # what torch draws while it builds is not kept, but would move the global generator
                self.predictor = predictor(model.shape.width, self.settings.norm)
            initialise(self.predictor, generator(*key))
            self.predictor.to(model.encoder.cls.device)

    def parameters(self, model: Model) -> Iterator[tuple[str, nn.Parameter]]:
        yield from model.named_parameters()
        yield from self.predictor.named_parameters(prefix="predictor")

    def loss(self, model: Model, batch: Batch) -> Losses:
        weight = self.weights[batch.modality]
        if weight == 0:
            return model.masked_loss(batch)
        inputs, keep, targets = model.hide(batch)
        student = model.encode(batch.modality, inputs, keep, model.dropped(batch))  # once, for both terms
        reconstruction = model.decoder(batch.modality).loss(student, targets, batch.inputs)
        with torch.no_grad():
            teacher = self.teacher.encode(batch.modality, inputs, keep)
        valid = model.valid(batch.modality, inputs, keep)
        if valid is not None:  # batch norm must not see padding
            student, teacher = student[valid], teacher[valid]
        value, count = self.distance(self.predictor(student.flatten(0, -2)), teacher.flatten(0, -2))
        return [reconstruction, (weight * value, count)]

    def distance(self, predicted: Tensor, teacher: Tensor) -> Loss:
        """D(g(z_t), z_(t-1)) of (M, D) tokens, cls among them: the sum over tokens, and M."""
        if self.settings.distance == "mse":
            return feature_distance(predicted, teacher)
        return (1 - F.cosine_similarity(predicted.float(), teacher.detach().float(), dim=-1)).sum(), len(teacher)

    def memory(self) -> dict[str, Any]:
        return {"weights": self.record}

    def load_memory(self, memory: dict[str, Any]) -> None:
        self.record = dict(memory["weights"])

    def state(self) -> dict[str, Any]:
        return self.predictor.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        self.predictor.load_state_dict(state)


def predictor(width: int, norm: Literal["batch", "layer"]) -> nn.Sequential:
    """g: (M, D) to (M, D)."""
    middle = nn.BatchNorm1d(HIDDEN) if norm == "batch" else nn.LayerNorm(HIDDEN)
    return nn.Sequential(nn.Linear(width, HIDDEN), middle, nn.ReLU(), nn.Linear(HIDDEN, width))
