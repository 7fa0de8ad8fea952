"""Transformer blocks under the names of three libraries, and patches' projections."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from medcoss_cli.importers.weights import Weights

ENCODER = "encoder"
MULTIHEAD = {  # torch's TransformerEncoderLayer, as Uni-Perceiver and MedCoSS name it: ours to theirs
    "norm1": "norm1",
    "attn.proj": "self_attn.out_proj",
    "norm2": "norm2",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
}


def depth(weights: Weights, prefix: str) -> int:
    """How many blocks of this prefix there are."""
    numbers = {int(m[1]) for name in weights.tensors if (m := re.match(rf"{re.escape(prefix)}\.(\d+)\.", name))}
    return max(numbers, default=-1) + 1


def timm_blocks(weights: Weights, prefix: str, count: int, width: int, hidden: int, group: str) -> dict[str, Tensor]:
    """Blocks of timm, whose names are ours; LayerScale where there is one."""
    blocks = {}
    for number in range(count):
        shapes = block_shapes(width, hidden)
        if f"{prefix}.{number}.ls1.gamma" in weights:
            shapes |= {"ls1.gamma": (width,), "ls2.gamma": (width,)}
        for name, shape in shapes.items():
            blocks[f"{number}.{name}"] = weights.take(f"{prefix}.{number}.{name}", shape, group)
    return blocks


def multihead_blocks(
    weights: Weights, prefix: str, count: int, width: int, hidden: int, *, scaled: bool
) -> dict[str, Tensor]:
    """Blocks built on torch's MultiheadAttention: its packed in_proj is timm's qkv, gamma_1 and gamma_2 are LayerScale."""
    blocks = {}
    for number in range(count):
        theirs = f"{prefix}.{number}"
        for kind, shape in {"weight": (3 * width, width), "bias": (3 * width,)}.items():
            blocks[f"{number}.attn.qkv.{kind}"] = weights.take(f"{theirs}.self_attn.in_proj_{kind}", shape, ENCODER)
        for part, name in MULTIHEAD.items():
            for kind in ("weight", "bias"):
                shape = block_shapes(width, hidden)[f"{part}.{kind}"]
                blocks[f"{number}.{part}.{kind}"] = weights.take(f"{theirs}.{name}.{kind}", shape, ENCODER)
        for half in (1, 2) if scaled else ():
            blocks[f"{number}.ls{half}.gamma"] = weights.take(f"{theirs}.gamma_{half}", (width,), ENCODER)
    return blocks


def block_shapes(width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a block's weights under our names."""
    return {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "mlp.fc1.weight": (hidden, width),
        "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (width, hidden),
        "mlp.fc2.bias": (width,),
    }


def unscaled(count: int, width: int) -> dict[str, Tensor]:
    """LayerScale of 1, which changes nothing, for an encoder whose blocks have none."""
    return {f"blocks.{n}.ls{half}.gamma": torch.ones(width) for n in range(count) for half in (1, 2)}


def projection(kernel: Tensor) -> Tensor:
    """A convolution's kernel (D, C, *patch) as the matrix (D, values) of a patch whose values lie as (*patch, C)."""
    return kernel.movedim(1, -1).flatten(1).contiguous()
