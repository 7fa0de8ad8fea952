"""A plugin's networks, built and looked at: what one lacks is the plugin's fault, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from medcoss_cli.errors import CheckpointError, PluginError
from medcoss_cli.plugin import CompleteModality, DecoderNetwork, PatchNetwork, TextNetwork, lacking

ROOM = 2**27
"""Values that are in no file: computed positions, the decoder of a stripped file. Five times the paper's decoder."""


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


class AtMost(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """A limit on the values that are made while networks are built as a file describes them, also by a plugin.

    Loading compares the shapes only after the memory is taken; this stops at four times the values of the file, plus ROOM.

    Args:
        weights: the file's.

    Raises: CheckpointError, from whatever builds, at the limit.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = sum(tensor.numel() for tensor in weights.values())
        self.left = 4 * self.held + ROOM

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and not (func.is_view or func._schema.is_mutable):
            self.left -= made.numel()
            if self.left < 0:
                raise CheckpointError(
                    f"it is damaged: it describes networks far larger than the {self.held:,} values that it holds",
                    fix="use another copy of it",
                )
        return made


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
