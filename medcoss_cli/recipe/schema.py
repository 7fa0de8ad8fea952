"""Recipes, schema version 1: what a YAML file may say. `medcoss recipes schema` prints it as JSON Schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from medcoss_cli.errors import MedcossError
from medcoss_cli.recipe.strategy import DEFAULT, Strategies, StrategyChoice

if TYPE_CHECKING:
    from medcoss_cli.tasks import TaskKind

SCHEMA = 1

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"width": 192, "depth": 12, "heads": 3},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
}
"""`encoder: base` stands for these dimensions."""

OPEN = "???"
"""In a recipe for any modality or data: this key is the user's to give, as in OmegaConf."""

Share = Annotated[float, Field(ge=0, le=0.9)]
Count = Annotated[int, Field(ge=1)]
Size = list[Count]
Text = Annotated[str, Field(min_length=1)]


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


class Part(BaseModel):
    """A piece of a recipe; unknown keys are faults, and no type is taken for another (`seed: true`, `mixup: "no"`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(Part):
    """Where data lies and how strict reading is."""

    root: str | None = Field(
        None, description="root of relative data paths; default: --data-root, $MEDCOSS_DATA, ./data"
    )
    prepared: str | None = Field(None, description="folder of prepared sets; default: $MEDCOSS_PREPARED, ./prepared")
    split: str = Field("train", description="rows of a manifest.csv: train, all, or another name")
    bad_share: Annotated[float, Field(ge=0, le=1)] = Field(0.05, description="share of files that may be bad")
    workers: Count | None = Field(None, description="processes that read files; default: one per core")


class _Transformer(Part):
    """Width, depth and heads."""

    width: Annotated[int, Field(ge=8)]
    depth: Count
    heads: Count

    @model_validator(mode="after")
    def even_heads(self) -> Self:
        """Every head gets the same number of channels."""
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class Encoder(_Transformer):
    """Dimensions of the encoder, or one word: tiny, small, base, large."""

    width: Annotated[int, Field(ge=8)] = 768
    depth: Count = 12
    heads: Count = 12
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    layer_scale: float | None = Field(
        None, description="initial LayerScale; null: none, or as the weights of `init` have it"
    )

    @model_validator(mode="before")
    @classmethod
    def preset(cls, value: Any) -> Any:
        """A word stands for its dimensions."""
        if not isinstance(value, str):
            return value
        if value not in PRESETS:
            raise ValueError(f"{value!r} is not one of {', '.join(PRESETS)}")
        return PRESETS[value]


class _OrPreset:
    """Tells the JSON Schema that a word may stand for the dimensions."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(PRESETS)}, handler(core)]}


class _OrName:
    """Tells the JSON Schema that a name may stand for a modality and the folder of its name."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "minLength": 1}, handler(core)]}


class Decoder(_Transformer):
    """Dimensions of the throw-away decoder of image modalities."""

    width: Annotated[int, Field(ge=8)] = 512
    depth: Count = 8
    heads: Count = 16


class Masking(Part):
    """Shares that are hidden from the encoder."""

    patches: Annotated[float, Field(gt=0, lt=1)] = 0.75
    words: Annotated[float, Field(gt=0, lt=1)] = 0.15


class Train(Part):
    """How a stage is trained."""

    epochs: Annotated[float, Field(gt=0)] = Field(300, description="passes over the new data")
    warmup: Annotated[float, Field(ge=0)] = Field(40, description="of them, with a rising learning rate")
    batch: Count = Field(512, description="samples of a step, over all ranks and micro-batches")
    accumulate: Count = Field(1, description="micro-batches a step is cut into, to save memory")
    mix: bool = Field(False, description="draw each micro-batch on its own, of one modality, and average them alike")
    lr: Annotated[float, Field(gt=0)] = Field(1.5e-4, description="peak learning rate")
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the device gains by it")
    workers: Annotated[int, Field(ge=0)] | None = Field(None, description="processes that load batches")
    save_minutes: Annotated[float, Field(gt=0)] = Field(5.0, description="between two writes of resume.pt")


class Rehearsal(Part):
    """The buffer, and how often it is trained on."""

    ratio: Annotated[float, Field(ge=0, le=1)] = Field(0.05, description="share of a stage's data that is kept")
    share: Literal["proportional"] | Share = Field("proportional", description="least share of steps on old data")
    turns: Literal["size", "equal"] = Field(
        "size", description="turns of earlier modalities: by what is kept of each, or equally"
    )
    select: Literal["kmeans", "random"] | None = Field(None, description="null: kmeans, or random for er")
    centers: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="of kmeans: cluster centres as a share of the data; null: 0.01"
    )


class Member(Part):
    """A modality of a stage, and its data."""

    modality: Text
    data: Text = Field(description="its folder; relative to the data root")
    size: Size | None = Field(None, description="size the encoder sees; default: the modality's")
    tokenizer: Text | None = Field(None, description="another tokenizer key, as in patch2d-8")
    vocabulary: Text | None = Field(None, description="a file to take instead of learning one")
    vocabulary_size: Annotated[int, Field(ge=100)] | None = None

    def parts(self) -> dict[str, Any]:
        """What it says differently from the plugin's modality; see registry/configure.py."""
        return {name: getattr(self, name) for name in ("size", "tokenizer", "vocabulary", "vocabulary_size")}


