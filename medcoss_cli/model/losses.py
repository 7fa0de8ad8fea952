"""The losses of the paper. Each is a sum and a count, so that ranks and micro-batches add up to the same mean.

N samples, L tokens, V values of a patch, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def normalise_patches(patches: Tensor) -> Tensor:
    """Each patch to zero mean and unit variance (n - 1, over V): (..., V) to (..., V). A constant patch becomes 0."""
    variance, mean = torch.var_mean(patches.float(), dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def masked_pixels(pred: Tensor, patches: Tensor) -> tuple[Tensor, int]:
    """Squared error on patches the encoder did not see (L_mim for images).

    Args:
        pred: (..., V) decoder output at removed patches.
        patches: (..., V) the same patches in the modality's intensity scale (CT: HU / 1024).

    Returns: the sum over removed patches of their mean squared error, and the number of removed patches.
    Source: Ye et al. 2024, sec. 3.2; patch normalisation: He et al. 2022.
    """
    error = (pred.float() - normalise_patches(patches)).square().mean(-1)
    return error.sum(), error.numel()


def masked_words(logits: Tensor, ids: Tensor) -> tuple[Tensor, int]:
    """Cross-entropy at chosen positions (L_mim for text): logits (M, words) and ids (M,) to their sum and M."""
    return F.cross_entropy(logits.float(), ids, reduction="sum"), ids.numel()


def feature_distance(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Feature distillation (L_fd): squared distance of all output tokens, raw features, no projector.

    Args:
        student, teacher: (N, L, D); gradients flow through the student only.
        valid: (N, L) bool, False at padding, which counts for nothing; None where all tokens are real.

    Returns: the sum over tokens of the mean over D, and the number of tokens.
    Source: Ye et al. 2024, sec. 3.3.
    """
    distance = (student.float() - teacher.detach().float()).square().mean(-1)
    if valid is None:
        return distance.sum(), torch.tensor(distance.numel())
    return (distance * valid).sum(), valid.sum()
