"""Strategies: how old knowledge is kept while a new stage runs.

A strategy is one object a run, made from its settings; it never sees files, command line or devices. It overrides what
differs from plain training. A third party brings its own through the entry-point group `medcoss.strategies`.

The members in the order of their calls: `load_memory` and `check_memory`, then for every stage `begin_stage`, `phases`, for
every phase `Phase.on_begin`, `parameters` and `decay`, for every step `loss` (once per micro-batch), `after_backward`,
`after_step`; then `end_stage`, `memory` and `serving`. `state` and `load_state` are called where a run is interrupted and
resumed inside a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from medcoss_cli.model.batch import Batch
from medcoss_cli.model.multimodal import Model

Loss = tuple[Tensor, Tensor | int]
"""A sum and a count: the engine adds them up over ranks and micro-batches and divides once."""

Losses = Loss | list[Loss]
"""One term, or several that count different things: each is divided by its own count, the quotients are added up."""


def terms(losses: Losses) -> list[Loss]:
    """The terms of a loss, one or several."""
    return losses if isinstance(losses, list) else [losses]


@dataclass(frozen=True)
class StageInfo:
    """What a strategy knows of a stage.

    Args:
        number: counted from 1 over the whole life of the encoder, extensions included.
        total: how many stages there will be; None where nobody knows (`extend`).
        modalities: those whose new data the stage trains on.
        new: those of them that the model sees for the first time.
        kept: samples of the stage that `rehearsal.ratio` keeps.
    """

    number: int
    total: int | None
    modalities: tuple[str, ...]
    new: tuple[str, ...]
    kept: int = 0


@dataclass(frozen=True)
class Phase:
    """A part of a stage with an optimiser of its own (no momentum is carried over).

    The learning rate follows one schedule, with one warm-up, over the whole stage: a later phase goes on where the
    earlier one left it, and so ends at 0 as every stage does.

    Args:
        share: of the stage's steps; the shares of a stage add up to 1.
        on_begin: called with the model before the phase's optimiser is made. Where a run is resumed it is called again
            for every phase that had begun; model, `load_state` and optimiser are restored after that.
    """

    share: float = 1.0
    on_begin: Callable[[Model], None] | None = None


class Samples(Protocol):
    """Draws from the stage's own training data, for what is estimated at its end."""

    def __call__(self, count: int = 1024, batch: int = 1) -> Iterator[Batch]:
        """`count` samples (all, if there are fewer) without replacement, in batches of one modality.

        Several modalities are drawn in proportion to their size. Nothing is augmented; every sample has a mask of its
        own. The draw is a function of seed and stage, and the same on every rank.
        """
        ...


class Strategy:
    """Plain training on new data; subclasses say what is done for the old."""

    class Settings(BaseModel):
        """No settings. A subclass has a field for each key that a recipe may give, with a default and a description."""

        model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    rehearses = False
    """True: steps on samples of the buffer come between those on new data, and `loss` says what is done with them."""
    selection: Literal["kmeans", "random"] = "kmeans"
    """How samples are chosen for the buffer where the recipe does not say."""
    single_stage = False
    """True: recipes of several stages are refused, and so is `extend`."""
    plain_first_stage = False
    """True: the very first stage is trained to the same bits as by `Strategy` itself, so that a comparison trains it once."""
    trains_decoders = False
    """True: decoders of earlier modalities are trained on, so that retention no longer measures their loss alike."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def partners(self) -> bool:
        """Whether rehearsal batches come with partners to mix with (`Batch.mixup`)."""
        return False

    def begin_stage(self, model: Model, stage: StageInfo) -> None:
        """The model as the stage before left it, with the parts of the new modalities already added."""

    def phases(self, stage: StageInfo) -> Sequence[Phase]:
        """The parts of the stage, in order."""
        return [Phase()]

    def parameters(self, model: Model) -> Iterator[tuple[str, nn.Parameter]]:
        """What is trained: encoder, tokenizers and the new decoders get gradients, the kept decoders get none."""
        yield from model.named_parameters()

    def decay(self, name: str, parameter: nn.Parameter) -> Tensor | None:
        """Where weight decay moves one of the `parameters` that are matrices: bool of its shape; None: everywhere.

        Asked for at the beginning of every phase, after its `on_begin`.
        """
        return None

    def loss(self, model: Model, batch: Batch) -> Losses:
        """The loss of one batch of one modality: a sum and the count it is to be divided by; or several such terms.

        Of several terms the first is the one that is shown. All are divided over ranks by the count of the whole batch;
        where a batch is cut into micro-batches the further terms are averaged with the first one's counts.
        """
        return model.masked_loss(batch)

    def after_backward(self, model: Model) -> None:
        """Gradients are complete and averaged; the optimiser has not yet moved."""

    def after_step(self, model: Model) -> None:
        """The optimiser has moved, weight decay included; parameters may be restored under `torch.no_grad`."""

    def end_stage(self, model: Model, samples: Samples) -> None:
        """The stage's steps are done; the model is in eval mode and float32, gradients are cleared afterwards."""

    def serving(self, model: Model, modality: str) -> AbstractContextManager[None]:
        """Within it the model is as it serves this modality: retention is measured there, after `end_stage`."""
        return nullcontext()

    def memory(self) -> dict[str, Any]:
        """Tensors and plain values that later stages and `extend` need; the checkpoint keeps them. Called after `end_stage`."""
        return {}

    def load_memory(self, memory: dict[str, Any]) -> None:
        """Take back what `memory` gave, before `begin_stage`. Tensors are on the CPU; not called where there is none."""

    def check_memory(self, model: Model) -> None:
        """Raises: ValueError where what `load_memory` took back is not of this model, so that no step fails on it."""

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that resuming inside a stage needs beyond the model, its start and the memory."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave, after `begin_stage` and the `on_begin` of the phases that had begun."""


def check_tensors(kept: Mapping[str, Any], like: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Compare what was kept by the names of weights with those weights; names that only one of both has are passed over.

    Raises: ValueError for what is no tensor of the weight's shape, or of another dtype than the given one.
    """
    for name, tensor in kept.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or dtype not in (None, tensor.dtype):
            raise ValueError(f"{name} is no {dtype or 'tensor'}")
        if name in like and tensor.shape != like[name].shape:
            raise ValueError(f"{name} has another shape")
