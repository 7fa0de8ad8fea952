"""demo.png: what is remembered with rehearsal and without, what the encoder practises on, what a head says."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.demonstration.accuracy import Head
from medcoss_cli.store import atomic

Array = np.ndarray[Any, Any]

COLOURS = ("#1f6fb4", "#d95f02")  # blue and orange differ for the colour-blind too
GREY, GREEN, RED = "#666666", "#1a7f37", "#b3261e"


@dataclass(frozen=True)
class Strip:
    """One sample, hidden in part, and what the decoder makes of it; images (H, W) or (H, W, 3)."""

    title: str
    original: Array
    masked: Array
    reconstructed: Array


@dataclass(frozen=True)
class Prediction:
    """What a head says of a test image (H, W) or (H, W, 3)."""

    image: Array
    truth: str
    predicted: str
    probability: float


def draw(
    path: Path,
    heads: Mapping[str, Head],
    titles: Mapping[str, str],
    strips: Sequence[Strip],
    predictions: Sequence[Prediction],
) -> None:
    """Draw the picture (PNG).

    Args:
        heads: of one modality, by label; empty: no head learned enough to show.
        titles: of the modalities, for the axis.

    Raises: ResourceError where it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 7.8), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.15, 1), wspace=0.03)
    left, right = halves
    if heads:
        upper, lower = left.subfigures(2, 1, height_ratios=(1.25, 1), hspace=0.05)
        _remembered(upper, heads, titles)
        _predictions(lower, next(iter(heads.values())).title, predictions)
    else:
        left.suptitle("No head learned its task, so nothing can be forgotten", fontsize=15)
    _strips(right, strips)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    atomic.write(path, out.getvalue())


def _remembered(figure: Any, heads: Mapping[str, Head], titles: Mapping[str, str]) -> None:
    first = next(iter(heads.values()))
    axes = figure.subplots()
    figure.suptitle(f"Does it still know {first.title} after learning more?", fontsize=15)
    places = range(len(first.accuracy))
    for (label, head), colour in zip(heads.items(), COLOURS, strict=False):
        values = [100 * value for value in head.accuracy.values()]
        axes.plot(places, values, marker="o", markersize=8, linewidth=3, color=colour, label=label)
    lasts = sorted((list(head.accuracy.values())[-1], label) for label, head in heads.items())
    apart = 100 * (lasts[-1][0] - lasts[0][0]) >= 6  # else two numbers at the line's end would lie on each other
    for (_, head), colour in zip(heads.items(), COLOURS, strict=False):
        last = 100 * list(head.accuracy.values())[-1]
        if apart:
            axes.annotate(
                f"{last:.0f} %",
                (places[-1], last),
                (10, -5),
                textcoords="offset points",
                fontsize=14,
                color=colour,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},  # else the line of guessing runs through it
            )
    axes.axhline(100 * first.guessing, color=GREY, linestyle="--", linewidth=1.5, label="guessing")
    learned = list(first.accuracy)
    names = [f"{titles[learned[0]]}\n(just learned)", *(f"then\n{titles[name]}" for name in learned[1:])]
    axes.set_xticks(list(places), names, fontsize=12)
    axes.set_xlim(-0.25, len(places) - 0.55)
    axes.set_ylim(0, 104)
    axes.set_ylabel("test images named correctly (%)", fontsize=12)
    axes.tick_params(axis="y", labelsize=12)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=13, loc="lower left", frameon=True, framealpha=0.9)


def _predictions(figure: Any, title: str, predictions: Sequence[Prediction]) -> None:
    figure.suptitle(f"What it says of new {title} images", fontsize=15)
    for axes, shown in zip(np.atleast_1d(figure.subplots(1, max(1, len(predictions)))), predictions, strict=False):
        _image(axes, shown.image)
        right = shown.predicted == shown.truth
        axes.set_title(f"“{shown.predicted}”, {100 * shown.probability:.0f} % sure", fontsize=13)
        verdict = "right" if right else f"wrong, it is {shown.truth}"
        axes.set_xlabel(verdict, fontsize=13, color=GREEN if right else RED)


def _strips(figure: Any, strips: Sequence[Strip]) -> None:
    figure.suptitle("How it learns without labels: it guesses what is hidden", fontsize=15)
    grid = figure.subplots(max(1, len(strips)), 3, squeeze=False)
    for line, strip in zip(grid, strips, strict=True):
        images = {"original": strip.original, "what it sees": strip.masked, "what it guesses": strip.reconstructed}
        low, high = float(strip.original.min()), float(strip.original.max())
        for axes, (title, image) in zip(line, images.items(), strict=True):
            _image(axes, image, low, high)
            axes.set_title(title, fontsize=13)
        line[0].set_ylabel(strip.title, fontsize=14)


def _image(axes: Any, image: Array, low: float | None = None, high: float | None = None) -> None:
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
