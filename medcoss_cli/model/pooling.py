"""One feature a sample: the mean over its real tokens. N samples, L tokens, D width."""

from __future__ import annotations

import torch
from torch import Tensor


def mean(features: Tensor, valid: Tensor | None) -> Tensor:
    """(N, L, D) to (N, D), over tokens where `valid` (N, L) is True; over all of them where it is None."""
    if valid is None:
        return features.mean(1)
    weight = valid.unsqueeze(-1).to(features.dtype)
    return (features * weight).sum(1) / weight.sum(1)


def with_cls(valid: Tensor | None, cls: bool) -> Tensor | None:
    """Validity (N, L) of tokens, made to fit features with the cls token in front (N, 1 + L): it is always real."""
    if valid is None or not cls:
        return valid
    return torch.cat([valid.new_ones(valid.shape[0], 1), valid], dim=1)
