"""The tensors of somebody else's file: found without executing anything, taken one by one, each checked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medcoss_cli.errors import CheckpointError
from medcoss_cli.store import plain

WRAPPERS = (
    "model",
    "state_dict",
    "model_state",
    "teacher_model",
    "student",
    "teacher",
)  # under these a training script keeps its weights
AT_HAND = "timm:"


@dataclass
class Weights:
    """A file's tensors by name, and which of them were taken.

    Args:
        tensors: float tensors by the file's own names.
        where: the file, for errors.
        taken: the file's names so far, by where they went.
        facts: what the file's maker is known to have used and tensors do not show, such as the number of heads.
    """

    tensors: dict[str, Tensor]
    where: str
    taken: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, int] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def take(self, name: str, shape: tuple[int, ...], group: str) -> Tensor:
        """A tensor in float32. Raises: CheckpointError if it is missing, has another shape, or holds a NaN or infinity."""
        if name not in self.tensors:
            raise self._missing(name)
        tensor = self.tensors[name]
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{name} has the shape {_times(tensor.shape)}, not {_times(shape)}",
                where=self.where,
                fix="it comes from another architecture, or another size of it",
            )
        tensor = tensor.float()
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{name} holds values that are not finite", where=self.where, fix=plain.AGAIN)
        self.taken.setdefault(group, []).append(name)
        return tensor

    def expect(self, *names: str) -> None:
        """Names that nothing is made of, but that a whole file has. Raises: CheckpointError where one is missing."""
        for name in names:
            if name not in self.tensors:
                raise self._missing(name)

    def _missing(self, name: str) -> CheckpointError:
        text = f"{name} is missing among its {len(self.tensors)} tensors"
        return CheckpointError(text, where=self.where, fix=plain.AGAIN)

    def rows(self, name: str) -> int:
        """The first axis of a tensor; 0 where it is missing, which `take` then tells."""
        return len(self.tensors[name]) if name in self.tensors and self.tensors[name].ndim else 0

    def heads(self, width: int) -> int:
        """Attention heads, which no tensor shows: as told, else 16 in what is wider than ViT-L, else 64 values each."""
        heads = self.facts.get("heads", 16 if width > 1024 else width // 64)
        if heads < 1 or width % heads:
            raise CheckpointError(
                f"a width of {width} cannot have {heads} heads", where=self.where, fix="say how many with --heads"
            )
        return heads

    def left(self) -> list[str]:
        """Names that nothing was made of."""
        used = {name for names in self.taken.values() for name in names}
        return sorted(self.tensors.keys() - used)


def read(source: str) -> Weights:
    """The tensors of a file of torch or safetensors, or `timm:NAME`: weights that were downloaded to this machine before.

    A file of torch may hold an argparse.Namespace, as training scripts save their arguments; it is dropped unread.
    Nothing is fetched and nothing is executed.

    Raises: CheckpointError, ResourceError.
    """
    if source.startswith(AT_HAND):
        return _at_hand(source.removeprefix(AT_HAND))
    path = Path(source)
    if plain.is_safetensors(path):
        content: Mapping[str, Any] = plain.load_safetensors(path)
    else:
        content = plain.load(path, allowed=[argparse.Namespace])
    if isinstance(content.get("medcoss"), Mapping):
        raise CheckpointError("medcoss wrote this file, so it needs no import", where=path, fix="use it as it is")
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    tensors = {
        str(name).removeprefix("module."): tensor
        for name, tensor in content.items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point()
    }
    if not tensors:
        raise CheckpointError("the file holds no weights", where=path, fix="give a file of torch, or of safetensors")
    return Weights(tensors, str(path))


def _at_hand(name: str) -> Weights:
    """timm's weights from the cache that timm itself fills; nothing is downloaded here."""
    import timm
    from huggingface_hub import try_to_load_from_cache
    from timm.models.vision_transformer import VisionTransformer

    where = f"{AT_HAND}{name}"
    architecture = name.partition(".")[0]
    try:
        config = timm.models.get_pretrained_cfg(name) if timm.is_model(architecture) else None
    except RuntimeError:  # the architecture has no weights of this name
        config = None
    if config is None:
        raise CheckpointError(
            "timm knows no such weights", where=where, fix="see timm.list_models('vit*', pretrained=True)"
        )
    file = config.hf_hub_id and try_to_load_from_cache(config.hf_hub_id, "model.safetensors")
    if not isinstance(file, str):
        raise CheckpointError(
            "its weights are not on this machine, and medcoss downloads nothing",
            where=where,
            fix=f"download them once: python -c \"import timm; timm.create_model('{name}', pretrained=True)\"",
        )
    with torch.device("meta"):
        network: Any = timm.create_model(architecture)
    heads = {"heads": int(network.blocks[0].attn.num_heads)} if isinstance(network, VisionTransformer) else {}
    return Weights(plain.load_safetensors(Path(file)), where, facts=heads)


def _times(shape: tuple[int, ...] | torch.Size) -> str:
    return " x ".join(map(str, shape)) or "a number"
