"""Classes: a prepared set of one fixed size, cross-entropy, ACC, AUC and F1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medcoss_cli.data.labelled import Case
from medcoss_cli.data.prepared import PreparedSet
from medcoss_cli.data.recordings import averaged, parts_of
from medcoss_cli.metrics import classification
from medcoss_cli.model.finetuned import Tuned
from medcoss_cli.model.outputs import Array, finite, softmax
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.randomness import generator
from medcoss_cli.tasks.lesson import Scores, order

CHUNK = 64  # samples at a time in validation
View = Callable[[Tensor, tuple[int | str, ...]], Tensor]


class Classification:
    """Training and validation samples with their classes.

    Args:
        cases: in the order of the records the set was prepared from.
        view: augments a batch of inputs; None: the modality's own augmentation, on the stored integers.
        balance: weight classes by how rare they are.
    """

    def __init__(
        self,
        modality: CompleteModality,
        prepared: PreparedSet,
        cases: Sequence[Case],
        classes: Sequence[str],
        view: View | None,
        *,
        balance: bool,
    ) -> None:
        self.modality, self.prepared, self.view, self.classes = modality, prepared, view, classes
        self.kept = [cases[record] for record in prepared.records]
        self.labels = np.array([classes.index(str(case.label)) for case in self.kept])
        self.train, self.val = self.rows("train"), self.rows("val")
        self.cases = len(self.train)
        counts = np.bincount(self.labels[self.train], minlength=len(classes))
        self.shares = counts / max(1, self.cases)
        weight = self.cases / (len(classes) * np.maximum(counts, 1))
        self.weight = torch.tensor(weight, dtype=torch.float32) if balance else None

    def rows(self, split: str) -> Array:
        """Numbers of the rows of a split."""
        return np.array([i for i, case in enumerate(self.kept) if case.split == split], dtype=np.int64)

    def _inputs(self, rows: Array, device: torch.device, key: tuple[int | str, ...] | None = None) -> Tensor:
        integers, scale, offset = (torch.from_numpy(part) for part in self.prepared.read(rows))
        augment, intensity = self.modality.augment, self.modality.intensity
        assert augment is not None
        assert intensity is not None
        if key is not None and self.view is None:
            integers = torch.cat(
                [augment(integers[i : i + 1], generator(*key, "augment", i)) for i in range(len(integers))]
            )
        return intensity.decode(*(part.to(device) for part in (integers, scale, offset)))

    def batch(self, seed: int, step: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Inputs (N, C, *size), or ids (N, L), and classes (N,)."""
        rows = self.train[order(seed, size, step, self.cases)]
        inputs = self._inputs(rows, device, (seed, step))
        if self.view is not None:
            inputs = self.view(inputs, (seed, step))
        return inputs, torch.from_numpy(self.labels[rows]).to(device)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, the mean over the batch."""
        weight = None if self.weight is None else self.weight.to(logits.device)
        return F.cross_entropy(logits.float(), targets, weight=weight)

    @torch.no_grad()
    def logits(self, network: Tuned, rows: Array, device: torch.device) -> Array:
        """Logits (n, c), in eval mode, nothing augmented. Raises: NumbersError where they are not finite."""
        network.eval()
        parts = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
        return finite(torch.cat([network(self._inputs(part, device)).float().cpu() for part in parts]).numpy())

    def probabilities(self, network: Tuned, rows: Array, device: torch.device) -> Array:
        """Probabilities (n, c)."""
        return softmax(self.logits(network, rows, device))

    def parts(self, rows: Array) -> list[list[int]]:
        """Places among these rows of the parts of each recording."""
        return parts_of([record for row in rows if (record := self.kept[row].record) is not None])

    def validate(self, network: Tuned, device: torch.device) -> Scores | None:
        """ACC, AUC and F1 of the validation recordings, and the loss on their rows."""
        if not len(self.val):
            return None
        logits, truth, parts = self.logits(network, self.val, device), self.labels[self.val], self.parts(self.val)
        loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(truth)).item()
        first = [own[0] for own in parts]
        return {**classification(averaged(softmax(logits), parts), truth[first]), "loss": loss}
