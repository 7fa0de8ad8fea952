"""What a fine-tuned network needs beside its weights to be used again: the task, in plain values. No torch in here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from medcoss_cli.data.geometry import Layout


@dataclass(frozen=True)
class TaskSpec:
    """Plain values only; holds no sample, name or path.

    Args:
        kind, settings: the kind of task and its own settings, as the recipe's `task` has them.
        classes: names in order, empty where the kind has none.
        target: what the kind keeps about its targets: see `TaskKind.fit_target`.
        size: what the network sees: an image, a text's length, or a patch of a volume.
        spacing, crop: how volumes are brought to the network's grid; see Layout.
        intensity: None: the modality's own; else how values are normalised: {"zscore": true} or the numbers of `Fixed`.
        predict: the recipe's `predict`: overlap, mirror, pad, postprocess.
        encoder: its dimensions; of a network of others its `network` as `model.foreign` builds it, `title` and `width`.
        head: layers, pool, features, hybrid (layers of the residual network, or None), frozen.
        plugin: fingerprint of the modality as the task reads it.
        reading: settings of its loader, as the recipe's `data` has them.
    """

    kind: str
    settings: dict[str, Any]
    title: str
    modality: str
    classes: list[str]
    target: dict[str, Any]
    tokenizer: str
    tokenizer_spec: dict[str, Any]
    vocabulary: str | None
    size: list[int]
    spacing: list[float] | None
    crop: bool
    intensity: dict[str, Any] | None
    predict: dict[str, Any]
    encoder: dict[str, Any]
    head: dict[str, Any]
    plugin: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """As it is stored beside the weights."""
        return asdict(self)

    @property
    def layout(self) -> Layout:
        """How samples are brought to the network's grid: images to its size, volumes to a spacing."""
        if len(self.size) < 3:
            return Layout(tuple(self.size), None, self.crop)
        return Layout(None, tuple(self.spacing) if self.spacing else None, self.crop)
