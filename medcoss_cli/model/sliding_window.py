"""Masks of whole images and volumes, window by window; of a volume only a few slices of probabilities exist at a time.

numpy alone, as in outputs.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medcoss_cli.console import Bar
from medcoss_cli.model.outputs import Array, Network, finite, sigmoid

SIGMA = {2: 1 / 4, 3: 1 / 8}  # of the window's weights, as a share of its size


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along an axis of at least the window's length; the last is shifted back to fit."""
    step = max(1, int(window * (1 - overlap)))
    return sorted({min(start, length - window) for start in range(0, length - window + step, step)})


def gaussian(window: int, sigma: float) -> Array:
    """Weights (window,) float32, 1 in the middle, `sigma` as a share of the window."""
    at = np.arange(window) - (window - 1) / 2
    weights: Array = np.exp(-0.5 * np.square(at / (window * sigma))).astype(np.float32)
    return weights


def mirrored(network: Network, *, mirror: bool) -> Network:
    """Probabilities (N, c, *size), averaged over all flips if asked: 4 in the plane, 8 in space."""

    def predict(inputs: Array) -> Array:
        axes = range(2, inputs.ndim)
        turns = itertools.chain.from_iterable(
            itertools.combinations(axes, n) for n in range(len(axes) + 1 if mirror else 1)
        )
        flips = list(turns)
        total = sum(np.flip(sigmoid(network(np.ascontiguousarray(np.flip(inputs, f)))), f) for f in flips)
        mean: Array = np.asarray(total) / np.float32(len(flips))
        return mean

    return predict


def predict_labels(
    network: Network,
    slices: Callable[[int, int], Array],
    shape: tuple[int, ...],
    window: tuple[int, ...],
    *,
    levels: Sequence[int],
    overlap: float = 0.5,
    mirror: bool = True,
    pad: float = 0.0,
    bar: Bar | None = None,
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Labels (*shape): of the classes whose probability is above a half the innermost, of these the likeliest; else 0.

    Windows overlap and are weighted with a Gaussian. Volumes go slab by slab: weights are a product over the axes, so
    slabs weighted along depth give what all windows at once would, in the memory of one slab.

    Raises: NonFiniteError for probabilities that are not finite.

    Args:
        network: inputs (N, C, *window) to logits (N, c, *window).
        slices: (first, end) along the first axis to inputs (C, end - first, ...).
        levels: by class, how many classes hold it: 0 and 1 of an organ and its tumour.
        shape: of the whole image or volume; smaller than the window it is padded at the end with `pad`.
    """
    predict = mirrored(network, mirror=mirror)
    padded = tuple(max(s, w) for s, w in zip(shape, window, strict=True))
    rank = np.array(levels, np.float32).reshape(-1, *(1,) * len(shape))
    depth, *plane = (gaussian(w, SIGMA[len(shape)]) for w in window)
    column = depth.reshape(-1, *(1,) * len(plane))
    begins, *across = (starts(p, w, overlap) for p, w in zip(padded, window, strict=True))
    labels = np.zeros(padded, np.uint8)
    total = weights = np.zeros(0, np.float32)
    for number, first in enumerate(begins):
        part = _slab(
            predict, _padded(slices(first, min(first + window[0], shape[0])), padded, window[0], pad), across, plane
        )
        if number == 0:
            total, weights = np.zeros_like(part), np.zeros_like(column)
        total += part * column
        weights += column
        finished = (begins[number + 1] if number + 1 < len(begins) else first + window[0]) - first
        ready = finite(total[:, :finished] / weights[:finished])
        score = (ready + rank) * (ready > 0.5)
        labels[first : first + finished] = np.where(score.max(0) > 0, score.argmax(0) + 1, 0)
        total[:, :-finished], weights[:-finished] = total[:, finished:].copy(), weights[finished:].copy()
        total[:, -finished:], weights[-finished:] = 0, 0
        if bar is not None:
            bar.advance()
    return labels[tuple(slice(0, s) for s in shape)]


def memory(shape: tuple[int, ...], channels: int, window: tuple[int, ...], classes: int) -> int:
    """About how many bytes a prediction needs beside the network: image and labels whole, probabilities of one slab."""
    voxels = math.prod(max(s, w) for s, w in zip(shape, window, strict=True))
    slab = voxels * window[0] // max(shape[0], window[0])
    return voxels * (channels * 6 + 2) + slab * 4 * (4 * classes + channels)


def _padded(inputs: Array, padded: tuple[int, ...], depth: int, value: float) -> Array:
    """Inputs (C, n, ...) filled up at the end to (C, depth, ...) and the padded volume's other axes."""
    shape = (depth, *padded[1:])
    missing = [(0, 0), *((0, w - n) for w, n in zip(shape, inputs.shape[1:], strict=True))]
    return np.pad(inputs, missing, constant_values=value)


def _slab(predict: Network, inputs: Array, across: Sequence[Sequence[int]], plane: Sequence[Array]) -> Array:
    """Probabilities (c, depth, ...) of a slab (C, depth, ...): windows over its other axes, weighted."""
    weight = np.ones((1,) * (inputs.ndim - 1), np.float32)
    for axis, profile in enumerate(plane, 1):
        weight = weight * profile.reshape(-1, *(1,) * (len(plane) - axis))
    total: Array | None = None
    sums = np.zeros((1, *inputs.shape[2:]), np.float32)
    for firsts in itertools.product(*across):
        at = (slice(None), slice(None), *(slice(f, f + len(profile)) for f, profile in zip(firsts, plane, strict=True)))
        probabilities = predict(np.ascontiguousarray(inputs[at])[None])[0]
        if total is None:
            total = np.zeros((probabilities.shape[0], *inputs.shape[1:]), np.float32)
        total[at] += probabilities * weight
        sums[at[1:]] += weight
    assert total is not None
    return total / sums
