"""A picture of a mask over its image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.console import drawable
from medcoss_cli.data.masks.colours import colour
from medcoss_cli.store import atomic

Array = np.ndarray[Any, Any]


def overlay(
    image: Array,
    labels: Array,
    truth: Array | None,
    classes: Sequence[str],
    path: Path,
    spacing: Sequence[float] | None = None,
) -> None:
    """Draw a picture (PNG): the image, the true mask where there is one, and the predicted one, side by side.

    Of a volume three slices across the masks are drawn, the fullest among them. Nothing in it names a file or a person.

    Args:
        image: (C, H, W) or (C, D, H, W); three channels are colour, else the first is drawn.
        labels: (H, W) or (D, H, W), and `truth` likewise.
        spacing: mm per axis of the labels, for pixels that are not square.

    Raises: ResourceError where it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = _window(image if len(image) == 3 else image[:1])
    masks = {"truth": truth, "prediction": labels}
    columns: dict[str, Array | None] = {"image": None, **{k: mask for k, mask in masks.items() if mask is not None}}
    places: list[Any] = [...]
    if labels.ndim == 3:
        places = _slices(labels if truth is None else np.maximum(labels, truth))
    step = max(1, max(labels.shape[-2:]) // 1024)
    thin = (slice(None, None, step), slice(None, None, step))
    aspect = spacing[-2] / spacing[-1] if spacing else 1.0
    high = 3.2 * min(max(labels.shape[-2] * aspect / labels.shape[-1], 0.3), 3.0)
    figure = Figure(figsize=(3.2 * len(columns), high * len(places) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(places), len(columns), squeeze=False)
    for line, place in zip(grid, places, strict=True):
        for axes, (title, mask) in zip(line, columns.items(), strict=True):
            axes.set_axis_off()
            picture = np.moveaxis(shown[:, place], 0, -1)[thin]
            axes.imshow(picture if len(shown) == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=1, aspect=aspect)
            axes.set_title(title if place is places[0] else "")
            if mask is not None:
                _draw(axes, mask[place][thin], len(classes), aspect)
    patches = [
        Patch(color=np.array(colour(number)) / 255, label=drawable(name)) for number, name in enumerate(classes, 1)
    ]
    legend = figure.legend(handles=patches, loc="outside lower center", ncols=min(len(classes), 4), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    atomic.write(path, out.getvalue())


def portrait(image: Array, caption: str, path: Path, spacing: Sequence[float] | None = None) -> None:
    """Draw an image (C, H, W), or the middle slice of a volume (C, D, H, W), with a caption below (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = _window(image if len(image) == 3 else image[:1])
    flat = shown[:, shown.shape[1] // 2] if shown.ndim == 4 else shown
    aspect = spacing[-2] / spacing[-1] if spacing and len(spacing) > 1 else 1.0
    figure = Figure(figsize=(3.2, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.imshow(np.moveaxis(flat, 0, -1) if len(flat) == 3 else flat[0], cmap="gray", vmin=0, vmax=1, aspect=aspect)
    axes.set_title(drawable(caption), fontsize="small", y=-0.14).set_parse_math(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    atomic.write(path, out.getvalue())


def _window(image: Array) -> Array:
    """0..1 from the 0.5th to the 99.5th percentile of the finite values."""
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    if high <= low:
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    scaled = (np.nan_to_num(image.astype(np.float32), nan=low) - low) / max(float(high - low), 1e-12)
    return np.asarray(np.clip(scaled, 0, 1))


def _slices(mask: Array) -> list[int]:
    """The fullest slice and those halfway from it to either end of the mask; of an empty mask, at quarters."""
    filled = (mask > 0).sum(axis=(1, 2))
    occupied = np.flatnonzero(filled)
    if not occupied.size:
        return sorted({len(mask) * n // 4 for n in (1, 2, 3)})
    fullest = int(filled.argmax())
    return sorted({(int(occupied[0]) + fullest) // 2, fullest, (fullest + int(occupied[-1]) + 1) // 2})


def _draw(axes: Any, mask: Array, classes: int, aspect: float) -> None:
    """Each class of a mask (H, W): filled so that the image shows through, its outline in full colour."""
    fill = np.zeros((*mask.shape, 4), np.float32)
    for label in range(1, classes + 1):
        fill[mask == label] = (*(level / 255 for level in colour(label)), 0.3)
    axes.imshow(fill, interpolation="nearest", aspect=aspect)
    for label in range(1, classes + 1):
        inside = mask == label
        if inside.any() and min(mask.shape) > 1:
            axes.contour(inside, levels=[0.5], colors=[np.array(colour(label)) / 255], linewidths=1.0)
