"""The pieces of a comparison, in plain values: what each is made from is its name, so that nothing is made twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal

from medcoss_cli.recipe.comparison import SCRATCH, Measure
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.schema import PretrainRecipe

LETTERS = 10


@dataclass(frozen=True)
class Start:
    """What a head is put on: random weights, a file, or what a stage of a training left.

    Args:
        training: the cell's key; "" where there is none.
        stage: counted from 1.
        file: "scratch", or a file of weights.
    """

    training: str = ""
    stage: int = 0
    file: str = SCRATCH


@dataclass(frozen=True)
class Training:
    """Pre-training through all stages of a recipe; `first` is the key of a training that ends with its first stage."""

    key: str
    recipe: PretrainRecipe
    first: str | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of cells that come before."""
        return (self.first,) if self.first else ()

    @property
    def order(self) -> list[str]:
        """The stages' modalities."""
        return ["+".join(member.modality for member in stage.members) for stage in self.recipe.stages]


@dataclass(frozen=True)
class Tuning:
    """A head or a whole network, trained on a task's labels and tested."""

    key: str
    recipe: FinetuneRecipe
    start: Start

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of cells that come before."""
        return (self.start.training,) if self.start.training else ()


@dataclass(frozen=True)
class Later:
    """A head of an earlier stage, tested as it is under the encoders of these later stages of the same training."""

    key: str
    head: str
    training: str
    modality: str
    stages: tuple[int, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of cells that come before."""
        return (self.head, self.training)


@dataclass(frozen=True)
class Simple:
    """A linear model on what can be read off a sample without any encoder."""

    key: str
    recipe: FinetuneRecipe
    needs: tuple[str, ...] = ()


Cell = Training | Tuning | Later | Simple


@dataclass(frozen=True)
class Use:
    """Which number of the comparison a cell gives.

    Args:
        after: how many stages the encoder had seen; of a head under a later encoder there is one use for each.
    """

    method: str
    seed: int
    task: str
    measure: Measure | Literal["simple", "random"]
    labels: float
    after: int
    cell: str


@dataclass(frozen=True)
class Plan:
    """All cells by key, each behind those that it needs, and what they are for.

    Args:
        trainings: by method and seed, the key of the training that has all its stages; none of a method without one.
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    trainings: dict[tuple[str, int], str] = field(default_factory=dict)

    def wanted(self, names: list[str]) -> dict[str, Cell]:
        """The cells of these methods or tasks with all that they need; all cells where no name is given."""
        if not names:
            return dict(self.cells)
        keys = {use.cell for use in self.uses if use.method in names or use.task in names}
        keys |= {key for (method, _), key in self.trainings.items() if method in names}
        for key, cell in reversed(self.cells.items()):
            if key in keys:
                keys |= set(cell.needs)
        return {key: cell for key, cell in self.cells.items() if key in keys}


def key_of(kind: str, content: Mapping[str, Any]) -> str:
    """A cell's name: its kind, and the beginning of the hash of all that it is made from."""
    text = json.dumps({**content, "medcoss": version("medcoss")}, sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:LETTERS]}"
