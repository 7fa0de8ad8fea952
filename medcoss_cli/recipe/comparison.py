"""Recipes of comparisons: methods of pre-training, labelled tasks, and how both are measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from medcoss_cli.recipe.parts import Count, Data, Part, Text
from medcoss_cli.recipe.strategy import Strategies

Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Measure = Literal["frozen", "refitted", "full"]
Changes = Annotated[list[Text], Field(description="overrides of the recipe, as on the command line: train.epochs=3")]

SCRATCH = "scratch"


class Joint(Part):
    """All modalities in one stage."""

    sampling: Literal["size", "uniform"] = Field("size", description="batches by modality: by its samples, or equally")
    decoders: Literal["modality", "dimension"] = "modality"
    epochs: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        None, description="null: the stages', where they are the same"
    )
    batch: Count | None = Field(None, description="null: the stages', where they are the same")


class Method(Part):
    """One way to an encoder: the recipe's pre-training with changes, an encoder from a file, or none."""

    name: Text
    strategy: Strategies | None = Field(None, description="null: as the recipe of pre-training says")
    stages: Literal["own"] | Annotated[list[Text], Field(min_length=1)] | None = Field(
        None,
        description="modalities in order; own: for each task its modality alone; null: all of the recipe, in order",
    )
    joint: Joint | None = Field(None, description="all modalities at once; `joint: {}` with every default")
    start: Text | None = Field(None, alias="from", description="no pre-training: a file of weights, or scratch")
    seeds: Seeds | None = Field(None, description="null: the comparison's")
    tasks: Annotated[list[Text], Field(min_length=1)] | None = Field(
        None, description="what it is measured by; null: all"
    )
    changes: Changes = Field([], alias="set")

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    @model_validator(mode="after")
    def possible(self) -> Self:
        """One way, not two."""
        trained = [key for key in ("strategy", "stages", "joint") if getattr(self, key) is not None]
        trained += ["set"] if self.changes else []
        if self.start is not None and trained:
            raise ValueError(f"from: {self.start} is not pre-trained, so {' and '.join(trained)} would have no effect")
        if self.joint is not None and (self.stages is not None or self.strategy is not None):
            raise ValueError(
                "joint is one stage of all modalities with the strategy joint; leave stages and strategy out"
            )
        if isinstance(self.stages, list) and len(set(self.stages)) < len(self.stages):
            raise ValueError("a modality stands in stages twice")
        return self


class Task(Part):
    """A labelled task."""

    name: Text
    recipe: Text = Field(description="of kind finetune: a file, or the name of a shipped recipe")
    changes: Changes = Field([], alias="set")
    measures: Annotated[list[Measure], Field(min_length=1)] | None = Field(None, description="null: the comparison's")
    keep: bool = Field(False, description="in the tables even where no encoder does as well, which is said there")

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)


class Table(Part):
    """Methods that are shown together."""

    title: Text
    methods: Annotated[list[Text], Field(min_length=1)]
    reference: Text | None = Field(None, description="what the others are tested against; null: the comparison's")


class CompareRecipe(Part):
    """Methods x tasks x seeds."""

    kind: Literal["compare"]
    recipe_schema: Literal[1] = Field(1, alias="schema")
    title: str = ""
    seeds: Seeds = Field([0], description="each is a pre-training and all its fine-tunings")
    data: Data = Data()  # type: ignore[call-arg]  # every key has a default
    pretrain: Text = Field(description="a recipe of kind pretrain: a file, or the name of a shipped recipe")
    changes: Changes = Field([], alias="set")
    methods: Annotated[list[Method], Field(min_length=1)]
    tasks: Annotated[list[Task], Field(min_length=1)]
    measures: Annotated[list[Measure], Field(min_length=1)] = Field(
        ["frozen", "refitted", "full"],
        description="frozen: a linear head, trained after the task's own stage, kept as it is after every later one; "
        "refitted: a linear head trained after all stages; full: fine-tuning of all weights",
    )
    probe: Changes = Field(
        ["head.probe=true", "train.lr=3e-2", "train.weight_decay=0"],
        description="what makes of a task's recipe that of a linear head",
    )
    labels: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)] = Field(
        [1.0], description="shares of the training labels that `full` is measured with"
    )
    reference: Text | None = Field(None, description="the method that others are tested against; null: the last one")
    tables: list[Table] = Field([], description="empty: one table of all methods")
    draws: Annotated[int, Field(ge=100)] = Field(1000, description="of the bootstrap over patients and seeds")

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    @field_validator("seeds", "labels", "measures")
    @classmethod
    def once(cls, value: list[object]) -> list[object]:
        """Nothing stands there twice."""
        if len(set(value)) < len(value):
            raise ValueError("something stands in it twice")
        return value

    @field_validator("data")
    @classmethod
    def folders(cls, value: Data) -> Data:
        """What is of the recipes that a comparison names is not taken here, where it would have no effect."""
        for key, default in Data().model_dump().items():  # type: ignore[call-arg]  # every key has a default
            if key not in ("root", "prepared") and getattr(value, key) != default:
                raise ValueError(
                    f"{key} is of the recipes that are compared: write `set: [data.{key}=...]` here and at the tasks"
                )
        return value

    @model_validator(mode="after")
    def named(self) -> Self:
        """Every name is there once, and what is referred to is there."""
        for what, names in (("method", self.names), ("task", [task.name for task in self.tasks])):
            if twice := [name for name, count in Counter(names).items() if count > 1]:
                raise ValueError(f"two of its {what}s are called {twice[0]!r}; give each a name of its own")
        named = [("reference", self.reference)] if self.reference else []
        named += [(f"tables.{i}.reference", table.reference) for i, table in enumerate(self.tables) if table.reference]
        named += [(f"tables.{i}.methods", name) for i, table in enumerate(self.tables) for name in table.methods]
        for where, name in named:
            if name not in self.names:
                raise ValueError(f"{where}: no method is called {name!r}; there are {', '.join(self.names)}")
        tasks = [task.name for task in self.tasks]
        for method in self.methods:
            if unknown := [name for name in method.tasks or () if name not in tasks]:
                raise ValueError(
                    f"method {method.name}: no task is called {unknown[0]!r}; there are {', '.join(tasks)}"
                )
        return self

    @property
    def names(self) -> list[str]:
        """Of the methods."""
        return [method.name for method in self.methods]

    def shown(self) -> Sequence[Table]:
        """The tables, with a reference each."""
        last = self.reference or self.names[-1]
        tables = self.tables or [Table(title=self.title or "All methods", methods=self.names, reference=last)]
        return [table.model_copy(update={"reference": table.reference or last}) for table in tables]
