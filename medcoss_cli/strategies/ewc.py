"""Elastic weight consolidation (Kirkpatrick et al. 2017): weights that mattered to earlier stages are held in place.

After stage t every weight w has an importance F_t(w) and a place w*_t, and later stages add the penalty
lambda / 2 sum_t F_t (w - w*_t)^2. Its gradient is lambda (A w - b) with A = sum F_t and b = sum F_t w*_t, so that any
number of stages needs two numbers a weight. The online form (Schwarz et al. 2018) lets earlier ones fade by gamma.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from medcoss_cli.errors import CheckpointError
from medcoss_cli.model.multimodal import Model
from medcoss_cli.strategies import Samples, StageInfo, Strategy, check_tensors


class EWC(Strategy):
    """New data is reconstructed; nothing is rehearsed, encoder and tokenizers are pulled to where earlier stages left them."""

    class Settings(Strategy.Settings):
        """How strong the pull is, and what it is estimated from."""

        weight: float = Field(1.0, ge=0, description="lambda, strength of the pull; the importance is 1 on average")
        samples: int = Field(1024, ge=1, description="samples of a stage's data that the importance is estimated from")
        gamma: float = Field(1.0, gt=0, le=1, description="what earlier importance is worth a stage later; 1: as much")

    settings: Settings
    plain_first_stage = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.importance: dict[str, Tensor] = {}  # A
        self.target: dict[str, Tensor] = {}  # b

    def begin_stage(self, model: Model, stage: StageInfo) -> None:
        """Raises: CheckpointError where earlier stages left no importance."""
        if stage.number > 1 and not self.importance:
            raise CheckpointError(
                "the earlier stages were not trained with ewc, so nothing says which weights mattered to them",
                fix="train them with strategy=ewc, or choose another strategy",
            )
        device = model.encoder.cls.device
        self.importance = {name: tensor.to(device) for name, tensor in self.importance.items()}
        self.target = {name: tensor.to(device) for name, tensor in self.target.items()}

    def decay(self, name: str, parameter: nn.Parameter) -> Tensor | None:
        """Decoupled decay knows no importance: it would pull what is held in place to 0."""
        return self.importance[name] == 0 if name in self.importance else None

    @torch.no_grad()
    def after_backward(self, model: Model) -> None:
        """The penalty's gradient, lambda (A w - b), where the step has a gradient.

        Gradients have been divided by the step's count already, so the pull does not depend on ranks and micro-batches.
        """
        for name, parameter in model.shared_parameters():
            if name in self.importance and parameter.grad is not None:
                pull = self.importance[name] * parameter - self.target[name]
                parameter.grad.add_(pull, alpha=self.settings.weight)

    def end_stage(self, model: Model, samples: Samples) -> None:
        fisher, gamma = normalised(diagonal_fisher(model, samples, self.settings.samples)), self.settings.gamma
        places = dict(model.shared_parameters())
        for name, importance in fisher.items():
            product = importance * places[name].detach()
            if name in self.importance:
                importance = gamma * self.importance[name] + importance
                product = gamma * self.target[name] + product
            self.importance[name], self.target[name] = importance, product
        for name in self.importance.keys() - fisher.keys():  # parts that this stage had no use for
            self.importance[name], self.target[name] = gamma * self.importance[name], gamma * self.target[name]

    def memory(self) -> dict[str, Any]:
        return {"importance": self.importance, "target": self.target}

    def load_memory(self, memory: dict[str, Any]) -> None:
        self.importance, self.target = dict(memory["importance"]), dict(memory["target"])
        if self.importance.keys() != self.target.keys():
            raise ValueError("importance and target are of different weights")

    def check_memory(self, model: Model) -> None:
        shared = dict(model.shared_parameters())
        if not self.importance.keys() <= shared.keys():
            raise ValueError("importance of weights that the model does not have")
        for kept in (self.importance, self.target):
            check_tensors(kept, shared, torch.float32)


def diagonal_fisher(model: Model, samples: Samples, count: int) -> dict[str, Tensor]:
    """Mean over samples of the squared gradient of each sample's own loss, by parameter of encoder and tokenizers.

    A sample's loss is the mean over its hidden patches or words. Samples come one by one: the square of a batch's mean
    gradient would be too small by about the size of the batch.
    """
    parameters = dict(model.shared_parameters())
    sums: dict[str, Tensor] = {}
    seen = 0
    for batch in samples(count, batch=1):
        model.zero_grad(set_to_none=True)
        value, counted = model.masked_loss(batch)
        (value / counted).backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        seen += 1
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                square = parameter.grad.float().square()
                sums[name] = sums[name] + square if name in sums else square
    return {name: total / seen for name, total in sums.items()}


def normalised(fisher: dict[str, Tensor]) -> dict[str, Tensor]:
    """Divided by the mean over all entries that are not 0, so that lambda means alike for every loss and size."""
    total = sum(float(part.double().sum()) for part in fisher.values())
    nonzero = sum(int(part.count_nonzero()) for part in fisher.values())
    return {name: part * (nonzero / total) for name, part in fisher.items()} if total > 0 else fisher
