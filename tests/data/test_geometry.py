"""From a sample's own grid to the network's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import zoom

from medcoss_cli.data.geometry import Layout
from medcoss_cli.plugin import Sample

VOLUME = np.random.default_rng(0).normal(size=(1, 12, 20, 24)).astype(np.float32)


def test_volumes_are_resampled_by_a_cubic_spline() -> None:
    frame = Layout(spacing=(1.0, 0.8, 0.8)).frame(Sample(VOLUME, spacing=(2.0, 1.0, 1.0)))
    expected = zoom(VOLUME[0], (2, 1.25, 1.25), order=3, mode="nearest", grid_mode=True)
    assert frame.image(VOLUME)[0] == pytest.approx(expected.clip(VOLUME.min(), VOLUME.max()), abs=1e-4)


@pytest.mark.parametrize(
    ("stored", "target"), [((5.0, 1.0, 1.0), (2.5, 0.8, 0.8)), ((1.5, 1.0, 1.0), (0.75, 0.2, 0.2))]
)
def test_thick_slices_are_repeated_and_not_blended(stored: tuple[float, ...], target: tuple[float, ...]) -> None:
    """nnU-Net: 3 times as far apart as pixels, in the file or else on the network's grid; each slice is resized alone."""
    frame = Layout(spacing=target).frame(Sample(VOLUME, spacing=stored))
    image, mask = frame.image(VOLUME), frame.labels((VOLUME[0] > 0).astype(np.uint8))
    assert image.shape[1] == mask.shape[0] == 24
    assert np.array_equal(image[:, ::2], image[:, 1::2])
    assert np.array_equal(mask[::2], mask[1::2])
    plane = zoom(VOLUME[0, 3], np.array(stored[1:]) / target[1:], order=3, mode="nearest", grid_mode=True)
    assert image[0, 6] == pytest.approx(plane.clip(VOLUME.min(), VOLUME.max()), abs=1e-4)


def test_images_stay_linear_and_their_masks_nearest() -> None:
    frame = Layout(size=(40, 30)).frame(Sample(VOLUME[0, :1, :, :]))
    expected = zoom(VOLUME[0, 0], (2, 1.25), order=1, mode="nearest", grid_mode=True)
    assert frame.image(VOLUME[0, :1])[0] == pytest.approx(expected, abs=1e-4)
    labels = (VOLUME[0, 0] > 0).astype(np.uint8)
    assert np.array_equal(frame.labels(labels), zoom(labels, (2, 1.25), order=0, mode="nearest", grid_mode=True))
