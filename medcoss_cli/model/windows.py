"""Masks of whole images and volumes, window by window; of a volume only a few slices of probabilities exist at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medcoss_cli.model.tuned import finite
from medcoss_cli.screen import Bar

SIGMA = {2: 1 / 4, 3: 1 / 8}  # of the window's weights, as a share of its size


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along an axis of at least the window's length; the last is shifted back to fit."""
    step = max(1, int(window * (1 - overlap)))
    return sorted({min(start, length - window) for start in range(0, length - window + step, step)})


def gaussian(window: int, sigma: float) -> Tensor:
    """Weights (window,), 1 in the middle, `sigma` as a share of the window."""
    at = torch.arange(window, dtype=torch.float32) - (window - 1) / 2
    return torch.exp(-0.5 * (at / (window * sigma)).square())


def mirrored(network: Callable[[Tensor], Tensor], *, mirror: bool) -> Callable[[Tensor], Tensor]:
    """Probabilities (N, c, *size), averaged over all flips if asked: 4 in the plane, 8 in space."""

    def predict(inputs: Tensor) -> Tensor:
        axes = range(2, inputs.ndim)
        turns = itertools.chain.from_iterable(
            itertools.combinations(axes, n) for n in range(len(axes) + 1 if mirror else 1)
        )
        flips = list(turns)
        total = cast(Tensor, sum(network(inputs.flip(flip)).float().sigmoid().flip(flip) for flip in flips))
        return total / len(flips)

    return predict


@torch.no_grad()
def predict_labels(
    network: Callable[[Tensor], Tensor],
    slices: Callable[[int, int], Tensor],
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

    Raises: NumbersError for probabilities that are not finite.

    Args:
        network: inputs (N, C, *window) to logits (N, c, *window).
        slices: (first, end) along the first axis to inputs (C, end - first, ...) on the network's device.
        levels: by class, how many classes hold it: 0 and 1 of an organ and its tumour.
        shape: of the whole image or volume; smaller than the window it is padded at the end with `pad`.
    """
    from monai.inferers.utils import sliding_window_inference

    sigma = SIGMA[len(shape)]
    predict = mirrored(network, mirror=mirror)
    padded = tuple(max(s, w) for s, w in zip(shape, window, strict=True))
    filling = [n for s, p in zip(reversed(shape), reversed(padded), strict=True) for n in (0, p - s)]

    def slab(first: int, end: int) -> Tensor:
        inputs = slices(first, min(end, shape[0]))
        inputs = F.pad(inputs, [*filling[:-2], 0, end - first - inputs.shape[1]], value=pad)
        return cast(
            Tensor,
            sliding_window_inference(
                inputs[None], (end - first, *window[1:]), 1, predict, overlap, roi_weight_map=plane
            ),
        )[0]

    weight = gaussian(window[0], sigma)
    # not MONAI's own, whose least weight is set for the window as a whole, so that it is no product over the axes
    plane = torch.ones(window[0], *(1,) * (len(window) - 1))
    for axis, length in enumerate(window[1:], 1):
        plane = plane * gaussian(length, sigma).view(-1, *(1,) * (len(window) - 1 - axis))
    begins = starts(padded[0], window[0], overlap)
    labels = np.zeros(padded, np.uint8)
    total: Tensor | None = None
    for number, first in enumerate(begins):
        part = slab(first, first + window[0])
        if total is None:
            total, weights = torch.zeros_like(part), torch.zeros(window[0], device=part.device)
        column = weight.to(part.device).view(-1, *(1,) * (part.ndim - 2))
        total += part * column
        weights += weight.to(part.device)
        done = (begins[number + 1] if number + 1 < len(begins) else first + window[0]) - first
        ready = finite(total[:, :done] / weights[:done].view(column[:done].shape))
        rank = torch.tensor(levels, device=ready.device).view(-1, *(1,) * (ready.ndim - 1))
        score = (ready + rank) * (ready > 0.5)
        highest, chosen = score.max(0)
        labels[first : first + done] = torch.where(highest > 0, chosen + 1, 0).byte().cpu().numpy()
        total = torch.cat([total[:, done:], torch.zeros_like(total[:, :done])], dim=1)
        weights = torch.cat([weights[done:], torch.zeros_like(weights[:done])])
        if bar is not None:
            bar.advance()
    return labels[tuple(slice(0, s) for s in shape)]


def memory(shape: tuple[int, ...], channels: int, window: tuple[int, ...], classes: int) -> int:
    """About how many bytes a prediction needs beside the network: image and labels whole, probabilities of one slab."""
    whole = math.prod(max(s, w) for s, w in zip(shape, window, strict=True))
    slab = whole * window[0] // max(shape[0], window[0])
    return whole * (channels * 6 + 2) + slab * 4 * (4 * classes + channels)
