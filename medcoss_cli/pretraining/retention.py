"""Retention: how much of an earlier modality the encoder still knows, measured without labels.

A small part of each stage's data, the anchors, is never trained on. What the encoder makes of it at the end of its own
stage is kept; after every later stage it is compared with what the encoder makes of it then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medcoss_cli.console import Bar, drawable
from medcoss_cli.data.batches import Source, StoredSamples, read_rows
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.multimodal import Model
from medcoss_cli.randomness import generator
from medcoss_cli.store import atomic
from medcoss_cli.store.history import parts

CHUNK = 64  # samples at a time
ANCHORS = 256
"""Samples of a stage that are held out, as far as a fifth of its data allows: of few, any measure is mostly noise."""
LEARNED = 0.95
"""Loss on held-out samples, relative to predicting the mean, below which something was learned."""
FEWEST = 4
"""Samples that unbiased HSIC is defined for."""


@dataclass(frozen=True)
class Anchors:
    """Samples set aside, with the features (N, D) and the masked loss at the end of their own stage."""

    samples: StoredSamples
    features: Tensor
    loss: float


def choose_anchors(groups: np.ndarray[Any, Any], key: tuple[int | str, ...]) -> np.ndarray[Any, Any]:
    """Rows to set aside: 256, or a fifth of n where that is less, whole groups only; none where it would be under 4.

    Args:
        groups: (n,) the patient or document number of each row.
    """
    n = len(groups)
    size = min(ANCHORS, n // 5)
    numbers, counts = np.unique(groups, return_counts=True)
    chosen: list[int] = []
    total = 0
    # the keys of these draws keep the anchors' first name, so that earlier numbers come out again
    for i in torch.randperm(len(numbers), generator=generator(*key, "probes")).tolist():
        if total < size and total + counts[i] <= max(size, n // 3):
            chosen.append(numbers[i])
            total += counts[i]
    return np.flatnonzero(np.isin(groups, chosen if total >= FEWEST else []))


def decoded(model: Model, modality: str, source: Source, rows: np.ndarray[Any, Any]) -> Tensor:
    """Samples as the encoder sees them, without augmentation, on the model's device."""
    intensity = model.modalities[modality].intensity
    assert intensity is not None
    device = model.encoder.cls.device
    read = read_rows(model.modalities[modality], source, rows)
    return intensity.decode(*(torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in read))


@torch.no_grad()
def features(model: Model, modality: str, source: Source, rows: np.ndarray[Any, Any], bar: Bar | None = None) -> Tensor:
    """Pooled features (N, D) of these rows on the CPU, in eval mode, nothing masked."""
    model.eval()
    pooled = []
    for part in np.array_split(rows, max(1, math.ceil(len(rows) / CHUNK))):
        pooled.append(model.pooled(modality, decoded(model, modality, source, part)).cpu())
        if bar is not None:
            bar.advance(len(part))
    return torch.cat(pooled)


@torch.no_grad()
def masked_loss(model: Model, modality: str, samples: StoredSamples) -> float:
    """L_mim with the modality's kept decoder, always under the same masks."""
    model.eval()
    n = len(samples)
    total = torch.zeros(2, dtype=torch.float64)
    for start in range(0, n, CHUNK):
        rows = np.arange(start, min(n, start + CHUNK))
        inputs = decoded(model, modality, samples, rows)
        batch = Batch(modality, True, inputs, None, slice(start, start + len(rows)), n, ("probes", modality))
        value, count = model.masked_loss(batch)
        total += torch.tensor([value.item(), float(count)], dtype=torch.float64)
    return (total[0] / total[1]).item()


def anchors_of(model: Model, modality: str, samples: StoredSamples) -> Anchors:
    """What the encoder knows of these samples now."""
    everything = np.arange(len(samples))
    return Anchors(samples, features(model, modality, samples, everything), masked_loss(model, modality, samples))


def cka(a: Tensor, b: Tensor) -> float:
    """Debiased linear centred kernel alignment of two sets of features (N, D), N of 4 or more.

    1: the same up to rotation and scale; 0: unrelated, whatever N and D are (the biased estimate of Kornblith et al. 2019 gives
    unrelated features .98 at N = 16, D = 768); a little below 0 by chance; 0 where one set does not vary.

    Source: Nguyen et al. 2021, eq. 3, with HSIC of Song et al. 2012, eq. 5.
    """
    a, b = (_off_diagonal(x) for x in (a, b))
    scale = _hsic(a, a) * _hsic(b, b)
    return float(_hsic(a, b) / math.sqrt(scale)) if scale > 1e-30 else 0.0


def _off_diagonal(x: Tensor) -> Tensor:
    """Products (N, N) of centred features with each other, 0 for a sample with itself."""
    x = x.double() - x.double().mean(0)
    return (x @ x.T).fill_diagonal_(0.0)


def _hsic(k: Tensor, m: Tensor) -> float:
    """Unbiased Hilbert-Schmidt independence criterion of two kernels (N, N) with zero diagonals."""
    n = len(k)
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2))
    return float(((k * m).sum() + sums - 2 / (n - 2) * (k.sum(0) @ m.sum(0))) / (n * (n - 3)))


def centred_cosine(a: Tensor, b: Tensor) -> float:
    """Mean over samples of the cosine between features (N, D), each set's mean taken off first."""
    a, b = (x.double() - x.double().mean(0) for x in (a, b))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=1).mean())


def shift(a: Tensor, b: Tensor) -> float:
    """How far the mean of features a (N, D) is from that of b, in the root mean square distance of b from its mean.

    CKA and centred cosine take each set's mean off and so do not see it, but a head that was trained on b does: where all
    samples move by several times their spread, it gives them all one class.
    """
    a, b = a.double(), b.double()
    spread = (b - b.mean(0)).square().sum(1).mean().sqrt()
    return float((a.mean(0) - b.mean(0)).norm() / spread.clamp(min=1e-30))


