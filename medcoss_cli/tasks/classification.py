"""Classes: one label a case, cross-entropy, accuracy, AUC and F1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import Case, classes_of, one_each, only_labels
from medcoss_cli.metrics import classification, confusion
from medcoss_cli.model.outputs import Array, log_softmax
from medcoss_cli.tasks import Evaluation, Scores, count_labels
from medcoss_cli.tasks.figures import Confusion, Figure
from medcoss_cli.tasks.pooled import PooledTask, portraits
from medcoss_cli.tasks.predictor import Predictor
from medcoss_cli.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from torch import Tensor


class Classification(PooledTask):
    """The manifest's `label`, one of several classes; the network's outputs are logits (N, c)."""

    name = "classification"
    keys = frozenset({"classes", "train.balance"})
    metrics: ClassVar = {
        "accuracy": "Accuracy",
        "auc_ovo": "AUC, one against one",
        "auc_ovr": "AUC, one against the rest",
        "f1_macro": "F1, macro",
        "f1": "F1",
    }
    main = "accuracy"
    shown = ("accuracy", "auc_ovo", "f1")
    baseline = "the most frequent class"

    def check(self, recipe: Any) -> None:
        super().check(recipe)
        if isinstance(recipe.classes, dict):
            raise ValueError("classes of a classification are a list of labels")

    def fit_target(self, recipe: Any, cases: Sequence[Case], screen: Screen) -> tuple[list[str], dict[str, Any]]:
        """The classes in order, and each one's share of the training cases."""
        classes = classes_of(cases, recipe.classes, screen)
        train = [case.label for case in one_each(cases) if case.split == "train"]
        return classes, {"shares": [train.count(name) / len(train) for name in classes]}

    def counts(self, cases: Sequence[Case]) -> dict[str, int]:
        return count_labels(cases)

    def check_cases(self, spec: TaskSpec, cases: Sequence[Case]) -> None:
        only_labels(cases, spec.classes)

    def read(self, spec: TaskSpec, case: Case) -> int:
        only_labels([case], spec.classes)
        return spec.classes.index(str(case.label))

    def fault(self, spec: TaskSpec) -> str | None:
        return None if len(spec.target.get("shares") or ()) == len(spec.classes) else "a class has no share"

    def width(self, spec: TaskSpec) -> int:
        return len(spec.classes)

    def loss(self, outputs: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """Cross-entropy, the mean over the batch."""
        from torch.nn import functional as F

        weight = None if weight is None else weight.to(outputs.device)
        return F.cross_entropy(outputs.float(), targets, weight=weight)

    def weights(self, spec: TaskSpec, targets: Array) -> Tensor:
        """Of each class, how rare it is: 1 on the average over the samples."""
        import torch

        counts = np.bincount(targets, minlength=len(spec.classes))
        return torch.tensor(len(targets) / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)

    def criterion(self, scores: Mapping[str, float]) -> float:
        """ACC + AUC + F1, those that are numbers (the paper's rule)."""
        return sum(value for key in ("accuracy", "auc_ovo", "f1") if (value := scores[key]) == value)

    def finish(self, outputs: Array) -> Array:
        """Logarithms of the probabilities: they can be ranked where probabilities are all 1 or 0."""
        return log_softmax(outputs)

    def average(self, outputs: Array, parts: Sequence[Sequence[int]]) -> Array:
        """The logarithm of the mean of the parts' probabilities, see `data.recordings.averaged`."""
        means = [np.logaddexp.reduce(outputs[list(places)], axis=0) - math.log(len(places)) for places in parts]
        return np.stack(means)

    def score(self, outputs: Array, targets: Array) -> Scores:
        return classification(outputs, targets)

    def trivial(self, spec: TaskSpec) -> Array:
        """The classes' shares of the training cases, for every case, as logarithms."""
        logarithms: Array = np.log(np.array(spec.target["shares"]))
        return logarithms

    def details(self, spec: TaskSpec, outputs: Array, targets: Array) -> dict[str, Any]:
        return {"confusion": confusion(outputs, targets, len(spec.classes))}

    def row(self, spec: TaskSpec, output: Array) -> dict[str, Any]:
        """The likeliest class, the probability of each, and its logarithm, which is what to rank cases by."""
        shares = {f"p_{name}": round(math.exp(x), 6) for name, x in zip(spec.classes, output, strict=True)}
        logarithms = {f"log_p_{name}": float(f"{x:.9g}") for name, x in zip(spec.classes, output, strict=True)}
        return {"predicted": spec.classes[int(output.argmax())], **shares, **logarithms}

    def draw(self, predictor: Predictor, cases: Sequence[Case], evaluation: Evaluation, folder: Path) -> None:
        """The three surest right and the three surest wrong cases."""
        rows = sorted(evaluation.rows, key=lambda row: -float(row[f"log_p_{row['predicted']}"]))
        captions = {}
        for kind, right in (("right", True), ("wrong", False)):
            selection = [row for row in rows if (row["label"] == row["predicted"]) == right][:3]
            for number, row in enumerate(selection, 1):
                share = float(row[f"p_{row['predicted']}"])
                caption = f"{row['label']}, predicted {row['predicted']} ({share:.2f})"
                captions[f"{kind}-{number}"] = (row["where"], caption)
        portraits(predictor, cases, captions, folder)

    def row_fault(self, spec: TaskSpec, row: Mapping[str, Any]) -> str | None:
        columns = [f"{start}_{name}" for name in spec.classes for start in ("p", "log_p")]
        if absent := [name for name in columns if not isinstance(row.get(name), float)]:
            return f"there is no number in a column {absent[0]}"
        known = all(row.get(name) in spec.classes for name in (self.target.column, "predicted"))
        return None if known else "a class that is none of the task's"

    def figures(self, tests: Sequence[tuple[int, Mapping[str, Any]]], classes: Sequence[str]) -> list[Figure]:
        """The confusion of the first seed: added up over seeds, every sample would count several times."""
        tables = [(seed, table) for seed, test in tests if (table := _square(test.get("confusion")))]
        if not tables:
            return []
        seed, table = tables[0]
        names = list(classes) if len(classes) == len(table) else [str(i) for i in range(len(table))]
        alone = f", of seed {seed} alone" if len(tests) > 1 else ""
        about = f"Test samples by true class (rows) and predicted class (columns){alone}, with their share of the row."
        return [Confusion("Confusion", about, names, table)]

    @classmethod
    def headings(cls, classes: Sequence[str], scores: Mapping[str, Any]) -> dict[str, str]:
        """The F1 of two classes is that of the second, which is named."""
        lines = super().headings(classes, scores)
        if len(classes) == 2 and "f1" in lines:
            lines["f1"] = f"F1 of {classes[1]}"
        return lines


def _square(value: object) -> list[list[float]]:
    """A square table of numbers, or an empty one for what is none."""
    lines = (
        [[_count(cell) for cell in line] for line in value if isinstance(line, list)] if isinstance(value, list) else []
    )
    return lines if all(len(line) == len(lines) for line in lines) else []


def _count(cell: object) -> float:
    return cell if isinstance(cell, int | float) and not isinstance(cell, bool) and abs(cell) < 1e300 else 0
