"""MedCoSS (Ye et al., CVPR 2024): Algorithm 1, lines 10 to 14."""

from __future__ import annotations

import copy

import torch

from medcoss_cli.model.batch import Batch
from medcoss_cli.model.losses import feature_distance
from medcoss_cli.model.multimodal import Model
from medcoss_cli.strategies import Loss, Strategy


class MedCoSS(Strategy):
    """New data is reconstructed, old data is distilled from the model before this stage."""

    def begin_stage(self, model: Model) -> None:
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)  # M_(i-1), rebuilt the same when resumed
        del self.teacher.decoders

    def loss(self, model: Model, batch: Batch) -> Loss:
        if batch.new:
            return model.masked_loss(batch)  # L_mim: encoder, tokenizer, decoder
        mixed = batch.mixup()  # eq. 1 for words, eq. 2 for images
        student, valid = model.features(mixed)  # L_fd: encoder and tokenizer only
        with torch.no_grad():
            teacher, _ = self.teacher.features(mixed)  # same batch key, so the same mask
        return feature_distance(student, teacher, valid)
