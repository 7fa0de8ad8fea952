"""Resizing in any number of dimensions, axis by axis: nearest, linear (Pillow's BILINEAR) or cubic (nnU-Net's order 3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

NEAREST, LINEAR, CUBIC = 0, 1, 3
"""Orders of interpolation."""


def resize(
    array: Array, size: tuple[int, ...], orders: Sequence[int] | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(C, *any) to (C, *size) float32. Aspect ratio is not kept, as in the paper.

    Args:
        orders: of each axis: NEAREST; LINEAR, antialiased where it shrinks; CUBIC, a spline that is not antialiased, as in
            nnU-Net, unless an axis shrinks to less than half. None: linear.
    """
    result = np.asarray(array, np.float32)
    orders = orders or (LINEAR,) * len(size)
    for axis, (length, order) in enumerate(zip(size, orders, strict=True), 1):
        if result.shape[axis] != length:
            weights = _weights(result.shape[axis], length, order)
            result = np.moveaxis(np.moveaxis(result, axis, -1) @ weights.T, -1, axis)
    if CUBIC in orders:  # a spline overshoots; the range of each channel is kept, as nnU-Net does
        axes = tuple(range(1, array.ndim))
        result = np.clip(result, array.min(axes, keepdims=True), array.max(axes, keepdims=True))
    return np.ascontiguousarray(result, np.float32)


def resize_labels(labels: Array, size: tuple[int, ...], orders: Sequence[int]) -> Array:
    """Labels (*any) to (*size): each voxel the label that is strongest there after resizing each label on its own."""
    if labels.shape == size:
        return labels
    resized = np.zeros(size, labels.dtype)
    strongest = resize((labels == 0)[None], size, orders)[0]
    for label in np.unique(labels[labels > 0]):
        strength = resize((labels == label)[None], size, orders)[0]
        resized[strength > strongest] = label
        strongest = np.maximum(strongest, strength)
    return resized


@lru_cache(maxsize=64)
def _weights(size: int, new_size: int, order: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(after, before) weights of one axis."""
    if order == NEAREST:
        nearest: Array = np.eye(size)[((np.arange(new_size) + 0.5) * size / new_size).astype(int)]
        return nearest.astype(np.float32)
    if order == LINEAR or size == 1 or size > 2 * new_size:
        return _triangle(size, new_size)
    from scipy.ndimage import zoom

    spline: Array = zoom(np.eye(size), (new_size / size, 1), order=3, mode="nearest", grid_mode=True)
    return spline.astype(np.float32)


def _triangle(size: int, new_size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A triangle around each new centre, as wide as the step between centres, at least 1."""
    step = size / new_size
    centres = (np.arange(new_size) + 0.5) * step
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(step, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    normalised: np.ndarray[Any, np.dtype[np.float32]] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return normalised