def measure(
    model: Model, anchors: Mapping[str, Anchors], baselines: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Per earlier modality: debiased CKA, centred cosine and shift of features now against then, the masked loss now and then.

    Args:
        baselines: the loss of predicting the mean, of each modality.
    """
    report = {}
    for modality, reference in anchors.items():
        current = anchors_of(model, modality, reference.samples)
        report[modality] = {
            "cka": cka(current.features, reference.features),
            "cosine": centred_cosine(current.features, reference.features),
            "shift": shift(current.features, reference.features),
            "loss": current.loss,
            "loss_then": reference.loss,
            "relative_then": reference.loss / (baselines.get(modality) or 1.0),
            "anchors": float(len(reference.samples)),
        }
    return report


def learned(row: Mapping[str, float]) -> bool:
    """Was anything learned of a modality at the end of its own stage? What was not cannot be forgotten.

    Args:
        row: of `measure`; its relative_then is the loss of then on the anchors, 1 that of predicting the mean.
    """
    return row.get("relative_then", 0.0) < LEARNED


def unlearned(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The modalities of which nothing was learned, with the relative loss of their own stage."""
    last = history[-1].get("retention", {}) if history else {}
    return {m: row["relative_then"] for m, row in last.items() if not learned(row)}


def similarity(row: Mapping[str, float]) -> float:
    """The lower of debiased CKA and centred cosine, of which each alone can be high where a head no longer works."""
    return min((value for key in ("cka", "cosine") if (value := row.get(key)) is not None), default=math.nan)


def lowest(history: Sequence[Mapping[str, Any]]) -> tuple[str, float] | None:
    """The modality that is remembered least after the last stage, and its similarity; None before a second stage."""
    last = history[-1] if history else {}
    earlier = {m: similarity(row) for m, row in last.get("retention", {}).items() if m not in parts(last)}
    return min(earlier.items(), key=lambda item: item[1]) if earlier else None


def rows(history: Sequence[Mapping[str, Any]], value: str = "similarity") -> list[list[str]]:
    """The table modalities x stages: a line per modality, a column per stage, empty before its own stage.

    Args:
        value: "similarity", or a key of `measure`.

    A loss is relative to the loss of predicting the mean, as in the progress bar of training. A modality whose loss was
    never below `LEARNED` is marked "(learned nothing)".
    """
    about = {m: part for stage in history for m, part in parts(stage).items()}
    last = history[-1].get("retention", {}) if history else {}
    unit = {m: _mean(part, last.get(m, {})) if value == "loss" else 1.0 for m, part in about.items()}
    cell = {m: [_value(stage.get("retention", {}).get(m, {}), value) for stage in history] for m in unit}
    return [
        [named(m, last.get(m, {})), *("" if x is None else f"{x / unit[m]:.3f}" for x in line)]
        for m, line in cell.items()
    ]


def named(modality: str, row: Mapping[str, float]) -> str:
    """How a table or a picture calls a modality: "ct (learned nothing)" where that is so."""
    return modality if learned(row) else f"{modality} (learned nothing)"


def _mean(part: Mapping[str, Any], row: Mapping[str, float]) -> float:
    """The loss of predicting the mean; 1 where it is not kept."""
    then, relative = row.get("loss_then"), row.get("relative_then")
    return part.get("baseline") or (then / relative if then and relative else 1.0)


def _value(row: Mapping[str, float], value: str) -> float | None:
    return (similarity(row) if row else None) if value == "similarity" else row.get(value)


def write(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """retention.json and retention.png: numbers and modalities only, shareable."""
    stages = [
        {
            "stage": s["stage"],
            "modality": s["modality"],
            **({"modalities": {m: {} for m in parts(s)}} if "modalities" in s else {}),
            "retention": s.get("retention", {}),
        }
        for s in history
    ]
    lowest_row = lowest(history)
    summary = {
        "stages": stages,
        "learned_nothing": unlearned(history),
        "lowest": None if lowest_row is None else {"modality": lowest_row[0], "similarity": lowest_row[1]},
    }
    atomic.write(folder / "retention.json", json.dumps(summary, indent=2).encode())
    atomic.write(folder / "retention.png", _picture(history))


def _picture(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Similarity and masked loss (relative to its own stage) of every modality over the stages, as PNG."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    names = [stage["modality"] for stage in history]
    for modality in dict.fromkeys(m for stage in history for m in parts(stage)):
        measured = [
            (i, stage["retention"][modality])
            for i, stage in enumerate(history)
            if modality in stage.get("retention", {})
        ]
        at = [i for i, _ in measured]
        label = named(drawable(modality), measured[-1][1] if measured else {})
        left.plot(at, [similarity(row) for _, row in measured], marker="o", label=label)
        right.plot(at, [row["loss"] / row["loss_then"] for _, row in measured], marker="o", label=drawable(modality))
    words = "lower of debiased CKA and centred cosine"
    left.set(title="Features now against then (1: unchanged)", ylabel=words, ylim=(min(0, left.get_ylim()[0]), 1.05))
    low, high = right.get_ylim()  # a change of a thousandth shall not look like one of a half
    limits = min(low, 0.9), max(high, 1.1)
    right.set(title="Masked loss now against then", ylabel="ratio (1: unchanged)", ylim=limits)
    for axes in (left, right):
        labels = [f"{i + 1} {name}" for i, name in enumerate(names)]
        axes.set_xticks(range(len(names)), labels, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_xlabel("after stage")
        axes.grid(alpha=0.3)
    left.legend(title="anchors of", fontsize="small", loc="lower left")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    return out.getvalue()
