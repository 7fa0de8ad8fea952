"""What recipes of all kinds share: constants, data, dimensions of an encoder."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
Count = Annotated[int, Field(ge=1, le=2**31)]
Size = list[Count]
Text = Annotated[str, Field(min_length=1)]
Setting = bool | int | float | str | None | list[int | float | str]
"""A value of a loader's dataclass."""
Columns = Annotated[dict[Text, Text], Field(min_length=1)]
"""Of a manifest, by what they are: path, label, mask, group, split, fold, index."""


class Part(BaseModel):
    """A piece of a recipe; unknown keys are faults, and no type is taken for another (`seed: true`, `mixup: "no"`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Profiled(Part):
    """A recipe that can be laid out as the authors' code has it."""

    profile: Literal["paper", "official"] = Field("paper", description="official: with the keys under `official`")
    official: dict[str, Any] = Field({}, description="what the authors' code does differently")

    @model_validator(mode="after")
    def differs(self) -> Self:
        """A profile without effect is refused."""
        if self.profile == "official" and not self.official:
            raise ValueError(
                "profile: official needs the key `official`, which says what the authors' code does differently"
            )
        return self


class Data(Part):
    """Where data lies and how strict reading is."""

    root: str | None = Field(
        None, description="root of relative data paths; default: --data-root, $MEDCOSS_DATA, ./data"
    )
    prepared: str | None = Field(None, description="folder of prepared sets; default: $MEDCOSS_PREPARED, ./prepared")
    split: str = Field("train", description="rows of a manifest.csv: train, all, or another name")
    bad_share: Annotated[float, Field(ge=0, le=1)] = Field(0.05, description="share of files that may be bad")
    workers: Count | None = Field(None, description="processes that read files; default: one per core")
    allow: list[Text] = Field(
        [], description="DICOM that may show a name and is read all the same: secondary-capture, burned-in"
    )
    tilt: Literal["keep", "correct"] = Field(
        "keep", description="correct: resample series of a tilted gantry, or of uneven steps, to an even grid"
    )

    loader: dict[Text, dict[Text, Setting]] = Field(
        {}, description="settings of loaders, by modality and name, as a plugin's README has them: {slides: {mpp: 1.0}}"
    )

    @property
    def reading(self) -> dict[str, Any]:
        """Settings of loaders that differ from their defaults; see registry/configure.py."""
        named = (("allow", self.allow), ("tilt", self.tilt), ("loader", self.loader))
        return {name: value for name, value in named if value not in ([], "keep", {})}


class Transformer(Part):
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


class Encoder(Transformer):
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


class OrPreset:
    """Tells the JSON Schema that a word may stand for the dimensions."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(PRESETS)}, handler(core)]}
