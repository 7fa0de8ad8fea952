"""What a fine-tuned network needs beside its weights to be used again: the task, in plain values. No torch in here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from medcoss_cli.data.geometry import Layout
from medcoss_cli.store import typed
from medcoss_cli.tasks.networks import Network, Size


class _Part(BaseModel, strict=True, extra="forbid", allow_inf_nan=False):
    pass


class _Encoder(_Part):
    width: Size
    depth: Size
    heads: Size
    mlp_ratio: Annotated[float, Field(gt=0)]
    layer_scale: float | None

    @model_validator(mode="after")
    def _can_be_cut(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} cannot be cut into {self.heads} heads")
        return self


class _Foreign(_Part):
    network: Network
    title: str
    width: int


class _Head(_Part):
    layers: int
    pool: Literal["real", "all"]
    features: int
    hybrid: Literal[10, 18, 34, 50] | None
    frozen: bool


class _Predict(_Part):
    overlap: Annotated[float, Field(ge=0, le=0.9)]
    mirror: bool
    pad: float
    postprocess: Literal["none", "largest_organ"]


class _Fixed(_Part):
    low: float
    high: float
    mean: float
    std: float


class _ZScore(_Part):
    zscore: Literal[True]


class _Target(BaseModel, strict=True, extra="allow"):
    shares: list[float] | None = None
    values: dict[str, list[int] | Literal["any"]] | None = None


class _Nested(BaseModel, extra="ignore"):
    """The parts of a task that have a form of their own."""

    encoder: _Foreign | _Encoder
    head: _Head
    predict: _Predict
    intensity: _ZScore | _Fixed | None
    target: _Target
    spacing: (
        Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=3, max_length=3)] | None
    )


@dataclass(frozen=True)
class TaskSpec:
    """Plain values only; holds no sample, name or path.

    Args:
        kind, settings: the kind of task and its own settings, as the recipe's `task` has them.
        classes: names in order, empty where the kind has none.
        target: what the kind keeps about its targets: see `TaskKind.fit_target`.
        size: what the network sees: an image, a text's length, or a patch of a volume.
        spacing, crop: how volumes are brought to the network's grid; see Layout.
        intensity: None: the modality's own; else how values are normalised: {"zscore": true} or the numbers of `Fixed`.
        predict: the recipe's `predict`: overlap, mirror, pad, postprocess.
        encoder: its dimensions; of a network of others its `network` as `model.foreign` builds it, `title` and `width`.
        head: layers, pool, features, hybrid (layers of the residual network, or None), frozen.
        plugin: fingerprint of the modality as the task reads it.
        reading: settings of its loader, as the recipe's `data` has them.
    """

    kind: str
    settings: dict[str, Any]
    title: str
    modality: str
    classes: list[str]
    target: dict[str, Any]
    tokenizer: str
    tokenizer_spec: dict[str, Any]
    vocabulary: str | None
    size: list[int]
    spacing: list[float] | None
    crop: bool
    intensity: dict[str, Any] | None
    predict: dict[str, Any]
    encoder: dict[str, Any]
    head: dict[str, Any]
    plugin: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, values: object, where: object) -> TaskSpec:
        """What `to_plain` wrote. Raises: CheckpointError, naming the file and the key, for anything else."""
        fix, what = "use another copy of it, or train again", "the stored task"
        spec = typed.checked(cls, values, where, fix=fix, what=what)
        typed.checked(_Nested, asdict(spec), where, fix=fix, what=what)
        return spec

    def to_plain(self) -> dict[str, Any]:
        """As it is stored beside the weights."""
        return asdict(self)

    @property
    def layout(self) -> Layout:
        """How samples are brought to the network's grid: images to its size, volumes to a spacing."""
        if len(self.size) < 3:
            return Layout(tuple(self.size), None, self.crop)
        return Layout(None, tuple(self.spacing) if self.spacing else None, self.crop)
