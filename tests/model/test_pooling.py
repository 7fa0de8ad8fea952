"""One feature a sample: padding counts for nothing."""

from __future__ import annotations

import torch

from medcoss_cli.model.pooling import mean, with_cls

FEATURES = torch.tensor([[[1.0], [3.0], [8.0]]])


def test_padding_counts_for_nothing() -> None:
    assert mean(FEATURES, None).item() == 4
    assert mean(FEATURES, torch.tensor([[True, True, False]])).item() == 2


def test_the_cls_token_is_real() -> None:
    padded = torch.tensor([[True, False]])
    real = with_cls(padded, True)
    assert real is not None
    assert real.tolist() == [[True, True, False]]
    assert mean(FEATURES, real).item() == 2
    assert with_cls(padded, False) is padded
    assert with_cls(None, True) is None
