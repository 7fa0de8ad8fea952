"""What `load` gives: features of files, arrays and tensors, and predictions where there is a head for a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from medcoss_cli.data.read import encode
from medcoss_cli.embed import BATCH
from medcoss_cli.errors import UsageError
from medcoss_cli.model.outputs import Array, finite
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.python.arrays import inputs_of
from medcoss_cli.python.inputs import grouped, samples_of
from medcoss_cli.tasks.predictor import Decode, Predictor

if TYPE_CHECKING:
    from torch import Tensor

Network = Callable[[Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Loaded:
    """A checkpoint, a fine-tuned run or an exported file, ready to be used.

    Args:
        source: what was loaded, as it was given.
        modalities: what it knows, by name; a modality has `title`, `size`, `channels` and `intensity`.
        classes: of the task, in order; empty without a head.
    """

    source: str
    modalities: Mapping[str, CompleteModality]
    classes: Sequence[str] = ()
    _networks: Callable[[str], tuple[Network, Decode]] | None = field(default=None, repr=False)
    _predictor: Predictor | None = field(default=None, repr=False)

    def embed(
        self,
        inputs: Any,
        modality: str | None = None,
        *,
        spacing: Sequence[float] | None = None,
        names: bool = False,
    ) -> Any:
        """Features (N, D) float32, one row for each input.

        Args:
            inputs: a path, an array or a text, or a list or table column of them. A folder gives a row for each of its
                files, a table of texts one for each of its rows; the rows of a volume that is read in several windows are
                averaged. An array is (*size) or (C, *size), of any size, in the unit of the modality's files.
            modality: may be left out where there is one.
            spacing: mm per axis of arrays.
            names: also return what each row is of: (names, features).

        Raises: DataError for what cannot be read or cannot be right, UsageError where there are no features.
        """
        part = self._modality(modality)
        network, decode = self._network(part.name)
        labels, rows, counts = list[str](), list[Array](), list[int]()
        samples = samples_of(part, inputs, spacing)
        while batch := list(islice(samples, BATCH)):
            stored = [encode(part, sample) for _, sample in batch]
            arrays = [decode(integers[None], scale, offset) for integers, scale, offset in stored]
            _, pooled = network(np.concatenate(arrays))
            for (name, _), row in zip(batch, pooled, strict=True):
                if labels and labels[-1] == name:  # another window of the same file
                    counts[-1] += 1
                    rows[-1] = rows[-1] + (row - rows[-1]) / counts[-1]
                else:
                    labels, rows, counts = [*labels, name], [*rows, row], [*counts, 1]
        features = finite(np.stack(rows)) if rows else np.zeros((0, 0), np.float32)
        return (labels, features) if names else features

    def features(self, tensor: Tensor, modality: str | None = None, *, tokens: bool = False) -> Tensor:
        """Pooled features (N, D) of a batch as the encoder sees it: (N, C, *size) normalised, or ids (N, L).

        Args:
            tokens: features of the tokens (N, L, D) instead, the cls token first where there is one.

        Raises: UsageError for another shape or range. No gradient flows.
        """
        import torch

        part = self._modality(modality)
        network, _ = self._network(part.name)
        outputs = network(inputs_of(part, tensor))
        return torch.from_numpy(outputs[0 if tokens else 1]).to(tensor.device)

    def predict(self, inputs: Any, *, spacing: Sequence[float] | None = None) -> list[dict[str, Any]]:
        """One dict for each input: `input`, and `predicted` with `p_CLASS`, or `labels` on the sample's own grid.

        Args:
            inputs: as `embed` takes them.
            spacing: mm per axis of arrays; a segmentation of volumes needs it.

        Raises: UsageError without a head for a task, DataError as `embed`.
        """
        if self._predictor is None:
            raise UsageError(
                "it has no head for a task", where=self.source, fix="fine-tune one: medcoss_cli.finetune(...)"
            )
        predictor, rows = self._predictor, list[dict[str, Any]]()
        for name, samples in grouped(samples_of(predictor.modality, inputs, spacing)):
            parts = [predictor.kind.predict(predictor, sample) for sample in samples]
            row = predictor.kind.combine(predictor.spec, parts) if len(parts) > 1 else None
            results = [row] if row is not None else [part.row or {"labels": part.outputs} for part in parts]
            rows += [{"input": name, **columns} for columns in results]
        return rows

    def _modality(self, name: str | None) -> CompleteModality:
        if name is None and len(self.modalities) == 1:
            return next(iter(self.modalities.values()))
        if name is not None and name in self.modalities:
            return self.modalities[name]
        names = ", ".join(self.modalities)
        what = "which modality is not said" if name is None else f"it does not know {name!r}"
        raise UsageError(f"{what}; it knows {names}", where=self.source, fix=f"give modality={names.split(',')[0]!r}")

    def _network(self, name: str) -> tuple[Network, Decode]:
        if self._networks is None:
            raise UsageError(
                "this file gives predictions, not features", where=self.source, fix="export one with --modality"
            )
        return self._networks(name)
