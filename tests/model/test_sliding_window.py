"""Slab by slab and window by window: the same labels as MONAI's windows over the whole volume at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from medcoss_cli.errors import NonFiniteError
from medcoss_cli.model.sliding_window import SIGMA, mirrored, predict_labels


def network(inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Two classes whose logits depend on the place inside a window, so that weights and borders matter."""
    ramp = np.linspace(-1, 1, inputs.shape[2], dtype=np.float32).reshape(-1, *(1,) * (inputs.ndim - 3))
    return np.concatenate([inputs + ramp, np.roll(inputs, 1, -1) + inputs.mean() - ramp], axis=1)


@pytest.mark.parametrize("levels", [(0, 0), (0, 1)], ids=["beside", "inside"])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((21, 12, 9), (8, 8, 8)),
        ((8, 8, 8), (8, 8, 8)),
        ((5, 17, 8), (8, 8, 8)),
        ((33, 20), (16, 16)),
        ((7, 40), (16, 16)),
    ],
)
def test_slabs_are_windows_over_all(
    shape: tuple[int, ...], window: tuple[int, ...], mirror: bool, levels: tuple[int, ...]
) -> None:
    volume = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    labels = predict_labels(network, lambda a, b: volume[:, a:b].numpy(), shape, window, mirror=mirror, levels=levels)
    padded = torch.zeros(1, *(max(s, w) for s, w in zip(shape, window, strict=True)))
    padded[(slice(None), *(slice(0, s) for s in shape))] = volume
    mean = mirrored(network, mirror=mirror)

    def predict(inputs: Tensor) -> Tensor:
        return torch.from_numpy(mean(inputs.numpy()))

    sigma = SIGMA[len(shape)]
    axes = [torch.exp(-0.5 * ((torch.arange(w) - (w - 1) / 2) / (w * sigma)).square()) for w in window]
    weights = axes[0]
    for axis in axes[1:]:
        weights = weights[..., None] * axis
    whole = sliding_window_inference(padded[None], window, 1, predict, 0.5, roi_weight_map=weights)[0]
    whole = whole[(slice(None), *(slice(0, s) for s in shape))]
    sure = ((whole - 0.5).abs() > 1e-4).all(0)
    second = whole[1] > 0.5 if levels[1] else (whole[1] > 0.5) & (whole[1] > whole[0])
    sure &= (whole[1] - whole[0]).abs() > 1e-4
    expected = torch.where(second, 2, torch.where(whole[0] > 0.5, 1, 0))
    assert labels.shape == shape
    assert sure.float().mean() > 0.99
    assert np.array_equal(labels[sure.numpy()], expected[sure].numpy())
    assert len(np.unique(labels)) == 3


def test_what_is_not_a_number_is_no_background() -> None:
    def slices(first: int, end: int) -> np.ndarray[Any, Any]:
        return np.ones((1, end - first, 16), np.float32)

    with pytest.raises(NonFiniteError, match="not finite"):
        predict_labels(lambda inputs: inputs * np.nan, slices, (16, 16), (16, 16), levels=(0,))
