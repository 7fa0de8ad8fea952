"""Kinds of task: what fine-tuning learns of a labelled case, how it is tested, what is predicted.

One subclass of `TaskKind` a kind, found by the entry-point group `medcoss.tasks`. A kind with one target a sample, such as
classes or a number, inherits from `medcoss_cli.tasks.pooled.PooledTask`, which brings most of this. Modules of a kind import
torch inside functions, so that exported files are used without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import LABEL, Case, LabelledSet, Target
from medcoss_cli.errors import UsageError
from medcoss_cli.model.outputs import Array
from medcoss_cli.plugin import CompleteModality, Record, Sample, Skipped
from medcoss_cli.tasks.figures import Figure
from medcoss_cli.tasks.predictor import Predictor
from medcoss_cli.tasks.spec import TaskSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from medcoss_cli.model.finetuned import TaskNetwork
    from medcoss_cli.model.heads import Head

Scores = dict[str, float]


class TaskData(Protocol):
    """Training and validation data of a task."""

    cases: int
    """Training samples."""
    data_hash: str
    """Of the prepared data, so that a training is not resumed on other data."""

    def batch(self, seed: int, step: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a training step, augmented; a function of seed and step alone."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """A scalar, the mean over the batch."""
        ...

    def validate(self, network: TaskNetwork, device: torch.device) -> Scores | None:
        """Metrics and loss on the validation data, None where there is none; see `TaskKind.criterion`."""
        ...

    def initialise(self, head: nn.Module) -> None:
        """Let a new head begin with what the training targets are like, by its biases; may do nothing."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """One network on one set of test cases.

    Args:
        result: `metrics`, `intervals` (95 %, by group), `baseline`, `samples` and what the report draws: numbers and classes
            only, since it is shareable.
        rows: of the per-case table, with `where` first. Private: they name files.
        lost: cases that could not be read.
        arrays: what `TaskKind.rescore` needs of each case, and "group", a number for each patient; one row a case.
    """

    result: dict[str, Any]
    rows: list[dict[str, Any]]
    lost: list[Skipped]
    arrays: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """What `predict` left for one record: columns of predictions.csv, or files; what `TaskKind.combine` needs of it."""

    row: dict[str, Any] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    outputs: Any = None


class TaskKind(ABC):
    """A kind of task. An instance holds its settings and no data.

    Args:
        settings: what the recipe's `task` says beside the name, checked by `Settings`.
    """

    name: ClassVar[str]
    """As in the recipe's `task`; the entry point is called the same."""
    Settings: ClassVar[type[Any] | None] = None
    """A pydantic model with `extra="forbid"` of the recipe keys `task: {name: ..., key: ...}`; None: the kind has none."""
    keys: ClassVar[frozenset[str]] = frozenset()
    """Which of `SOME` this kind makes use of; a recipe that has another is refused."""
    metrics: ClassVar[Mapping[str, str]]
    """Titles of metrics by name; the title of "dice" is that of "dice_liver" too, as "Dice: liver"."""
    among: ClassVar[Mapping[str, str]] = {}
    """Metrics that are counts, and the metric that says of how many: {"missed": "with"}. The latter has no line of its own."""
    main: ClassVar[str]
    """The metric that runs are compared by."""
    shown: ClassVar[tuple[str, ...]] = ()
    """Metrics in the tables of a comparison; empty: the main one alone."""
    unit_interval: ClassVar[bool] = True
    """The main metric lies between 0 and 1 and more is better: such tasks are drawn in one radar chart."""
    baseline: ClassVar[str]
    """What the trivial baseline predicts, in words: "the most frequent class"."""
    output: ClassVar[str] = "logits"
    """Name of the network's output in an exported file."""
    example: ClassVar[Mapping[str, Any]] = {}
    """Keys that the smallest recipe of this kind needs, such as `classes`; the conformance suite uses them."""
    unet: ClassVar[bool] = False
    """Started from a residual network of others, it is the U-Net on that network that is trained, not a head on its feature."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions that `predict` needs of an exported file, beside medcoss and those that reading a sample imports."""

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        if self.Settings is None and settings:
            raise ValueError(f"{self.name} has no settings, not {', '.join(settings)}")
        self.settings: Any = None if self.Settings is None else self.Settings(**(settings or {}))

    # What a recipe says

    def check(self, recipe: Any) -> None:
        """Is a FinetuneRecipe possible? Raises: ValueError with the key and what is allowed."""
        for key, used in SOME.items():
            if key not in self.keys and used(recipe):
                raise ValueError(f"{key} is not for a {self.name} task")

    # What a case's target is

    @property
    def target(self) -> Target:
        """The manifest's column of targets; the column `label` by default."""
        return LABEL

    @abstractmethod
    def fit_target(self, recipe: Any, cases: Sequence[Case], screen: Screen) -> tuple[list[str], dict[str, Any]]:
        """Names of the classes (may be empty), and plain values that the kind keeps about its targets.

        What later steps need of the training targets is kept here (mask values, the classes' shares, a mean): `evaluate`
        and `predict` see other cases. Raises: DataError for a target that is not possible.
        """

    def fault(self, spec: TaskSpec) -> str | None:
        """What of a stored task cannot be, in words, such as a class without its mask values: the file may be damaged."""
        return None

    def check_cases(self, spec: TaskSpec, cases: Sequence[Case]) -> None:  # noqa: B027 - not every kind has to
        """Have these cases targets that a trained network can be tested on? Raises: DataError."""

    def counts(self, cases: Sequence[Case]) -> dict[str, int]:
        """Cases by class, for results.json; shareable, so no single target."""
        return {}

    def foreground(
        self, modality: CompleteModality, cases: Sequence[Case], target: Mapping[str, Any], screen: Screen
    ) -> tuple[float, float, float, float]:
        """Lowest and highest value, mean and std of what `input.intensity: foreground` normalises by."""
        raise UsageError(
            f"a {self.name} task has no foreground", where="input.intensity", fix="take modality or zscore"
        )

    # Training

    @abstractmethod
    def head(self, spec: TaskSpec, modality: CompleteModality) -> Head:
        """A new head; the global generator of torch is seeded."""

    def width(self, spec: TaskSpec) -> int | None:
        """How many outputs the head has for a sample, or for each voxel of it; None: the kind does not say.

        An exported file whose network gives another number of them is refused as damaged.
        """
        return None

    def axes(self, spec: TaskSpec) -> int | None:
        """How many axes an output has: 0 if it is of the whole sample, the sample's if it is of each voxel; None as above."""
        return None

    @abstractmethod
    def data(self, spec: TaskSpec, labelled: LabelledSet, augment: str | None, *, balance: bool) -> TaskData:
        """Prepared training and validation data.

        Args:
            augment: the recipe's `input.augment`; None: the kind's default.
            balance: weight rare classes more.
        """

    @abstractmethod
    def criterion(self, scores: Mapping[str, float]) -> float:
        """Which state is kept: the one with the highest criterion of `TaskData.validate`'s scores."""

    # Testing

    @abstractmethod
    def evaluate(self, predictor: Predictor, labelled: LabelledSet, seed: int) -> Evaluation:
        """The test cases of a labelled set. Raises: DataError where none can be used."""

    def rescore(self, arrays: Mapping[str, Array]) -> Scores:
        """The metrics of some of the test cases, from rows of `Evaluation.arrays`, which may repeat: for paired intervals.

        By default there are none; such a task is compared without intervals.
        """
        return {}

    def draw(self, predictor: Predictor, cases: Sequence[Case], evaluation: Evaluation, folder: Path) -> None:  # noqa: B027
        """PNG pictures of some test cases. Private: they show samples. None by default."""

    def row_fault(self, spec: TaskSpec, row: Mapping[str, Any]) -> str | None:
        """What of a row of `Evaluation.rows` that was read from a file `draw` cannot take, in words: it may be damaged."""
        return None

    def figures(self, tests: Sequence[tuple[int, Mapping[str, Any]]], classes: Sequence[str]) -> list[Figure]:
        """What the report draws of each seed's `Evaluation.result`, which was read from a file and may lack anything."""
        return []

    # Use

    @abstractmethod
    def write(
        self, predictor: Predictor, sample: Sample, record: Record, target: Path, *, draw: bool, screen: Screen
    ) -> Prediction:
        """Predict one sample. No torch in here: an exported file may be what computes.

        Args:
            target: where files go, without ending; its folder may not exist yet.
            draw: make a picture too.

        Raises: DataError where the sample cannot be used; the others are then done all the same.
        """

    def predict(self, predictor: Predictor, sample: Sample) -> Prediction:
        """What Python gets of one sample: a row, or `outputs` on the sample's own grid; nothing is written."""
        raise UsageError(f"a {self.name} task is predicted into files", fix="use the command: medcoss predict")

    def combine(self, spec: TaskSpec, parts: Sequence[Prediction]) -> dict[str, Any] | None:
        """Columns of predictions.csv of a recording from those of its parts (windows); None: each part has its own row."""
        return None

    @classmethod
    def title_of(cls, metric: str) -> str:
        """How a metric is called in tables."""
        if metric in cls.metrics:
            return cls.metrics[metric]
        for start in sorted(cls.metrics, key=len, reverse=True):
            if metric.startswith(f"{start}_"):
                return f"{cls.metrics[start]}: {metric[len(start) + 1 :]}"
        return metric.replace("_", " ")

    @classmethod
    def headings(cls, classes: Sequence[str], scores: Mapping[str, Any]) -> dict[str, str]:
        """How the lines of a table of these metrics are called: titles, of counts with how many there are at most.

        Args:
            classes: names in order.
            scores: mean over the seeds by metric; a metric that another one is counted among is left out.
        """
        lines = {}
        for metric in scores:
            kind = next((k for k in cls.among if metric == k or metric.startswith(f"{k}_")), None)
            among = None if kind is None else scores.get(cls.among[kind] + metric[len(kind) :])
            number = isinstance(among, int | float) and among == among
            if any(metric == k or metric.startswith(f"{k}_") for k in cls.among.values()) and kind is None:
                continue
            lines[metric] = cls.title_of(metric) + (f", of {among:g}" if number else "")
        return lines


SOME: dict[str, Callable[[Any], bool]] = {
    "classes": lambda recipe: recipe.classes is not None,
    "train.balance": lambda recipe: recipe.train.balance,
    "input.intensity foreground": lambda recipe: recipe.input.intensity == "foreground",
    "head.hybrid": lambda recipe: recipe.head.hybrid is not None,
    "predict.postprocess": lambda recipe: recipe.predict.postprocess != "none",
}
"""Keys of a recipe that are not for every kind of task, and whether a recipe makes use of them."""


def count_labels(cases: Sequence[Case]) -> dict[str, int]:
    """Cases by their label, sorted; those without one are not counted."""
    return dict(sorted(Counter(case.label for case in cases if case.label).items()))
