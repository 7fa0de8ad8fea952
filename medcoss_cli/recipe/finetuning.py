"""Recipes of fine-tuning: one labelled task."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from medcoss_cli.errors import MedcossError
from medcoss_cli.recipe.parts import Columns, Count, Data, Encoder, OrPreset, Part, Profiled, Share, Size, Text

if TYPE_CHECKING:
    from medcoss_cli.tasks import TaskKind


def _number_of_colour(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        return int(value[1:], 16)
    return value


class _OrColour:
    """Tells the JSON Schema that a colour may stand for its number."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"}, handler(core)]}


MaskValue = Annotated[int, Field(ge=1), BeforeValidator(_number_of_colour), _OrColour()]
"""A value of a mask; "#ff0000" is the number of a colour in a mask that is a colour image."""


class _Tasks:
    """Has the JSON Schema list the installed kinds of task with the settings of each."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        from medcoss_cli.registry.discovery import load_task, task_names

        arms: list[dict[str, Any]] = [{"enum": task_names()}]
        for name in task_names():
            try:
                model = load_task(name).Settings
            except MedcossError:
                continue  # a broken plugin is listed by `plugins list`
            if model is not None:
                schema = model.model_json_schema()
                schema["properties"] = {"name": {"const": name}, **schema.get("properties", {})}
                arms.append(schema | {"required": ["name", *schema.get("required", [])]})
        return {"anyOf": arms}


class Labelled(Data):
    """Labelled data: a folder with a manifest.csv of path, split, group, and label or mask."""

    folder: Text = Field(description="where manifest.csv lies, or another table; relative to the data root")
    columns: Columns | None = Field(
        None, description="names of the manifest's columns where they differ, as in {path: File, label: Finding}"
    )
    fold: Count | None = Field(None, description="the manifest's rows of this fold validate, the other folds train")
    validation: Share = Field(0.2, description="share of the training groups that validates where no split does")
    labels: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="share of the training groups that is used, of every class; a smaller share is part of a larger one",
    )


class Fixed(Part):
    """Intensities clipped to a range, then shifted and scaled."""

    clip: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(description="lowest and highest value")
    mean: float
    std: Annotated[float, Field(gt=0)]


class Input(Part):
    """What the network sees of a sample."""

    size: Size | None = Field(
        None, description="of an image, or of the patch cut from a volume; else the modality's own"
    )
    spacing: list[Annotated[float, Field(gt=0)]] | None = Field(
        None, description="mm per axis (depth, height, width) a volume is resampled to; null: as scanned"
    )
    crop: bool = Field(False, description="crop to what is not zero")
    intensity: Literal["modality", "zscore", "foreground"] | Fixed = Field(
        "modality",
        description="modality: as in pre-training; zscore: per sample and channel; foreground: the training masks'",
    )
    augment: Literal["none", "modality", "colour", "elastic"] | None = Field(
        None,
        description="modality: as in pre-training; colour: of images; elastic: of images and volumes, and their masks; "
        "null: modality for classes, elastic for masks, none for a linear probe",
    )


class Hybrid(Part):
    """A convolutional network beside the frozen encoder (appendix D of the paper)."""

    cnn: Text | None = Field(None, description="a file of weights its residual encoder starts from")
    depth: Literal[10, 18, 34, 50] = Field(50, description="layers of the residual encoder")


class Head(Part):
    """What is put on the encoder."""

    layers: Literal[1, 2] = Field(1, description="of a head on the pooled feature")
    pool: Literal["real", "all"] = Field("real", description="tokens that are averaged; all: padding as well")
    features: Count = Field(16, description="channels of a segmentation decoder at full resolution")
    freeze: bool = Field(False, description="train the head alone")
    probe: bool = Field(
        False, description="a linear probe: one layer on the frozen encoder; wants a train.lr of about 3e-2"
    )
    subnetwork: bool = Field(
        False, description="begin with the weights that serve this modality alone, of a strategy such as packnet"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="learning rate per block further down")
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    hybrid: Hybrid | None = None


class Tune(Part):
    """How a head is trained."""

    lr: Annotated[float, Field(gt=0)]
    batch: Count
    steps: Count
    epoch: Count | None = Field(None, description="steps of an epoch, for the schedule; else one pass over the data")
    schedule: Literal["poly", "cosine"] = Field("poly", description="poly: (1 - epoch/epochs)^0.9, per epoch")
    warmup: Annotated[int, Field(ge=0)] = Field(0, description="steps with a rising learning rate")
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip: Annotated[float, Field(gt=0)] | None = Field(12.0, description="largest norm of the gradient")
    balance: bool = Field(False, description="weight classes by how rare they are")
    validate_every: Count | None = Field(None, description="steps; else once an epoch")
    select: Literal["best", "last"] = Field("best", description="the state that is kept")
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    save_minutes: Annotated[float, Field(gt=0)] = Field(5.0, description="between two writes of resume.pt")


class Predict(Part):
    """How masks are predicted."""

    overlap: Annotated[float, Field(ge=0, le=0.9)] = Field(0.5, description="of neighbouring windows")
    mirror: bool = Field(True, description="average over all flips")
    pad: float = Field(0.0, description="value beyond the border of a volume smaller than the patch")
    postprocess: Literal["none", "largest_organ"] = "none"


class FinetuneRecipe(Profiled):
    """One labelled task, from a checkpoint's encoder or from scratch."""

    kind: Literal["finetune"]
    recipe_schema: Literal[1] = Field(1, alias="schema")
    title: str = ""
    task: Annotated[str | dict[str, Any], _Tasks()] = Field(
        description="kind of task; one with settings of its own is written {name: ..., key: ...}"
    )
    modality: Text
    classes: list[Text] | dict[Text, list[MaskValue] | Literal["any"]] | None = Field(
        None, description="labels in order; of a segmentation: name and mask values; else what the manifest says"
    )
    start: Text = Field("ckpt.pt", alias="from", description="a checkpoint, weights of others, or scratch")
    seed: Annotated[int, Field(ge=0)] = 0
    encoder: Annotated[Encoder, OrPreset()] | None = Field(None, description="of scratch; else as the checkpoint's")
    tokenizer: Text | None = Field(
        None,
        description="its key; else the checkpoint's, or the modality's own; `new` or `new KEY`: random, for the checkpoint's "
        "encoder",
    )
    network: Text | None = Field(
        None,
        description="architecture of a file of others that `from` names, as timm calls it; else told by its weights",
    )
    vocabulary_size: Annotated[int, Field(ge=100)] | None = Field(None, description="of scratch")
    data: Labelled
    input: Input = Input()  # type: ignore[call-arg]  # every key has a default
    head: Head = Head()  # type: ignore[call-arg]  # every key has a default
    train: Tune
    predict: Predict = Predict()  # type: ignore[call-arg]  # every key has a default

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    def task_settings(self) -> dict[str, Any]:
        """What `task` says beside the name."""
        return _split_task(self.task)[1]

    def task_kind(self) -> TaskKind:
        """The installed kind of task, with its settings. Raises: UsageError, PluginError."""
        from medcoss_cli.registry.discovery import make_task

        return make_task(*_split_task(self.task))

    @field_validator("task")
    @classmethod
    def installed(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        """The kind of task is installed and takes its settings."""
        from medcoss_cli.registry.discovery import make_task

        try:
            make_task(*_split_task(value))
        except MedcossError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def possible(self) -> Self:
        """The kind of task takes the other keys."""
        self.task_kind().check(self)
        return self


def _split_task(task: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and settings of `task: NAME` or `task: {name: NAME, key: ...}`."""
    if isinstance(task, str):
        return task, {}
    if not isinstance(task.get("name"), str):
        raise ValueError("a task with settings is written {name: ..., key: ...}")
    return task["name"], {key: value for key, value in task.items() if key != "name"}
