"""Intra-modal mixup of rehearsal batches (Ye et al. 2024, sec. 3.3.2). N samples, L tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def mix_words(ids: Tensor, partner: Tensor, draw: Tensor, threshold: Tensor) -> Tensor:
    """Each token comes from one of two samples (eq. 1); padding goes along, so the attention mask is mixed alike.

    Args:
        ids, partner: (N, L) int64.
        draw: (N, L) uniform in [0, 1).
        threshold: one number for the whole batch, uniform in [0, 1).
    """
    return torch.where(draw < threshold, ids, partner)


def mix_images(images: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Each sample is a weighted mean of two (eq. 2): (N, C, *size) twice and weights (N,) uniform in [0, 1)."""
    weight = weight.view(-1, *(1 for _ in images.shape[1:]))
    return weight * images + (1 - weight) * partner