class _Pace(Part):
    """What a stage says differently from `train`."""

    epochs: Annotated[float, Field(gt=0)] | None = None
    warmup: Annotated[float, Field(ge=0)] | None = None
    batch: Count | None = None
    lr: Annotated[float, Field(gt=0)] | None = None


class Stage(_Pace, Member):
    """One modality's turn."""

    @property
    def members(self) -> list[Member]:
        """The modalities that are trained on: this one."""
        return [self]

    @property
    def sampling(self) -> Literal["size", "uniform"]:
        """Of one modality all ways of drawing are the same."""
        return "size"

    @property
    def decoders(self) -> Literal["modality", "dimension"]:
        """One modality has one decoder."""
        return "modality"


def _by_name(value: Any) -> Any:
    """A name stands for a modality whose data is in the folder of its name."""
    return {"modality": value, "data": value} if isinstance(value, str) else value


class JointStage(_Pace):
    """The turn of several modalities at once; each batch is of one of them."""

    modalities: Annotated[list[Annotated[Member, BeforeValidator(_by_name), _OrName()]], Field(min_length=1)]
    sampling: Literal["size", "uniform"] = Field("size", description="batches by modality: by its samples, or equally")
    decoders: Literal["modality", "dimension"] = Field(
        "modality", description="one for each modality, or for each kind of tokenizer and size (2D, 3D, text)"
    )

    @property
    def members(self) -> list[Member]:
        """The modalities that are trained on."""
        return self.modalities

    @field_validator("modalities")
    @classmethod
    def once(cls, value: list[Member]) -> list[Member]:
        """Each modality stands there once."""
        names = [member.modality for member in value]
        if len(set(names)) < len(names):
            raise ValueError("a modality stands in it twice")
        return value


STAGE_FORMS = ("single", "joint")
"""What pydantic puts into the place of a fault, behind the stage's number."""


def _form(value: Any) -> str:
    joint = "modalities" in value if isinstance(value, dict) else isinstance(value, JointStage)
    return STAGE_FORMS[joint]


AnyStage = Annotated[Annotated[Stage, Tag("single")] | Annotated[JointStage, Tag("joint")], Discriminator(_form)]


class _Recipe(Part):
    """What all kinds share."""

    recipe_schema: Literal[1] = Field(1, alias="schema")
    title: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data = Data()  # type: ignore[call-arg]  # every key has a default
    masking: Masking = Masking()
    train: Train = Train()  # type: ignore[call-arg]  # every key has a default
    strategy: Strategies = Field(default_factory=lambda: StrategyChoice.read(DEFAULT))
    rehearsal: Rehearsal = Rehearsal()  # type: ignore[call-arg]  # every key has a default

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    @property
    def selection(self) -> Literal["kmeans", "random"]:
        """How samples are chosen for the buffer: as the recipe says, else as the strategy does."""
        return self.rehearsal.select or self.strategy.cls.selection

    @model_validator(mode="after")
    def selectable(self) -> Self:
        """A setting that would have no effect is refused."""
        if self.rehearsal.centers is not None and self.selection == "random":
            chosen = "rehearsal.select: random" if self.rehearsal.select else f"strategy: {self.strategy.name}"
            raise ValueError(f"rehearsal.centers has no effect with {chosen}, which chooses at random; leave it out")
        return self


