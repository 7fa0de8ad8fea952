"""Experience replay: old data is reconstructed once more (the paper's ER row; Table 3 without feature distillation)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import nn

from medcoss_cli.model.batch import Batch
from medcoss_cli.model.multimodal import Model
from medcoss_cli.strategies import Loss, StageInfo, Strategy


class ExperienceReplay(Strategy):
    """Masked modelling on new and old data, without mixup.

    Replay trains copies of the old decoders; the kept ones stay as their stage left them and measure retention.
    """

    rehearses = True
    decoders: nn.ModuleDict

    def begin_stage(self, model: Model, stage: StageInfo) -> None:
        self.decoders = copy.deepcopy(model.decoders)

    def parameters(self, model: Model) -> Iterator[tuple[str, nn.Parameter]]:
        yield from model.named_parameters()
        yield from self.decoders.named_parameters(prefix="replay")

    def loss(self, model: Model, batch: Batch) -> Loss:
        return model.masked_loss(batch, None if batch.new else self.decoders[batch.modality])

    def state(self) -> dict[str, Any]:
        return self.decoders.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        self.decoders.load_state_dict(state)
