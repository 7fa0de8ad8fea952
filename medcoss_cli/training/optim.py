"""AdamW and its learning rates, for pre-training and for fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Named = Iterable[tuple[str, nn.Parameter]]


def decay_on_matrices(
    parameters: Named, weight_decay: float, places: Collection[nn.Parameter] = ()
) -> list[dict[str, Any]]:
    """Parameter groups with weight decay on matrices only, not on norms, biases, LayerScale, cls and mask tokens.

    Args:
        places: matrices that decay in places only (`decay_places`), which AdamW cannot do.
    """
    trained = [p for _, p in parameters if p.requires_grad]
    whole = {p for p in trained if p.ndim == 2}.difference(places)
    return [
        {"params": [p for p in trained if p in whole], "weight_decay": weight_decay},
        {"params": [p for p in trained if p not in whole], "weight_decay": 0.0},
    ]


@torch.no_grad()
def decay_places(parameters: Mapping[nn.Parameter, Tensor], rate: float, weight_decay: float) -> None:
    """AdamW's decay, p (1 - rate weight_decay), where a bool tensor of the parameter's shape says so; before its step."""
    for parameter, places in parameters.items():
        if parameter.grad is not None:
            parameter.mul_(torch.where(places, 1 - rate * weight_decay, 1.0))


def by_depth(
    parameters: Named, weight_decay: float, layer_decay: float, depth_of: Callable[[str], int], depth: int
) -> list[dict[str, Any]]:
    """Parameter groups with weight decay on everything; `scale` is a group's share of the learning rate.

    Args:
        layer_decay: factor of the learning rate from one block to the block below it; 1: the same everywhere.
        depth_of: a parameter's depth by name: 0 the tokenizer, `depth` the head.
    """
    groups: dict[int, list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            groups.setdefault(depth_of(name) if layer_decay < 1 else depth, []).append(parameter)
    return [
        {"params": group, "weight_decay": weight_decay, "scale": layer_decay ** (depth - at)}
        for at, group in sorted(groups.items())
    ]


def adamw(groups: list[dict[str, Any]], beta2: float, *, fused: bool = False) -> torch.optim.AdamW:
    """AdamW (0.9, beta2). Parameters that a step does not use have no gradient: no decay and no momentum moves them."""
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, beta2), fused=fused)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, times each group's `scale`."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def cosine(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up from 0 to the peak over `warmup` steps, then a half cosine to 0 at the last step (per step)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def poly(step: int, steps: int, warmup: int, peak: float, epoch: int) -> float:
    """Linear warm-up, then peak (1 - e / epochs)^0.9, constant within an epoch of `epoch` steps (appendix B.2)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    part: float = (1 - (step // epoch) / math.ceil(steps / epoch)) ** 0.9
    return peak * part