class PretrainRecipe(_Recipe):
    """Several modalities, one after another, from random weights or those of others."""

    kind: Literal["pretrain"]
    init: Text | None = Field(
        None, description="weights to begin from: a checkpoint, or what `medcoss checkpoint import` reads; null: random"
    )
    encoder: Annotated[Encoder, _OrPreset()] = Encoder()  # type: ignore[call-arg]  # every key has a default
    decoder: Decoder = Decoder()
    stages: Annotated[list[AnyStage], Field(min_length=1)]

    @model_validator(mode="after")
    def one_stage(self) -> Self:
        """A strategy of a single stage gets one."""
        if self.strategy.cls.single_stage and len(self.stages) > 1:
            raise ValueError(
                f"strategy: {self.strategy.name} trains all modalities in one stage, but the recipe has "
                f"{len(self.stages)}; write one stage with modalities: [...]"
            )
        return self

    @property
    def members(self) -> list[Member]:
        """The modalities of all stages, in order."""
        return [member for stage in self.stages for member in stage.members]


class ExtendRecipe(_Recipe):
    """One more stage behind those of a checkpoint; modality and data come from the command line."""

    kind: Literal["extend"]
    decoder: Decoder | None = Field(None, description="null: as the checkpoint's")
    rehearsal: Rehearsal = Rehearsal(share=0.25)  # type: ignore[call-arg]  # every key has a default
    size: Size | None = None
    tokenizer: Text | None = None
    vocabulary: Text | None = None
    vocabulary_size: Annotated[int, Field(ge=100)] | None = None

    @model_validator(mode="after")
    def later_stage(self) -> Self:
        """A strategy of a single stage has no later one."""
        if self.strategy.cls.single_stage:
            raise ValueError(
                f"strategy: {self.strategy.name} trains all modalities in one stage, so it cannot extend; choose another"
            )
        return self


class Labelled(Data):
    """Labelled data: a folder with a manifest.csv of path, split, group, and label or mask."""

    folder: Text = Field(description="where manifest.csv lies; relative to the data root")
    fold: Count | None = Field(None, description="the manifest's rows of this fold validate, the other folds train")
    validation: Share = Field(0.2, description="share of the training groups that validates where no split does")


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

    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="of neighbouring windows")
    mirror: bool = Field(True, description="average over all flips")
    pad: float = Field(0.0, description="value beyond the border of a volume smaller than the patch")
    postprocess: Literal["none", "largest_organ"] = "none"


class FinetuneRecipe(Part):
    """One labelled task, from a checkpoint's encoder or from scratch."""

    kind: Literal["finetune"]
    recipe_schema: Literal[1] = Field(1, alias="schema")
    title: str = ""
    task: Annotated[str | dict[str, Any], _Tasks()] = Field(
        description="kind of task; one with settings of its own is written {name: ..., key: ...}"
    )
    modality: Text
    classes: list[Text] | dict[Text, list[Annotated[int, Field(ge=1)]] | Literal["any"]] | None = Field(
        None, description="labels in order; of a segmentation: name and mask values; else what the manifest says"
    )
    start: Text = Field("ckpt.pt", alias="from", description="a checkpoint, or scratch")
    profile: Literal["paper", "official"] = Field("paper", description="official: with the keys under `official`")
    official: dict[str, Any] = Field({}, description="what the authors' code does differently")
    seed: Annotated[int, Field(ge=0)] = 0
    encoder: Annotated[Encoder, _OrPreset()] | None = Field(None, description="of scratch; else as the checkpoint's")
    tokenizer: Text | None = Field(
        None,
        description="its key; else the checkpoint's, or the modality's own; `new` or `new KEY`: random, for the checkpoint's "
        "encoder",
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


Recipe = PretrainRecipe | ExtendRecipe | FinetuneRecipe

KINDS: dict[str, type[Recipe]] = {"pretrain": PretrainRecipe, "extend": ExtendRecipe, "finetune": FinetuneRecipe}
