"""A picture of what the model sees: samples and augmented views, or masked, reconstructed and original."""

from __future__ import annotations

import io
import textwrap
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medcoss_cli.data.read import Listing, encode, read_checked
from medcoss_cli.errors import DataError
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import CompleteModality, Sample
from medcoss_cli.randomness import generator

SLICES = 4  # shown of a volume, evenly spaced
WIDEST = 8  # pictures side by side; more go below


def read_some(modality: CompleteModality, listing: Listing, count: int) -> list[Sample]:
    """Up to `count` samples, spread evenly over what was found; unreadable ones are passed over.

    Raises: DataError if none of those tried can be read.
    """
    samples: list[Sample] = []
    reason = ""
    for place in np.unique(np.linspace(0, len(listing.records) - 1, 2 * count).astype(int)):
        try:
            samples.append(read_checked(modality, listing.records[place]))
        except DataError as error:
            reason = error.what
    if not samples:
        raise DataError(f"none of the files tried can be shown ({reason})", where=listing.root)
    return [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, count).astype(int))]


def stored(modality: CompleteModality, samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Integers (N, C, *size), scale and offset (N,) as a prepared set holds them."""
    rows = [encode(modality, sample) for sample in samples]
    integers = torch.from_numpy(np.stack([row[0] for row in rows]))
    scale, offset = (torch.tensor([row[i] for row in rows], dtype=torch.float32) for i in (1, 2))
    return integers, scale, offset


def views(modality: CompleteModality, samples: list[Sample], seed: int) -> dict[str, Tensor]:
    """Samples as the model sees them, plain and (where augmentation changes them) augmented once."""
    integers, scale, offset = stored(modality, samples)
    drawn = [modality.augment(integers[i : i + 1], generator(seed, "preview", i)) for i in range(len(integers))]
    decode = modality.intensity.decode
    rows = {"sample": decode(integers, scale, offset)}
    if not torch.equal(torch.cat(drawn), integers):
        rows["augmented"] = decode(torch.cat(drawn), scale, offset)
    return rows


@torch.no_grad()
def reconstructions(model: Model, name: str, samples: list[Sample], seed: int) -> dict[str, Tensor]:
    """Masked, reconstructed and original, by the modality's kept decoder."""
    model.eval()
    modality = model.modalities[name]
    original = modality.intensity.decode(*stored(modality, samples))
    batch = Batch(name, True, original, None, slice(0, len(original)), len(original), (seed, "preview"))
    masked, reconstructed = model.reconstruct(batch)
    return {"masked": masked, "reconstructed": reconstructed, "original": original}


def montage(modality: CompleteModality, rows: dict[str, Tensor]) -> bytes:
    """PNG with a column per sample (per slice of a volume) and a line per kind of view, in bands; texts and signals likewise."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    words = modality.pretext == "masked_words"
    lines = {title: cells(modality, batch) for title, batch in rows.items()}
    count = len(next(iter(lines.values())))
    width, height, limit = (4.2, 1.6, 3) if words else (1.7, 1.8, WIDEST)
    columns, bands = min(count, limit), -(-count // limit)
    figure = Figure(figsize=(width * columns + 0.4, height * len(lines) * bands), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(lines) * bands, columns, squeeze=False)
    for place in range(columns * bands):
        band, column = divmod(place, columns)
        for line, (title, shown) in enumerate(lines.items(), band * len(lines)):
            axes = grid[line][column]
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(title)
            if place >= count:
                axes.set_axis_off()
            else:
                _draw(axes, modality, shown[place], _range(lines, place))
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _draw(axes: Any, modality: CompleteModality, cell: Any, levels: tuple[float | None, float | None]) -> None:
    if isinstance(cell, str):
        axes.text(0.02, 0.98, textwrap.fill(cell, 62), va="top", fontsize=7, transform=axes.transAxes)
    elif cell.ndim == 2 and cell.shape[0] == modality.channels and modality.dims == 1:
        axes.plot(cell.T, linewidth=0.6)
    else:
        axes.imshow(cell, cmap="gray", vmin=levels[0], vmax=levels[1], interpolation="nearest")


def cells(modality: CompleteModality, batch: Tensor) -> list[Any]:
    """What is drawn: text, (C, L) signal, (H, W) grey or (H, W, 3) colour."""
    tokenizer = modality.text_tokenizer
    if tokenizer is not None:
        return [_join(tokenizer.text(row.tolist())) for row in batch]
    array = batch.float().numpy()
    if modality.dims == 1:
        return list(array)
    if modality.dims == 2:
        colour = modality.channels == 3
        return [np.clip(np.moveaxis(image, 0, -1), 0, 1) if colour else image[0] for image in array]
    places = np.linspace(0, array.shape[2] - 1, SLICES + 2).astype(int)[1:-1]
    return [volume[0, place] for volume in array for place in places]


def _range(lines: dict[str, list[Any]], column: int) -> tuple[float | None, float | None]:
    """Grey window of a column: of its last line, which is never a reconstruction."""
    values = list(lines.values())[-1][column]
    return (None, None) if isinstance(values, str) else (float(values.min()), float(values.max()))


def _join(pieces: list[str]) -> str:
    return " ".join(pieces).replace(" ##", "")
