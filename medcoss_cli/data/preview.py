"""A picture of what the model sees: samples and augmented views, or masked, reconstructed and original."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medcoss_cli.data.read import Listing, encode, read_checked
from medcoss_cli.data.statistics import Statistics, of_set, range_of, statistics, unlike
from medcoss_cli.errors import DataError
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.multimodal import Model
from medcoss_cli.plugin import CompleteModality, Sample
from medcoss_cli.randomness import generator

SLICES = 4  # shown of a volume, evenly spaced
WIDEST = 8  # pictures side by side; more go below


@dataclass(frozen=True)
class Shown:
    """A sample of a preview."""

    name: str
    sample: Sample


def read_some(modality: CompleteModality, listing: Listing, count: int) -> list[Shown]:
    """Up to `count` samples, spread evenly over what was found; unreadable ones are passed over.

    Raises: DataError if none of those tried can be read.
    """
    shown: list[Shown] = []
    reason = ""
    for place in np.unique(np.linspace(0, len(listing.records) - 1, 2 * count).astype(int)):
        try:
            record = listing.records[place]
            shown.append(Shown(record.source.name, read_checked(modality, record)))
        except DataError as error:
            reason = error.what
    if not shown:
        raise DataError(f"none of the files tried can be shown ({reason})", where=listing.root)
    return [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, count).astype(int))]


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


def described(
    modality: CompleteModality, rows: dict[str, Tensor], sets: list[tuple[str, list[Shown]]]
) -> tuple[list[Statistics], list[str]]:
    """Numbers of each sample as the encoder sees it (none of text), and what is unlike: of samples, and of whole sets.

    Args:
        rows: as `views` or `reconstructions` give them, of all sets after one another; their plain samples are described.
        sets: names (of folders), and what is shown of them.
    """
    if modality.text_tokenizer is not None:
        return [], []
    values = rows["original" if "original" in rows else "sample"].float().numpy()
    bounds = range_of(modality, values)
    shown = [item for _, members in sets for item in members]
    numbers = [statistics(row, item.sample, bounds) for row, item in zip(values, shown, strict=True)]
    notes, first = [], 0
    of_sets = []
    for name, members in sets:
        mine = numbers[first : first + len(members)]
        named = [
            (f"picture {n} ({item.name})", one)
            for n, (item, one) in enumerate(zip(members, mine, strict=True), first + 1)
        ]
        notes += unlike(named, bounds)
        of_sets.append((f"{name}: the set", of_set(mine)))
        first += len(members)
    return numbers, notes + (unlike(of_sets, bounds) if len(sets) > 1 else [])


def montage(modality: CompleteModality, rows: dict[str, Tensor], numbers: list[Statistics]) -> bytes:
    """PNG with a column per sample (per slice of a volume) and a line per kind of view, in bands; texts and signals likewise.

    All pictures are drawn in the range that the encoder sees, so that what is black to it is black here.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    words = modality.pretext == "masked_words"
    lines = {title: cells(modality, batch) for title, batch in rows.items()}
    count = len(next(iter(lines.values())))
    width, height, limit = (4.2, 1.6, 3) if words else (1.9, 2.1, WIDEST)
    columns, bands = min(count, limit), -(-count // limit)
    figure = Figure(figsize=(width * columns + 0.4, height * len(lines) * bands), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(lines) * bands, columns, squeeze=False)
    bounds = (0.0, 1.0) if words else range_of(modality, next(reversed(rows.values())).float().numpy())
    each = max(1, count // max(1, len(numbers)))  # pictures of a sample
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
                _draw(axes, modality, shown[place], bounds)
        if numbers and place < count and place % each == 0:
            text = f"{place // each + 1}: {numbers[place // each].text}"
            grid[(band + 1) * len(lines) - 1][column].set_xlabel(textwrap.fill(text, 34), fontsize=6)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _draw(axes: Any, modality: CompleteModality, cell: Any, bounds: tuple[float, float]) -> None:
    if isinstance(cell, str):
        axes.text(0.02, 0.98, textwrap.fill(cell, 62), va="top", fontsize=7, transform=axes.transAxes)
    elif cell.ndim == 2 and cell.shape[0] == modality.channels and modality.dims == 1:
        axes.plot(cell.T, linewidth=0.6)
        axes.set_ylim(*bounds)
    else:
        axes.imshow(cell, cmap="gray", vmin=bounds[0], vmax=bounds[1], interpolation="nearest")


def cells(modality: CompleteModality, batch: Tensor) -> list[Any]:
    """What is drawn: text, (C, L) signal, (H, W) grey or (H, W, 3) colour from 0 to 1."""
    tokenizer = modality.text_tokenizer
    if tokenizer is not None:
        return [_join(tokenizer.text(row.tolist())) for row in batch]
    array = batch.float().numpy()
    if modality.dims == 1:
        return list(array)
    if modality.dims == 2:
        if modality.channels != 3:
            return [image[0] for image in array]
        low, high = range_of(modality, array)
        return [np.clip((np.moveaxis(image, 0, -1) - low) / (high - low), 0, 1) for image in array]
    places = np.linspace(0, array.shape[2] - 1, SLICES + 2).astype(int)[1:-1]
    return [volume[0, place] for volume in array for place in places]


def _join(pieces: list[str]) -> str:
    return " ".join(pieces).replace(" ##", "")
