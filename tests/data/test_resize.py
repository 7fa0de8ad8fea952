"""Resizing is Pillow's antialiased BILINEAR, in any number of dimensions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medcoss_cli.data.resize import resize


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
