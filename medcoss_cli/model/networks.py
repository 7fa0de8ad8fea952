"""A plugin's networks, built and looked at: what one lacks is the plugin's fault, in a sentence."""

from __future__ import annotations

from typing import cast

from torch import nn

from medcoss_cli.errors import PluginError
from medcoss_cli.plugin import CompleteModality, DecoderNetwork, PatchNetwork, TextNetwork, lacking


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


def _checked(modality: CompleteModality, part: str, network: object, protocol: type) -> nn.Module:
    fault = faults(part, network, protocol)
    if fault is not None:
        raise PluginError(
            f"the plugin {modality.name} cannot be used: {fault}",
            fix=f"report it to its author that medcoss_cli.plugin.{protocol.__name__} says what it needs",
        )
    return cast(nn.Module, network)
