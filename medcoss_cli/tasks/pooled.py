"""Kinds of task with one target a sample, learned from the pooled feature: classes, a number.

A subclass says what a target is as a number, the loss, the metrics, and what is written of an output.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import Case, LabelledSet
from medcoss_cli.data.recordings import averaged
from medcoss_cli.errors import DataError
from medcoss_cli.metrics.intervals import bootstrap, group_numbers
from medcoss_cli.model.outputs import Array
from medcoss_cli.plugin import CompleteModality, Record, Sample
from medcoss_cli.tasks import Evaluation, Prediction, Scores, TaskKind
from medcoss_cli.tasks.predictor import Predictor
from medcoss_cli.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medcoss_cli.model.heads import Head
    from medcoss_cli.tasks.samples import SampleData


class PooledTask(TaskKind):
    """One target a sample. N samples, c outputs each."""

    # What a subclass has to say

    @abstractmethod
    def read(self, spec: TaskSpec, case: Case) -> float | int:
        """A case's target as a number: of a class its place among the classes. Raises: DataError."""

    @abstractmethod
    def width(self, spec: TaskSpec) -> int:
        """c, the head's outputs for one sample."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """A scalar of outputs (N, c) and targets (N,); `weight` is what `weights` gave."""

    @abstractmethod
    def score(self, outputs: Array, targets: Array) -> Scores:
        """Metrics of outputs (N, c), after `finish`, and targets (N,); NaN where one cannot be computed."""

    @abstractmethod
    def trivial(self, spec: TaskSpec) -> Array:
        """The baseline's outputs (c,), after `finish`: what is best predicted without looking at a sample."""

    @abstractmethod
    def row(self, spec: TaskSpec, output: Array) -> dict[str, Any]:
        """Columns of predictions.csv of one sample's outputs (c,), after `finish`."""

    # What it may say

    def finish(self, outputs: Array) -> Array:
        """The network's outputs (N, c) as they are scored and written, such as logarithms of probabilities; numpy alone."""
        return outputs

    def average(self, outputs: Array, parts: Sequence[Sequence[int]]) -> Array:
        """Outputs (n, c), after `finish`, of records as those of their recordings (recordings, c): the mean over the parts.

        Args:
            parts: of each recording the rows that are its own.
        """
        return averaged(outputs, parts)

    def weights(self, spec: TaskSpec, targets: Array) -> Tensor | None:
        """For `train.balance`: what the loss weights by, from the training targets."""
        return None

    def details(self, spec: TaskSpec, outputs: Array, targets: Array) -> dict[str, Any]:
        """More of a test's result that the report draws. Shareable: numbers and classes only."""
        return {}

    def initialise(self, head: nn.Module, spec: TaskSpec) -> None:
        """See `TaskData.initialise`."""

    # What is the same for all of them

    def check(self, recipe: Any) -> None:
        super().check(recipe)
        if (recipe.head.freeze or recipe.head.probe) and recipe.train.batch == 1:
            raise ValueError("a head on a frozen encoder needs train.batch of at least 2 (features are standardised)")

    def check_cases(self, spec: TaskSpec, cases: Sequence[Case]) -> None:
        for case in cases:
            self.read(spec, case)

    def axes(self, spec: TaskSpec) -> int:
        return 0

    def head(self, spec: TaskSpec, modality: CompleteModality) -> Head:
        from medcoss_cli.model.heads import ClassHead, Head

        norm = "batch" if spec.head["frozen"] else "none" if modality.tokenizer.spec.patch is None else "layer"
        return Head(ClassHead(spec.encoder["width"], self.width(spec), layers=spec.head["layers"], norm=norm))

    def data(self, spec: TaskSpec, labelled: LabelledSet, augment: str | None, *, balance: bool) -> SampleData:
        import torch

        from medcoss_cli.data.prepare import prepare
        from medcoss_cli.data.read import Listing
        from medcoss_cli.tasks.augmentation import of_batches
        from medcoss_cli.tasks.samples import SampleData

        listing = Listing(labelled.root, [case.record for case in labelled.cases if case.record is not None], [])
        prepared = prepare(
            labelled.modality,
            listing,
            labelled.prepared,
            workers=labelled.workers,
            bad_share=labelled.bad_share,
            screen=labelled.screen,
        )
        cases = [labelled.cases[record] for record in prepared.records]
        targets = np.array([self.read(spec, case) for case in cases])
        train = np.array([case.split == "train" for case in cases], bool)
        weight = self.weights(spec, targets[train]) if balance else None

        def score(outputs: Array, truth: Array, parts: Sequence[Sequence[int]]) -> Scores:
            loss = self.loss(torch.from_numpy(outputs), torch.from_numpy(truth)).item()
            first = [places[0] for places in parts]
            return {**self.score(self.average(self.finish(outputs), parts), truth[first]), "loss": loss}

        return SampleData(
            labelled.modality,
            prepared,
            labelled.cases,
            targets,
            of_batches(augment),
            loss=lambda outputs, truth: self.loss(outputs, truth, weight),
            score=score,
            begin=lambda head: self.initialise(head, spec),
        )

    def evaluate(self, predictor: Predictor, labelled: LabelledSet, seed: int) -> Evaluation:
        """See `TaskKind.evaluate`; samples are taken from the prepared set, so no case is lost here."""
        spec = predictor.spec
        data = self.data(spec, labelled, "none", balance=False)
        rows = data.rows("test")
        if not len(rows):
            raise DataError("no case of split 'test' can be used")
        parts = data.parts(rows)
        first = rows[[places[0] for places in parts]]
        outputs = self.average(self.finish(data.outputs(predictor.network, rows)), parts)
        targets, cases = data.targets[first], [data.kept[row] for row in first]
        trivial = np.repeat(self.trivial(spec)[None], len(first), axis=0)
        result = {
            "metrics": self.score(outputs, targets),
            "intervals": bootstrap(
                [case.group for case in cases], lambda sample: self.score(outputs[sample], targets[sample]), seed
            ),
            "baseline": self.score(trivial, targets),
            **self.details(spec, outputs, targets),
            "samples": len(first),
        }
        table = [
            {"where": case.where, self.target.column: case.target, **self.row(spec, output)}
            for case, output in zip(cases, outputs, strict=True)
        ]
        arrays = {"outputs": outputs, "targets": targets, "group": group_numbers([case.group for case in cases])}
        return Evaluation(result, table, [], arrays)

    def rescore(self, arrays: Mapping[str, Array]) -> Scores:
        return self.score(arrays["outputs"], arrays["targets"])

    def write(
        self, predictor: Predictor, sample: Sample, record: Record, target: Path, *, draw: bool, screen: Screen
    ) -> Prediction:
        """Columns of predictions.csv; no file of its own."""
        return self.predict(predictor, sample)

    def predict(self, predictor: Predictor, sample: Sample) -> Prediction:
        """Columns of predictions.csv, and the outputs that they are made of."""
        outputs = self.finish(predictor.outputs(sample)[None])[0]
        return Prediction(self.row(predictor.spec, outputs), outputs=outputs)

    def combine(self, spec: TaskSpec, parts: Sequence[Prediction]) -> dict[str, Any]:
        """The row of the mean of the parts' outputs."""
        outputs = np.stack([part.outputs for part in parts if part.outputs is not None])
        return self.row(spec, self.average(outputs, [range(len(outputs))])[0])


def portraits(
    predictor: Predictor, cases: Sequence[Case], captions: Mapping[str, tuple[str, str]], folder: Path
) -> None:
    """Pictures of samples with captions; of texts none. Private: they show samples.

    Args:
        captions: by name of the picture, the case's `where` and what is written above it.
    """
    from medcoss_cli.data.masks import portrait
    from medcoss_cli.data.read import read_checked

    if predictor.modality.dims == 1:
        return
    at = {case.where: case for case in cases}
    folder.mkdir(parents=True, exist_ok=True)
    for name, (where, caption) in captions.items():
        case = at[where]
        assert case.record is not None
        sample = read_checked(predictor.modality, case.record)
        portrait(sample.array, caption, folder / f"{name}.png", sample.spacing)
