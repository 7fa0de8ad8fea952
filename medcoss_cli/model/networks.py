"""A plugin's networks, built and looked at: what one lacks is the plugin's fault, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from medcoss_cli.errors import PluginError
from medcoss_cli.plugin import CompleteModality, DecoderNetwork, PatchNetwork, TextNetwork, lacking

UNWRITTEN = 2**27
"""Values of a part that a file says much of and has no tensor of: five times the paper's decoder."""


def build_tokenizer(modality: CompleteModality, width: int) -> nn.Module:
    """The network of its tokenizer. Raises: PluginError naming what it lacks."""
    text = modality.text_tokenizer is not None
    return _checked(modality, "tokenizer", modality.tokenizer.build(width), TextNetwork if text else PatchNetwork)


def build_decoder(modality: CompleteModality, width: int) -> nn.Module:
    """The network of its decoder. Raises: PluginError naming what it lacks."""
    return _checked(modality, "decoder", modality.decoder.build(width, modality), DecoderNetwork)


def faults(part: str, network: object, protocol: type) -> str | None:
    """What is wrong with what a part builds; None if it is a torch module with all that the protocol asks for."""
    name = type(network).__name__
    if not isinstance(network, nn.Module):
        return f"its {part} builds {name}, which is no torch nn.Module"
    missing = lacking(network, protocol)
    return f"its {part} builds the network {name}, which lacks {' and '.join(missing)}" if missing else None


def misfit(
    what: str, build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], *, absent: bool = False
) -> str | None:
    """Where what is built has other shapes than its tensors: found without room for any value, before it is built in earnest.

    Args:
        what: the part, in words.
        tensors: of the part, by its own names.
        absent: there may be none of them, in a stripped file or for a new part; it must then be of a usual size.
    """
    try:
        with torch.device("meta"):
            shapes = {name: value.shape for name, value in build().state_dict().items() if value.is_floating_point()}
    except (
        RuntimeError,
        TypeError,
        ValueError,
    ):  # a plugin may ask for numbers while it builds: loading compares its tensors
        return None
    if absent and not tensors:
        values = sum(map(math.prod, shapes.values()))
        return f"{what} would have {values:,} values, and the file has none" if values > UNWRITTEN else None
    for name, shape in shapes.items():
        if name not in tensors:
            return f"{name} of {what} is not in the file"
        if tensors[name].shape != shape:
            said, found = (" x ".join(map(str, sides)) or "one value" for sides in (shape, tensors[name].shape))
            return f"{name} of {what} would be {said}, in the file it is {found}"
    return None


def within(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of one part, by its own names."""
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _checked(modality: CompleteModality, part: str, network: object, protocol: type) -> nn.Module:
    fault = faults(part, network, protocol)
    if fault is not None:
        raise PluginError(
            f"the plugin {modality.name} cannot be used: {fault}",
            fix=f"report it to its author that medcoss_cli.plugin.{protocol.__name__} says what it needs",
        )
    return cast(nn.Module, network)
