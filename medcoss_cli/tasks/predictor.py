"""A trained network on samples as they are read.

numpy alone: whether torch or an exported file computes is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcoss_cli.data.read import encode
from medcoss_cli.model.outputs import Array, Network, finite
from medcoss_cli.plugin import CompleteModality, Sample
from medcoss_cli.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from medcoss_cli.tasks import TaskKind

Decode = Callable[[Array, float, float], Array]
"""Stored integers (N, C, *size), or ids (N, L), with scale and offset to what the network sees."""


@dataclass(frozen=True)
class Predictor:
    """A network, the task it was trained for, and what turns a sample into its inputs."""

    kind: TaskKind
    spec: TaskSpec
    modality: CompleteModality
    network: Network
    decode: Decode

    def outputs(self, sample: Sample) -> Array:
        """What the network gives of one sample resized to its input. Raises: NonFiniteError where it is not finite."""
        integers, scale, offset = encode(self.modality, sample)
        outputs: Array = finite(self.network(self.decode(integers[None], scale, offset))[0])
        return outputs
