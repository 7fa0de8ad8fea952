"""A trained network on samples as they are read: classes with probabilities, or labels on the sample's own grid.

numpy alone: whether torch or an exported file computes is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medcoss_cli.console import Bar
from medcoss_cli.data.read import encode
from medcoss_cli.data.segmented import levels_of, on_grid
from medcoss_cli.finetuning.postprocess import largest_organ
from medcoss_cli.finetuning.spec import Task
from medcoss_cli.model.outputs import Array, Network, finite, softmax
from medcoss_cli.model.sliding_window import memory, predict_labels
from medcoss_cli.plugin import CompleteModality, Sample

Decode = Callable[[Array, float, float], Array]
"""Stored integers (N, C, *size), or ids (N, L), with scale and offset to what the network sees."""


@dataclass(frozen=True)
class Applied:
    """A network and what turns a sample into its inputs."""

    task: Task
    modality: CompleteModality
    network: Network
    decode: Decode

    def classify(self, sample: Sample) -> Array:
        """Probabilities (c,) of one sample. Raises: NumbersError where they are not finite."""
        integers, scale, offset = encode(self.modality, sample)
        return softmax(finite(self.network(self.decode(integers[None], scale, offset))[0]))

    def segment(self, sample: Sample, bar: Bar | None = None) -> Array:
        """Labels (*size) uint8 on the sample's own grid: 0 background, 1 the first class. Raises: as `classify`."""
        task = self.task
        integers, scale, offset, _ = on_grid(self.modality, task.layout, sample)

        def slices(first: int, end: int) -> Array:
            inputs: Array = self.decode(np.array(integers[None, :, first:end]), scale, offset)[0]
            return inputs

        rules = {key: task.predict[key] for key in ("overlap", "mirror", "pad")}
        assert task.values is not None
        levels, window = levels_of(task.values), tuple(task.size)
        labels: Array = predict_labels(
            self.network, slices, integers.shape[1:], window, levels=levels, bar=bar, **rules
        )
        labels = task.layout.frame(sample).restore(labels)
        if task.predict["postprocess"] == "largest_organ":
            labels = largest_organ(labels)
        return labels

    def bytes_needed(self, sample: Sample) -> tuple[int, tuple[int, ...]]:
        """About how much memory the masks of a sample need, and its shape on the network's grid."""
        shape = self.task.layout.frame(sample).after
        return memory(shape, self.modality.channels, tuple(self.task.size), len(self.task.classes)), shape
