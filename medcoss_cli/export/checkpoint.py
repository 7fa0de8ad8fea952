"""A checkpoint in use: its features of one modality, in torch, as `runtime` gives those of an exported file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from medcoss_cli.console import Screen
from medcoss_cli.export.networks import Features
from medcoss_cli.finetuning.checkpoints import decoder
from medcoss_cli.model.outputs import Array
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.pretraining.state import read_for
from medcoss_cli.store.checkpoint import find_checkpoint

Network = Callable[[Array], tuple[Array, Array]]
"""Inputs (N, C, *size), or ids (N, L), to features of the tokens (N, L, D) and pooled features (N, D)."""


def features_of(
    source: Path, modality: str, screen: Screen
) -> tuple[CompleteModality, Network, Callable[[Array, float, float], Array], Path]:
    """The modality, its network, what it makes of stored integers, and the file. Raises: CheckpointError."""
    file, note = find_checkpoint(source)
    if note:
        screen.say(note)
    state = read_for(file, modality, screen)
    part = state.model.modalities[modality]
    return part, in_numpy(Features.of(state.model, modality)), decoder(part), file


def in_numpy(features: Features) -> Network:
    """Arrays in, arrays out, computed on a GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = features.to(device).eval()

    @torch.no_grad()
    def run(inputs: Array) -> tuple[Array, Array]:
        tokens, pooled = network(torch.from_numpy(inputs).to(device))
        return tokens.float().cpu().numpy(), pooled.float().cpu().numpy()

    return run
