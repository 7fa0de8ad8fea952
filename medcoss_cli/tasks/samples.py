"""Samples of one fixed size with one target each, as training sees them; torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medcoss_cli.data.batches import read_rows
from medcoss_cli.data.labelled import Case
from medcoss_cli.data.prepared import PreparedSet
from medcoss_cli.data.recordings import parts_of
from medcoss_cli.model.finetuned import TaskNetwork
from medcoss_cli.model.outputs import Array, Network, finite
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.randomness import generator
from medcoss_cli.tasks import Scores
from medcoss_cli.tasks.augmentation import Augment, nothing

CHUNK = 64  # samples at a time in validation


class SampleData:
    """Training and validation samples with their targets; see `TaskData`.

    Args:
        cases: in the order of the records the set was prepared from.
        targets: of each prepared sample, a number or a class's number.
        augment: of a batch of inputs; None: the modality's own augmentation, on the stored integers.
        loss: outputs and targets of a batch to a scalar.
        score: outputs and targets of the validation samples, and the parts of each recording among them, to metrics and loss.
        begin: what a new head begins with, see `TaskData.initialise`.
    """

    def __init__(
        self,
        modality: CompleteModality,
        prepared: PreparedSet,
        cases: Sequence[Case],
        targets: Array,
        augment: Augment | None,
        loss: Callable[[Tensor, Tensor], Tensor],
        score: Callable[[Array, Array, Sequence[Sequence[int]]], Scores],
        begin: Callable[[nn.Module], None],
    ) -> None:
        self.modality, self.prepared, self.augment, self.targets = modality, prepared, augment, targets
        self.features: Tensor | None = None
        self.loss, self.score, self.initialise = loss, score, begin
        self.kept = [cases[record] for record in prepared.records]
        self.train, self.val = self.rows("train"), self.rows("val")
        self.cases, self.data_hash = len(self.train), prepared.data_hash

    def rows(self, split: str) -> Array:
        """Numbers of the rows of a split."""
        return np.array([i for i, case in enumerate(self.kept) if case.split == split], dtype=np.int64)

    def _inputs(self, rows: Array, device: torch.device, key: tuple[int | str, ...] | None = None) -> Tensor:
        integers, scale, offset = map(torch.from_numpy, read_rows(self.modality, self.prepared, rows))
        if key is not None and self.augment is None:
            augment = self.modality.augment
            integers = torch.cat(
                [augment(integers[i : i + 1], generator(*key, "augment", i)) for i in range(len(integers))]
            )
        return self.modality.intensity.decode(*(part.to(device) for part in (integers, scale, offset)))

    def inputs(self, rows: Array) -> Tensor:
        """Inputs of these rows on the CPU, nothing augmented."""
        return self._inputs(rows, torch.device("cpu"))

    @property
    def is_steady(self) -> bool:
        """Is a sample the same in every batch?"""
        return self.augment is nothing

    def encode(self, features: Callable[[Tensor], Tensor], device: torch.device) -> None:
        """Compute the features (N, D) of all samples once, where an encoder stays as it is: `batch` then gives them."""
        cuts = range(0, len(self.targets), CHUNK)
        parts = [features(self._inputs(np.arange(i, min(i + CHUNK, len(self.targets))), device)) for i in cuts]
        self.features = torch.cat(parts)

    def batch(self, seed: int, step: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Inputs (N, C, *size), or ids (N, L), or features (N, D) behind `encode`, and targets (N,)."""
        rows = self.train[order(seed, size, step, self.cases)]
        if self.features is not None:
            return self.features[rows], torch.from_numpy(self.targets[rows]).to(device)
        inputs = self._inputs(rows, device, (seed, step))
        if self.augment is not None:
            inputs = self.augment(inputs, (seed, step))
        return inputs, torch.from_numpy(self.targets[rows]).to(device)

    def outputs(self, network: Network, rows: Array) -> Array:
        """What a network gives (n, c), nothing augmented. Raises: NonFiniteError where it is not finite."""
        parts = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
        return finite(np.concatenate([network(self.inputs(part).numpy()) for part in parts]))

    def parts(self, rows: Array) -> list[list[int]]:
        """Places among these rows of the parts of each recording."""
        return parts_of([record for row in rows if (record := self.kept[row].record) is not None])

    def validate(self, network: TaskNetwork, device: torch.device) -> Scores | None:
        """Metrics and the loss on the validation samples."""
        if not len(self.val):
            return None
        if self.features is None:
            outputs = self.outputs(network.on(device), self.val)
        else:
            with torch.no_grad():
                outputs = finite(network.eval().head(self.features[self.val]).float().cpu().numpy())
        return self.score(outputs, self.targets[self.val], self.parts(self.val))


def order(seed: int, size: int, step: int, n: int) -> list[int]:
    """Places of a step's samples: all n in random order, then again; without replacement within a pass."""
    places = range(step * size, (step + 1) * size)
    passes = {p // n: torch.randperm(n, generator=generator(seed, "order", p // n)).tolist() for p in places}
    return [passes[p // n][p % n] for p in places]
