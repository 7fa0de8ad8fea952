"""What a step of pre-training is computed on: one modality's samples, with every random draw keyed by the step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medcoss_cli.model.mixup import mix_images, mix_words
from medcoss_cli.randomness import generator


@dataclass(frozen=True)
class Batch:
    """A rank's part of one global batch, all of one modality. n rows of this part, N of the whole.

    `inputs` is (n, C, *size) float32 in the encoder's range, or (n, L) int64 ids; `partner` are the samples to mix with.
    """

    modality: str
    new: bool
    inputs: Tensor
    partner: Tensor | None
    rows: slice
    total: int
    key: tuple[int | str, ...]

    def draw(self, purpose: str, *shape: int) -> Tensor:
        """Uniform [0, 1) numbers (n, *shape): this part's rows of a draw made for all N."""
        numbers = torch.rand(self.total, *shape, generator=generator(*self.key, purpose))
        return numbers[self.rows].to(self.inputs.device)

    def mixup(self) -> Batch:
        """Intra-modal mixup with the partners: eq. 1 for words, eq. 2 for images. Without partners, the batch as it is."""
        if self.partner is None:
            return self
        if self.inputs.is_floating_point():
            return replace(self, inputs=mix_images(self.inputs, self.partner, self.draw("mix")), partner=None)
        threshold = torch.rand((), generator=generator(*self.key, "threshold")).to(self.inputs.device)
        mixed = mix_words(self.inputs, self.partner, self.draw("mix", self.inputs.shape[1]), threshold)
        return replace(self, inputs=mixed, partner=None)
