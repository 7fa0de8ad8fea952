"""Linear resizing in any number of dimensions, antialiased where it shrinks: Pillow's BILINEAR, axis by axis."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np


def resize(array: np.ndarray[Any, Any], size: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(C, *any) to (C, *size) float32. Aspect ratio is not kept, as in the paper. Labels never pass here."""
    result = np.asarray(array, np.float32)
    for axis, length in enumerate(size, 1):
        if result.shape[axis] != length:
            weights = _triangle(result.shape[axis], length)
            result = np.moveaxis(np.moveaxis(result, axis, -1) @ weights.T, -1, axis)
    return np.ascontiguousarray(result, np.float32)


@lru_cache(maxsize=64)
def _triangle(size: int, new_size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(after, before) weights: a triangle around each new centre, as wide as the step between centres, at least 1."""
    step = size / new_size
    centres = (np.arange(new_size) + 0.5) * step
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(step, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    normalised: np.ndarray[Any, np.dtype[np.float32]] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return normalised
