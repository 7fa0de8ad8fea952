"""What a stage knows of one of its modalities: the prepared data, and its division."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medcoss_cli.data.batches import Pool
from medcoss_cli.data.prepared import PreparedSet
from medcoss_cli.plugin import CompleteModality


@dataclass(frozen=True)
class StageData:
    """A prepared set and its division: `train` and `probes` are row numbers; no group is in both."""

    modality: CompleteModality
    prepared: PreparedSet
    train: np.ndarray[Any, Any]
    probes: np.ndarray[Any, Any]
    facts: dict[str, Any]

    @property
    def pool(self) -> Pool:
        """What may be trained on."""
        return Pool(self.modality, self.prepared, self.train)
