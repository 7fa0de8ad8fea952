"""Augmentation for fine-tuning, against the formulas of batchgenerators, the authors' library."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medcoss_cli.tasks.augmentation import elastic


@pytest.mark.parametrize(("dims", "largest"), [(2, 0.05), (3, 0.1)])
def test_noise_has_a_std_up_to_what_the_library_calls_its_variance(dims: int, largest: float) -> None:
    """`np.random.normal(0, uniform(0, variance))`: of an image of zeros nothing but noise is left."""
    image = torch.zeros(1, *(12,) * dims)
    stds = [float(elastic(image, image, (0, number))[0].std()) for number in range(300)]
    noisy = [std for std in stds if std > 0]
    assert len(noisy) > 15
    assert largest / 2 < max(noisy) < 1.25 * 1.25 * largest, "brightness and contrast are up to 1.25 times"


def test_volumes_get_contrast() -> None:
    """`(x - mean) * factor + mean`, within the old range: in some views that alone was done, flips aside."""
    volume = torch.randn(1, 10, 10, 10, generator=torch.Generator().manual_seed(0)) + 5
    values = np.sort(volume.numpy().ravel())
    factors = []
    for number in range(300):
        view = np.sort(elastic(volume, volume, (0, number))[0].numpy().ravel())
        factor = (view[600] - view[400]) / (values[600] - values[400])
        expected = np.clip((values - values.mean()) * factor + values.mean(), values[0], values[-1])
        if abs(factor - 1) > 1e-3 and np.abs(view - expected).max() < 1e-4:
            factors.append(factor)
    assert len(factors) >= 3
    assert 0.75 <= min(factors) < 1 < max(factors) <= 1.25
