"""What the two kinds of task share, as training sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from medcoss_cli.model.finetuned import Tuned

Scores = dict[str, float]


class Lesson(Protocol):
    """A task with its training and validation data."""

    cases: int
    """Training samples."""

    def batch(self, seed: int, step: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a training step, augmented; a function of seed and step alone."""
        ...

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """A scalar."""
        ...

    def validate(self, network: Tuned, device: torch.device) -> Scores | None:
        """Metrics and loss on the validation data, None where there is none; see `criterion`."""
        ...


def criterion(scores: Mapping[str, float]) -> float:
    """What the best state is chosen by: ACC + AUC + F1 for classes, Dice for masks (the paper's rule)."""
    if "dice" in scores:
        return scores["dice"]
    return sum(value for key in ("accuracy", "auc_ovo", "f1") if (value := scores[key]) == value)


def order(seed: int, size: int, step: int, n: int) -> list[int]:
    """Places of a step's samples: all n in random order, then again; without replacement within a pass."""
    from medcoss_cli.randomness import generator

    places = range(step * size, (step + 1) * size)
    passes = {p // n: torch.randperm(n, generator=generator(seed, "order", p // n)).tolist() for p in places}
    return [passes[p // n][p % n] for p in places]
