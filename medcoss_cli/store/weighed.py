"""What a file says of its networks, against the tensors in it: before anything is built, since building takes what is said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 2**17
"""Tokens of a sample: 16 times those of a volume of 512 x 512 x 512 voxels in patches of 16 x 32 x 32."""
DIMENSIONS = ("width", "depth", "heads", "layers", "features", "hybrid", "channels", "patch", "grid", "rows")
LARGEST = 2**31
"""Values of a sample."""


def encoder_fault(encoder: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str | None:
    """Where the dimensions of an encoder of medcoss are not those of its tensors."""
    cls, first = weights.get("encoder.cls"), weights.get("encoder.blocks.0.mlp.fc1.weight")
    depth = _blocks("encoder.blocks.", weights)
    if cls is None or cls.ndim != 3 or first is None or first.ndim != 2:
        return "its weights hold no encoder"
    width = encoder["width"]
    if width != cls.shape[-1]:
        return f"it says that the encoder is {width} wide, its weights are {cls.shape[-1]} wide"
    if encoder["depth"] != depth:
        return f"it says that the encoder has {encoder['depth']} blocks, its weights have {depth}"
    ratio = encoder.get("mlp_ratio", 4.0)
    if not math.isfinite(ratio) or abs(width * ratio - first.shape[0]) >= 1:
        return f"it says that mlp_ratio is {ratio}, its weights have {first.shape[0]} hidden units for {width}"
    scale, has_scales = encoder.get("layer_scale"), "encoder.blocks.0.ls1.gamma" in weights
    if (scale is not None) != has_scales:
        return f"it says that layer_scale is {scale}, its weights have {'such' if has_scales else 'no such'} factors"
    if not 0 < encoder["heads"] <= width or width % encoder["heads"]:
        return f"a width of {width} cannot be cut into {encoder['heads']} heads"
    return None


def foreign_fault(network: Mapping[str, Any], width: int, weights: Mapping[str, Tensor]) -> str | None:
    """Where a network of others is described by lengths that no axis of its tensors has, or by more blocks than tensors.

    Args:
        network: in plain values, see `model.foreign`.
        width: of its feature; 0 where it has none.
    """
    axes = {0, *(length for tensor in weights.values() for length in tensor.shape)}
    said = {key: network.get(key, []) for key in ("channels", "patch", "hidden", "stem", "planes", "widths")}
    for key, given in {**said, "width": [width, network.get("width", 0)]}.items():
        for length in np.ravel(given).tolist():
            if length not in axes:
                return f"it says that {key} of its network is {length}, and none of its tensors is {length} long"
    if "blocks" in network or "heads" in network:
        blocks = sum(network.get("blocks", [network.get("depth")]))
        if blocks > len(weights):
            return f"it says that its network has {blocks} blocks, its weights have {len(weights)} tensors"
    if "heads" in network:
        if network["width"] % network["heads"]:
            return f"a width of {network['width']} cannot be cut into {network['heads']} heads"
        if (places := (network["side"] // network["patch"]) ** 2 + 1) not in axes:
            return f"it says that a sample has {places} tokens, and none of its tensors is {places} long"
    return None


def part_fault(name: str, numbers: Mapping[str, Any] | None, prefix: str, weights: Mapping[str, Tensor]) -> str | None:
    """Where a decoder, tokenizer or head is described by larger dimensions than its tensors have values.

    Args:
        numbers: its description; what else a plugin keeps in it (a sampling rate) is no dimension.
        prefix: of the names of its tensors.
    """
    tensors = [tensor for key, tensor in weights.items() if key.startswith(prefix)]
    if not tensors or numbers is None:  # a stripped file has no decoders
        return None
    values = sum(tensor.numel() for tensor in tensors)
    for key in DIMENSIONS:
        given = numbers.get(key)
        most = len(tensors) if key in ("depth", "layers") else values
        for number in given if isinstance(given, list | tuple) else [given]:
            if isinstance(number, int | float) and not 0 <= number <= most:
                return f"it says that {key} of {name} is {number}, its weights have {values:,} values"
    return None


def size_fault(size: Sequence[int], patch: Sequence[int] | None) -> str | None:
    """Where a sample would be too large to be one."""
    if not size or any(length < 1 for length in size):
        return f"a sample of {' x '.join(map(str, size)) or 'no'} values is none"
    tokens = math.prod(size) // max(1, math.prod(patch or ()))
    if math.prod(size) > LARGEST or tokens > LONGEST:
        return f"a sample of {' x '.join(map(str, size))} has {tokens:,} tokens, more than {LONGEST:,}"
    return None


def _blocks(prefix: str, weights: Mapping[str, Tensor]) -> int:
    return len({name[len(prefix) :].partition(".")[0] for name in weights if name.startswith(prefix)})
