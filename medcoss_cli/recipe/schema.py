"""Recipes, schema version 1: what a YAML file may say. `medcoss recipes schema` prints it as JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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


class Part(BaseModel):
    """A piece of a recipe; unknown keys are faults, and no type is taken for another (`seed: true`, `mixup: "no"`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(Part):
    """Where data lies and how strict reading is."""

    root: str | None = Field(
        None, description="where relative data paths begin; else --data-root, $MEDCOSS_DATA, ./data"
    )
    prepared: str | None = Field(None, description="where prepared sets lie; else $MEDCOSS_PREPARED, ./prepared")
    split: str = Field("train", description="rows of a manifest.csv: train, all, or another name")
    bad_share: Annotated[float, Field(ge=0, le=1)] = Field(0.05, description="share of files that may be bad")
    workers: Count | None = Field(None, description="processes that read files; else one per core")


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
            raise ValueError(f"{value!r} is none of {', '.join(PRESETS)}")
        return PRESETS[value]


class _OrPreset:
    """Tells the JSON Schema that a word may stand for the dimensions."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(PRESETS)}, handler(core)]}


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
    lr: Annotated[float, Field(gt=0)] = Field(1.5e-4, description="peak learning rate")
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the device gains by it")
    workers: Annotated[int, Field(ge=0)] | None = Field(None, description="processes that load batches")
    save_minutes: Annotated[float, Field(gt=0)] = Field(5.0, description="between two writes of resume.pt")


class Rehearsal(Part):
    """The buffer, and how often it is trained on."""

    ratio: Annotated[float, Field(ge=0, le=1)] = Field(0.05, description="share of a stage's data that is kept")
    share: Literal["proportional"] | Share = Field("proportional", description="least share of steps on old data")
    select: Literal["kmeans", "random"] = "kmeans"
    centers: Annotated[float, Field(gt=0, le=1)] = Field(0.01, description="cluster centres as a share of the data")


class Stage(Part):
    """One modality's turn."""

    modality: Text
    data: Text = Field(description="its folder; relative to the data root")
    size: Size | None = Field(None, description="what the encoder sees; else the modality's own")
    tokenizer: Text | None = Field(None, description="another tokenizer key, as in patch2d-8")
    vocabulary: Text | None = Field(None, description="a file to take instead of learning one")
    vocabulary_size: Annotated[int, Field(ge=100)] | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    warmup: Annotated[float, Field(ge=0)] | None = None
    batch: Count | None = None
    lr: Annotated[float, Field(gt=0)] | None = None

    def parts(self) -> dict[str, Any]:
        """What it says differently from the plugin's modality; see registry/configure.py."""
        return {name: getattr(self, name) for name in ("size", "tokenizer", "vocabulary", "vocabulary_size")}


class _Recipe(Part):
    """What all kinds share."""

    recipe_schema: Literal[1] = Field(1, alias="schema")
    title: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data = Data()  # type: ignore[call-arg]  # every key has a default
    masking: Masking = Masking()
    train: Train = Train()  # type: ignore[call-arg]  # every key has a default
    strategy: str = "medcoss"
    distill: bool = Field(True, description="feature distillation; false: replay by masked modelling")
    mixup: bool = Field(True, description="intra-modal mixup of rehearsal batches")
    rehearsal: Rehearsal = Rehearsal()  # type: ignore[call-arg]  # every key has a default

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    @field_validator("strategy")
    @classmethod
    def installed(cls, value: str) -> str:
        from medcoss_cli.registry.discovery import strategy_names

        if value not in strategy_names():
            raise ValueError(f"{value!r} is none of {', '.join(strategy_names())}")
        return value


class PretrainRecipe(_Recipe):
    """Several modalities, one after another, from random weights or those of others."""

    kind: Literal["pretrain"]
    init: Text | None = Field(
        None, description="weights to begin from: a checkpoint, or what `medcoss checkpoint import` reads; null: random"
    )
    encoder: Annotated[Encoder, _OrPreset()] = Encoder()  # type: ignore[call-arg]  # every key has a default
    decoder: Decoder = Decoder()
    stages: Annotated[list[Stage], Field(min_length=1)]


class ExtendRecipe(_Recipe):
    """One more stage behind those of a checkpoint; modality and data come from the command line."""

    kind: Literal["extend"]
    decoder: Decoder | None = Field(None, description="null: as the checkpoint's")
    rehearsal: Rehearsal = Rehearsal(share=0.25)  # type: ignore[call-arg]  # every key has a default
    size: Size | None = None
    tokenizer: Text | None = None
    vocabulary: Text | None = None
    vocabulary_size: Annotated[int, Field(ge=100)] | None = None


class Labelled(Data):
    """Labelled data: a folder with a manifest.csv of path, split, group, and label or mask."""

    folder: Text = Field(description="where manifest.csv lies; relative to the data root")
    fold: Count | None = Field(None, description="the manifest's rows of this fold validate, the other folds train")
    validation: Share = Field(0.2, description="share of the training groups that validates where no split does")


class Fixed(Part):
    """Intensities clipped to a range, then shifted and scaled."""

    clip: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(description="lowest and highest value")
    mean: float
    deviation: Annotated[float, Field(gt=0)]


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

    layers: Literal[1, 2] = Field(1, description="of a classification head")
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
    task: Literal["classification", "segmentation"]
    modality: Text
    classes: list[Text] | dict[Text, list[Annotated[int, Field(ge=1)]] | Literal["any"]] | None = Field(
        None, description="labels in order; of a segmentation: name and mask values; else what the manifest says"
    )
    start: Text = Field("ckpt.pt", alias="from", description="a checkpoint, or scratch")
    profile: Literal["paper", "official"] = Field("paper", description="official: with the keys under `official`")
    official: dict[str, Any] = Field({}, description="what the authors' code does differently")
    seed: Annotated[int, Field(ge=0)] = 0
    encoder: Annotated[Encoder, _OrPreset()] | None = Field(None, description="of scratch; else as the checkpoint's")
    tokenizer: Text | None = Field(None, description="its key; else the checkpoint's, or the modality's own")
    vocabulary_size: Annotated[int, Field(ge=100)] | None = Field(None, description="of scratch")
    data: Labelled
    input: Input = Input()  # type: ignore[call-arg]  # every key has a default
    head: Head = Head()  # type: ignore[call-arg]  # every key has a default
    train: Tune
    predict: Predict = Predict()  # type: ignore[call-arg]  # every key has a default

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    @model_validator(mode="after")
    def whole(self) -> Self:
        """Keys that need one another."""
        if self.task == "segmentation" and not isinstance(self.classes, dict):
            raise ValueError("classes of a segmentation are written {name: [mask values], ...}, or {name: any}")
        if self.task == "classification" and isinstance(self.classes, dict):
            raise ValueError("classes of a classification are a list of labels")
        if self.task == "segmentation" and self.input.augment in ("modality", "colour"):
            raise ValueError(f"input.augment {self.input.augment} does not turn masks along; take elastic, or none")
        if self.task == "classification" and self.input.intensity == "foreground":
            raise ValueError("input.intensity foreground is for segmentation")
        if self.predict.postprocess == "largest_organ" and len(self.classes or ()) != 2:
            raise ValueError("predict.postprocess largest_organ is for two classes: an organ and what lies inside it")
        if (self.head.freeze or self.head.probe) and self.task == "classification" and self.train.batch == 1:
            raise ValueError("a head on a frozen encoder needs train.batch of at least 2 (features are standardised)")
        if self.head.hybrid is not None and self.task != "segmentation":
            raise ValueError("head.hybrid is for segmentation")
        return self


Recipe = PretrainRecipe | ExtendRecipe | FinetuneRecipe

KINDS: dict[str, type[Recipe]] = {"pretrain": PretrainRecipe, "extend": ExtendRecipe, "finetune": FinetuneRecipe}
