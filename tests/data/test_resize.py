"""Resizing: Pillow's antialiased BILINEAR in any number of dimensions, and the spline of nnU-Net."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import zoom

from medcoss_cli.data.resize import CUBIC, LINEAR, NEAREST, resize, resize_labels


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(2, 60), st.integers(2, 60)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 99),
)
def test_an_image_comes_out_as_pillow_makes_it(before: tuple[int, int], after: tuple[int, int], seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=before).astype(np.float32)
    expected = np.asarray(Image.fromarray(image).resize(after[::-1], Image.Resampling.BILINEAR))
    assert resize(image[None], after)[0] == pytest.approx(expected, abs=1e-4)


def test_each_axis_is_resized_on_its_own() -> None:
    ramp = np.arange(24, dtype=np.float32)
    volume = np.broadcast_to(ramp[None, :, None, None], (1, 24, 5, 7))
    result = resize(volume, (16, 10, 3))
    assert result.shape == (1, 16, 10, 3)
    assert np.ptp(result, axis=(2, 3)) == pytest.approx(np.zeros((1, 16)), abs=0.03)
    assert result[0, 4:12, 0, 0] == pytest.approx((np.arange(4, 12) + 0.5) * 1.5 - 0.5, abs=0.03)


def test_the_same_size_is_the_same_numbers() -> None:
    signal = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    assert np.array_equal(resize(signal, (50,)), signal)


@pytest.mark.parametrize(("before", "after"), [((20, 33, 31), (31, 20, 31)), ((9, 12, 40), (30, 7, 21))])
def test_cubic_is_the_spline_of_nnunet(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """skimage's `resize(order=3, mode="edge", anti_aliasing=False)`, which is scipy's zoom, cut off at the old range."""
    volume = np.random.default_rng(0).normal(size=before)
    factors = [a / b for a, b in zip(after, before, strict=True)]
    expected = zoom(volume, factors, order=3, mode="nearest", grid_mode=True).clip(volume.min(), volume.max())
    result = resize(np.stack([volume, 9 * volume]), after, (CUBIC,) * 3)
    assert result == pytest.approx(np.stack([expected, 9 * expected]), abs=1e-4)


def test_cubic_does_not_alias_where_an_axis_shrinks_to_less_than_half() -> None:
    stripes = np.tile([0.0, 1.0], 30)[None]
    assert resize(stripes, (20,), (CUBIC,)) == pytest.approx(np.full((1, 20), 0.5), abs=0.2)


def test_labels_are_linear_and_the_strongest_wins() -> None:
    """Of each label `resize(order=1) >= 0.5`, as nnU-Net has it."""
    labels = np.kron(np.random.default_rng(0).integers(0, 3, (5, 6)), np.ones((3, 3), np.uint8)).astype(np.uint8)
    size, factors = (24, 31), (24 / 15, 31 / 18)
    result = resize_labels(labels, size, (LINEAR, LINEAR))
    for label in range(3):
        strength = zoom((labels == label).astype(float), factors, order=1, mode="nearest", grid_mode=True)
        assert (result[strength > 0.501] == label).all()
    nearest = resize_labels(labels, size, (NEAREST, NEAREST))
    assert np.array_equal(nearest, zoom(labels, factors, order=0, mode="nearest", grid_mode=True))
