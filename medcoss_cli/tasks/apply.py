"""A fine-tuned network on samples as they are read: classes with probabilities, or labels on the sample's own grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medcoss_cli.data.read import encode
from medcoss_cli.data.segmented import levels_of, on_grid
from medcoss_cli.model.tuned import Tuned, finite
from medcoss_cli.model.windows import memory, predict_labels
from medcoss_cli.plugin import Modality, Sample
from medcoss_cli.postprocess import largest_organ
from medcoss_cli.screen import Bar
from medcoss_cli.task import Task

Array = np.ndarray[Any, Any]


@torch.no_grad()
def classify(modality: Modality, network: Callable[[Tensor], Tensor], sample: Sample, device: torch.device) -> Array:
    """Probabilities (c,) of one sample. Raises: NumbersError where they are not finite."""
    integers, scale, offset = encode(modality, sample)
    assert modality.intensity is not None
    stored = torch.from_numpy(integers)[None].to(device)
    inputs = modality.intensity.decode(
        stored, torch.tensor([scale], device=device), torch.tensor([offset], device=device)
    )
    probabilities: Array = finite(network(inputs)[0].float()).softmax(0).cpu().numpy()
    return probabilities


def segment(
    task: Task, modality: Modality, network: Tuned, sample: Sample, device: torch.device, bar: Bar | None = None
) -> Array:
    """Labels (*size) uint8 on the sample's own grid: 0 background, 1 the first class."""
    integers, scale, offset, _ = on_grid(modality, task.layout, sample)
    intensity = modality.intensity
    assert intensity is not None

    def slices(first: int, end: int) -> Tensor:
        part = torch.from_numpy(np.array(integers[:, first:end])).to(device)[None]
        return intensity.decode(part, torch.tensor([scale], device=device), torch.tensor([offset], device=device))[0]

    rules = {key: task.predict[key] for key in ("overlap", "mirror", "pad")}
    assert task.values is not None
    levels = levels_of(task.values)
    network.eval()
    labels = predict_labels(network, slices, integers.shape[1:], tuple(task.size), levels=levels, bar=bar, **rules)
    labels = task.layout.frame(sample).restore(labels)
    return largest_organ(labels) if task.predict["postprocess"] == "largest_organ" else labels


def bytes_needed(task: Task, shape: tuple[int, ...], channels: int) -> int:
    """About how much memory the masks of a sample of this shape on the network's grid need."""
    return memory(shape, channels, tuple(task.size), len(task.classes))
