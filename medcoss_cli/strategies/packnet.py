"""PackNet (Mallya and Lazebnik, CVPR 2018): every stage has weights of its own, which later stages use but do not change.

A stage trains what is free, prunes it at two thirds of its steps to the largest weights, and trains those for the last
third. Pruned weights are 0 and free for later stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from medcoss_cli.errors import CheckpointError
from medcoss_cli.model.multimodal import Model
from medcoss_cli.strategies import Phase, Samples, StageInfo, Strategy, check_tensors


class PackNet(Strategy):
    """Weights of Linear layers in blocks and patch projections are shared out; all else trains in its first stage only.

    `owner` has a byte for each such weight: 0 while it is free, else the number of the stage that it belongs to. What is
    not trained is restored after every step: zero gradients would not do, since AdamW's decay moves frozen weights and its
    momentum pruned ones.
    """

    class Settings(Strategy.Settings):
        """How much room is left."""

        spare: int = Field(0, ge=0, description="stages beyond the recipe's that room is left for, to extend later")

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.owner: dict[str, Tensor] = {}
        self.settled: list[str] = []  # names of what earlier stages have trained and is not shared out
        self.stages: dict[str, int] = {}  # the last stage that trained each modality

    def begin_stage(self, model: Model, stage: StageInfo) -> None:
        """Raises: CheckpointError where earlier stages left no weights free."""
        if stage.number > 1 and not self.owner:
            raise CheckpointError(
                "the earlier stages were not trained with packnet, so they use all weights and none is free",
                fix="train them with strategy=packnet, or choose another strategy",
            )
        self.stage = stage
        self.pruned = False
        self.stages = {**self.stages, **dict.fromkeys(stage.modalities, stage.number)}
        shared = dict(model.shared_parameters())
        names = maskable(model)
        device = model.encoder.cls.device
        fresh = {name: torch.zeros(shared[name].shape, dtype=torch.uint8) for name in names if name not in self.owner}
        self.owner = {name: owner.to(device) for name, owner in {**self.owner, **fresh}.items()}
        for name in names:
            self._share(int((self.owner[name] == 0).sum()))
        # free weights are 0 unless a stage trains them
        self.frozen = {
            n: torch.where(self.owner[n] > 0, shared[n].detach(), torch.zeros_like(shared[n])) for n in names
        }
        for name in shared.keys() & self.settled:
            shared[name].requires_grad_(False)

    def _share(self, free: int) -> int:
        """Of so many free weights of a matrix, those that the stage keeps. Raises: CheckpointError if that is none."""
        stage = self.stage
        left = 2 if stage.total is None else max(1, stage.total + self.settings.spare - stage.number + 1)
        keep = round(free / left)
        if keep < 1 or stage.number > 255:
            raise CheckpointError(
                f"packnet has no room for stage {stage.number}: {free or 'no'} weights of a layer are free, for {left} stages",
                fix="strategy.spare, which is the recipe's to give, says how many stages may come behind it",
            )
        return keep

    def phases(self, stage: StageInfo) -> Sequence[Phase]:
        return [Phase(2 / 3), Phase(1 / 3, self.prune)]

    @torch.no_grad()
    def prune(self, model: Model) -> None:
        """Of each matrix's free weights keep the largest, 1 of the number of stages that are still to come; zero the rest."""
        shared = dict(model.shared_parameters())
        self.owner = {
            name: owner.clone() for name, owner in self.owner.items()
        }  # the memory of the stage before is kept
        for name, owner in self.owner.items():
            if name not in shared:
                continue
            free = (owner == 0).flatten().nonzero().squeeze(1)
            size = shared[name].flatten()[free].abs()
            kept = free[size.argsort(descending=True, stable=True)[: self._share(len(free))]]
            owner.view(-1)[kept] = self.stage.number
        self.pruned = True
        self.after_step(model)

    @torch.no_grad()
    def after_step(self, model: Model) -> None:
        shared, trained = dict(model.shared_parameters()), self.stage.number if self.pruned else 0
        for name, frozen in self.frozen.items():
            shared[name].copy_(torch.where(self.owner[name] == trained, shared[name], frozen))

    def end_stage(self, model: Model, samples: Samples) -> None:
        shared = dict(model.shared_parameters())
        self.settled = sorted(shared.keys() - self.owner.keys())
        for parameter in shared.values():
            parameter.requires_grad_(True)

    def memory(self) -> dict[str, Any]:
        return {"owner": self.owner, "settled": self.settled, "stages": self.stages}

    def load_memory(self, memory: dict[str, Any]) -> None:
        self.owner = {name: owner.clone() for name, owner in memory["owner"].items()}
        self.settled, self.stages = list(memory["settled"]), dict(memory["stages"])
        if not all(isinstance(name, str) for name in self.settled) or any(
            type(n) is not int for n in self.stages.values()
        ):
            raise ValueError("settled or stages is of another form")

    def check_memory(self, model: Model) -> None:
        check_tensors(self.owner, dict(model.shared_parameters()), torch.uint8)

    def state(self) -> dict[str, Any]:
        return {"owner": self.owner, "pruned": self.pruned}

    def load_state(self, state: dict[str, Any]) -> None:
        owner, pruned = state["owner"], state["pruned"]
        check_tensors(owner, self.owner, torch.uint8)
        if owner.keys() != self.owner.keys() or not isinstance(pruned, bool):
            raise ValueError("owner or pruned is of another form")
        device = next(iter(self.frozen.values())).device
        self.owner = {name: stages.clone().to(device) for name, stages in owner.items()}
        self.pruned = pruned

    @contextmanager
    def serving(self, model: Model, modality: str) -> Iterator[None]:
        """The encoder as the modality's own stage left it: weights of later stages are 0."""
        stage, shared = self.stages.get(modality), dict(model.shared_parameters())
        hidden = {} if stage is None else {n: o > stage for n, o in self.owner.items() if n in shared}
        with torch.no_grad():
            whole = {name: shared[name].detach().clone() for name in hidden}
            for name, later in hidden.items():
                shared[name].masked_fill_(later, 0.0)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weights in whole.items():
                    shared[name].copy_(weights)


def maskable(model: Model) -> list[str]:
    """Names of the weights that stages share out: of Linear layers in the blocks and in the patch projections."""
    return [
        f"{name}.weight"
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and name.startswith(("encoder.blocks.", "tokenizers."))
    ]
