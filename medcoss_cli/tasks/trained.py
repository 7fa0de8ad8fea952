"""A network as it was trained, in torch, ready for samples as they are read."""

from __future__ import annotations

import torch

from medcoss_cli.model.outputs import Array
from medcoss_cli.model.tuned import Tuned
from medcoss_cli.plugin import Modality
from medcoss_cli.task import Task
from medcoss_cli.tasks.apply import Applied, Decode


def applied(task: Task, modality: Modality, network: Tuned, device: torch.device) -> Applied:
    """The network on a device, with the modality's own rule for what it sees."""
    return Applied(task, modality, network.on(device), decoder(modality))


def decoder(modality: Modality) -> Decode:
    """The modality's own rule from stored integers to what a network sees."""
    intensity = modality.intensity
    assert intensity is not None

    def decode(integers: Array, scale: float, offset: float) -> Array:
        rows = len(integers)
        scales, offsets = torch.full((rows,), scale), torch.full((rows,), offset)
        seen: Array = intensity.decode(torch.from_numpy(integers), scales, offsets).numpy()
        return seen

    return decode
