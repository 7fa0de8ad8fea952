"""MedCoSS (Ye et al., CVPR 2024): Algorithm 1, lines 10 to 14."""

from __future__ import annotations

import copy
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from medcoss_cli.model.batch import Batch
from medcoss_cli.model.losses import feature_distance
from medcoss_cli.model.multimodal import Model
from medcoss_cli.strategies import Losses, StageInfo
from medcoss_cli.strategies.er import ExperienceReplay


class MedCoSS(ExperienceReplay):
    """New data is reconstructed, old data is distilled from the model before this stage; or replayed, as Table 3 does."""

    class Settings(ExperienceReplay.Settings):
        """Which parts of the method are in use."""

        distill: bool = Field(True, description="feature distillation of old data; false: masked modelling, as in er")
        mixup: bool | None = Field(
            None, description="intra-modal mixup of rehearsal batches; null: where they are distilled"
        )

        @model_validator(mode="after")
        def effective(self) -> Self:
            """A setting that would have no effect is refused."""
            if self.mixup and not self.distill:
                raise ValueError("mixup has no effect with distill: false; leave it out")
            if self.distill and self.decoders == "kept":
                raise ValueError("decoders has no effect with distill: true, which decodes no old data; leave it out")
            return self

    settings: Settings
    selection: Literal["kmeans", "random"] = "kmeans"

    @property
    def partners(self) -> bool:
        return self.settings.distill and self.settings.mixup is not False

    def begin_stage(self, model: Model, stage: StageInfo) -> None:
        if not self.settings.distill:
            super().begin_stage(model, stage)
            return
        self.decoders = nn.ModuleDict()  # none is replayed
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)  # M_(i-1), rebuilt the same when resumed
        del self.teacher.decoders

    def loss(self, model: Model, batch: Batch) -> Losses:
        if batch.new or not self.settings.distill:
            return super().loss(model, batch)  # L_mim: encoder, tokenizer, decoder
        mixed = batch.mixup()  # eq. 1 for words, eq. 2 for images
        student, valid = model.features(mixed)  # L_fd: encoder and tokenizer only
        with torch.no_grad():
            teacher, _ = self.teacher.features(mixed)  # same batch key, so the same mask
        return feature_distance(student, teacher, valid)
