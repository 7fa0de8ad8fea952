"""Recipes, schema version 1: what a YAML file may say. `medcoss recipes schema` prints it as JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from medcoss_cli.recipe.comparison import CompareRecipe
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.parts import (
    Columns,
    Count,
    Data,
    Encoder,
    OrPreset,
    Part,
    Profiled,
    Share,
    Size,
    Text,
    Transformer,
)
from medcoss_cli.recipe.strategy import DEFAULT, Strategies, StrategyChoice


class _OrName:
    """Tells the JSON Schema that a name may stand for a modality and the folder of its name."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "minLength": 1}, handler(core)]}


class Decoder(Transformer):
    """Dimensions of the throw-away decoder of image modalities."""

    width: Annotated[int, Field(ge=8)] = 512
    depth: Count = 8
    heads: Count = 16
    positions: Literal["sincos", "table"] = Field("sincos", description="table: learned, from 0")


class Masking(Part):
    """Shares that are hidden from the encoder."""

    patches: Annotated[float, Field(gt=0, lt=1)] = 0.75
    words: Annotated[float, Field(gt=0, lt=1)] = 0.15


class Train(Part):
    """How a stage is trained."""

    epochs: Annotated[float, Field(gt=0, le=100_000)] = Field(300, description="passes over the new data")
    warmup: Annotated[float, Field(ge=0)] = Field(40, description="of them, with a rising learning rate")
    batch: Count = Field(512, description="samples of a step, over all ranks and micro-batches")
    accumulate: Count = Field(1, description="micro-batches a step is cut into, to save memory")
    mix: bool = Field(False, description="draw each micro-batch on its own, of one modality, and average them alike")
    lr: Annotated[float, Field(gt=0)] = Field(1.5e-4, description="peak learning rate")
    lr_batch: Count | None = Field(
        None,
        description="batch that lr is for; it is scaled to the stage's own in proportion (256 in MAE); null: not scaled",
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    drop_path: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of the encoder's branches that are left out in training"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the device gains by it")
    workers: Annotated[int, Field(ge=0)] | None = Field(None, description="processes that load batches")
    save_minutes: Annotated[float, Field(gt=0)] = Field(5.0, description="between two writes of resume.pt")

    @model_validator(mode="after")
    def mixable(self) -> Self:
        """A setting that would have no effect is refused."""
        if self.mix and self.accumulate == 1:
            raise ValueError(
                "mix has no effect with accumulate: 1; set accumulate to the micro-batches of a step, 4 in the paper"
            )
        return self

    def peak(self, lr: float | None, batch: int | None) -> float:
        """The learning rate of a stage with these settings of its own, None where it has none."""
        scale = 1.0 if self.lr_batch is None else (batch or self.batch) / self.lr_batch
        return (lr or self.lr) * scale

    def span(self, epochs: float | None, warmup: float | None) -> tuple[float, float]:
        """Epochs and warm-up of a stage with these settings of its own, None where it has none."""
        return epochs or self.epochs, self.warmup if warmup is None else warmup


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
    columns: Columns | None = Field(
        None, description="names of its manifest's columns where they differ, as in {path: File, group: PID}"
    )
    size: Size | None = Field(None, description="size the encoder sees; default: the modality's")
    tokenizer: Text | None = Field(None, description="another tokenizer key, as in patch2d-8")
    vocabulary: Text | None = Field(None, description="a file to take instead of learning one")
    vocabulary_size: Annotated[int, Field(ge=100)] | None = None

    def parts(self) -> dict[str, Any]:
        """What it says differently from the plugin's modality; see registry/configure.py."""
        return {name: getattr(self, name) for name in ("size", "tokenizer", "vocabulary", "vocabulary_size")}


class _Pace(Part):
    """What a stage says differently from `train`."""

    epochs: Annotated[float, Field(gt=0, le=100_000)] | None = None
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


class _Recipe(Profiled):
    """What all kinds share."""

    recipe_schema: Literal[1] = Field(1, alias="schema")
    title: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data = Data()  # type: ignore[call-arg]  # every key has a default
    masking: Masking = Masking()
    train: Train = Train()  # type: ignore[call-arg]  # every key has a default
    positions: Literal["sincos", "table"] = Field(
        "sincos", description="of new tokenizers; table: learned, from random numbers, one for each place"
    )
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
    encoder: Annotated[Encoder, OrPreset()] = Encoder()  # type: ignore[call-arg]  # every key has a default
    decoder: Decoder = Decoder()  # type: ignore[call-arg]  # every key has a default
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
    columns: Columns | None = Field(None, description="names of the manifest's columns where they differ")
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


Recipe = PretrainRecipe | ExtendRecipe | FinetuneRecipe | CompareRecipe

KINDS: dict[str, type[Recipe]] = {
    "pretrain": PretrainRecipe,
    "extend": ExtendRecipe,
    "finetune": FinetuneRecipe,
    "compare": CompareRecipe,
}
