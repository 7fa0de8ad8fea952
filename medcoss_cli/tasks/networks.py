"""What is stored of a network of others, by its family; `model.foreign` builds it from these values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Size = Annotated[int, Field(gt=0)]
Stages = Annotated[list[Size], Field(min_length=4, max_length=4)]


class _Network(BaseModel, strict=True, extra="forbid"):
    dims: Literal[2, 3]
    channels: Size


class _Timm(_Network):
    family: Literal["timm"]
    name: str


class _ViT(_Network):
    family: Literal["vit"]
    patch: Size
    width: Size
    depth: Size
    heads: Size
    hidden: Size
    side: Size
    scaled: bool
    pool: Literal["avg", "token"]


class _Residual(_Network):
    family: Literal["resnet"]
    blocks: Stages
    bottleneck: bool


class _Residual3d(_Network):
    family: Literal["resnet3d"]
    stem: Size
    planes: Stages
    blocks: Stages
    bottleneck: bool
    projected: Annotated[list[bool], Field(min_length=4, max_length=4)]
    desd: bool


class _Contracting(_Network):
    family: Literal["pcrlv2"]
    widths: list[Annotated[list[Size], Field(min_length=2, max_length=2)]]


class _UNet(_Network):
    family: Literal["resunet"]
    depth: Literal[10, 18, 34, 50]


Network = Annotated[
    _Timm | _ViT | _Residual | _Residual3d | _Contracting | _UNet,
    Field(discriminator="family"),
]
