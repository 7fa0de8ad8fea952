"""Experience replay: old data is reconstructed once more (the paper's ER row; Table 3 without feature distillation)."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from pydantic import Field
from torch import nn

from medcoss_cli.model.batch import Batch
from medcoss_cli.model.multimodal import Model
from medcoss_cli.strategies import Losses, StageInfo, Strategy, check_tensors


class ExperienceReplay(Strategy):
    """Masked modelling on new and old data, without mixup.

    Replay trains decoders of its own; the kept ones stay as their stage left them and measure retention.
    """

    class Settings(Strategy.Settings):
        """What decodes old data."""

        decoders: Literal["fresh", "kept"] = Field(
            "fresh", description="decoders of old data: random in every stage, as the authors have them, or carried on"
        )

    settings: Settings
    plain_first_stage = True
    rehearses = True
    selection: Literal["kmeans", "random"] = "random"
    decoders: nn.ModuleDict

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.carried: dict[str, dict[str, Any]] = {}  # weights of the replayed decoders where they are carried on

    def begin_stage(self, model: Model, stage: StageInfo) -> None:
        old = [name for name in model.modalities if name not in stage.new]
        kept = self.carried if self.settings.decoders == "kept" else None
        self.decoders = replay_decoders(model, old, stage.number, kept)

    def parameters(self, model: Model) -> Iterator[tuple[str, nn.Parameter]]:
        yield from model.named_parameters()
        yield from self.decoders.named_parameters(prefix="replay")

    def loss(self, model: Model, batch: Batch) -> Losses:
        return model.masked_loss(batch, None if batch.new else self.decoders[batch.modality])

    def memory(self) -> dict[str, Any]:
        if self.settings.decoders == "fresh":
            return {}
        self.carried |= {name: dict(decoder.state_dict()) for name, decoder in self.decoders.items()}
        return {"decoders": self.carried}

    def load_memory(self, memory: dict[str, Any]) -> None:
        self.carried = dict(memory["decoders"])

    def check_memory(self, model: Model) -> None:
        check_decoders(self.carried, model)

    def state(self) -> dict[str, Any]:
        return self.decoders.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        self.decoders.load_state_dict(state)


def replay_decoders(
    model: Model, old: Collection[str], stage: int, kept: Mapping[str, Mapping[str, Any]] | None
) -> nn.ModuleDict:
    """What decodes replayed data of the old modalities in a stage.

    Args:
        kept: weights that replay has left by modality, to go on from; a modality that was not replayed yet goes on from the
            decoder of its own stage. None: random weights, another draw for every stage.
    """
    decoders = nn.ModuleDict()
    for name in old:
        if kept is None:
            decoders[name] = model.fresh_decoder(model.modalities[name], "replay", name, stage)
        else:
            decoders[name] = copy.deepcopy(model.decoders[name])
            if name in kept:
                decoders[name].load_state_dict(kept[name])
    return decoders


def check_decoders(carried: Mapping[str, Mapping[str, Any]], model: Model) -> None:
    """Raises: ValueError or KeyError where weights that replay has left are not of the model's decoders."""
    for name, weights in carried.items():
        like = model.decoders[name].state_dict()
        if weights.keys() != like.keys():
            raise ValueError(f"the decoder of {name} has other weights")
        check_tensors(weights, like)
