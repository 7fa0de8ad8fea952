"""Strategies: how old knowledge is kept while a new stage runs.

A strategy never sees files, command line or devices. It overrides what is different from plain training; a third party
brings its own through the entry-point group `medcoss.strategies`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from medcoss_cli.model.batch import Batch
from medcoss_cli.model.multimodal import Model

Loss = tuple[Tensor, Tensor | int]
"""A sum and a count: the engine adds them up over ranks and micro-batches and divides once."""


class Strategy:
    """Plain training on the new data alone; subclasses say what is done for the old.

    Args:
        mixup: whether rehearsal batches come with partners to mix with.
    """

    rehearses = True
    """False: the buffer is not used, every step trains on new data."""

    def __init__(self, mixup: bool = True) -> None:
        self.mixup = mixup

    def begin_stage(self, model: Model) -> None:
        """The model as the stage before left it, with the new modality's parts already added."""

    def parameters(self, model: Model) -> Iterator[tuple[str, nn.Parameter]]:
        """What is trained: encoder, tokenizers and the new decoder get gradients, the kept decoders get none."""
        yield from model.named_parameters()

    def loss(self, model: Model, batch: Batch) -> Loss:
        """The loss of one batch of one modality."""
        return model.masked_loss(batch)

    def after_backward(self, model: Model) -> None:
        """Gradients are complete and averaged; the optimiser has not yet moved."""

    def end_stage(self, model: Model) -> None:
        """The stage's steps are done."""

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that resuming inside a stage needs beyond the model and its start."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave, after `begin_stage`."""
