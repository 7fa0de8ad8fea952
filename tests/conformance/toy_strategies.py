"""Strategies for the tests: one that uses every member of the contract, and broken ones that each break one rule."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ConfigDict, Field

from medcoss_cli.strategies import Phase, Strategy


class Whole(Strategy):
    """Two phases, a frozen half in the second, a count of steps, an importance that later stages use."""

    name = "whole"

    class Settings(Strategy.Settings):
        """Its one setting."""

        weight: float = Field(0.1, ge=0, description="of the pull")

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.kept: dict[str, Any] = {}
        self.frozen: dict[str, torch.Tensor] = {}
        self.steps = 0

    def begin_stage(self, model, stage):
        self.frozen, self.steps = {}, 0
        self.stage = stage

    def phases(self, stage):
        return [Phase(2 / 3), Phase(1 / 3, self.freeze)]

    def freeze(self, model):
        """Half of every matrix becomes 0 and stays so."""
        self.frozen = {}
        for name, weight in model.encoder.named_parameters():
            if weight.ndim == 2:
                with torch.no_grad():
                    weight[: len(weight) // 2] = weight[: len(weight) // 2].round(decimals=2)
                self.frozen[name] = weight.detach().clone()

    def after_backward(self, model):
        for name, weight in model.encoder.named_parameters():
            if name in self.kept.get("anchor", {}) and weight.grad is not None:
                weight.grad += (
                    self.settings.weight * self.kept["fisher"][name] * (weight.detach() - self.kept["anchor"][name])
                )

    @torch.no_grad()
    def after_step(self, model):
        self.steps += 1
        for name, weight in model.encoder.named_parameters():
            if name in self.frozen:
                weight[: len(weight) // 2] = self.frozen[name][: len(weight) // 2]

    def end_stage(self, model, samples):
        fisher: dict[str, Any] = {}
        for batch in samples(8, batch=1):
            model.zero_grad()
            value, count = model.masked_loss(batch)
            (value / count).backward()
            for name, weight in model.encoder.named_parameters():
                if weight.grad is not None:
                    fisher[name] = fisher.get(name, 0) + weight.grad.square() / 8
        anchor = {name: weight.detach().clone() for name, weight in model.encoder.named_parameters() if name in fisher}
        self.kept = {"fisher": fisher, "anchor": anchor, "steps": self.steps, "stage": self.stage.number}

    def memory(self):
        return self.kept

    def load_memory(self, memory):
        self.kept = memory

    def state(self):
        return {"frozen": self.frozen, "steps": self.steps}

    def load_state(self, state):
        self.frozen, self.steps = state["frozen"], state["steps"]


class ForgetsState(Whole):
    """A resumed run does not know what was frozen."""

    def state(self):
        return {"frozen": {}, "steps": self.steps}


class ForgetsMemory(Whole):
    """A later stage after a restart does not know the importance."""

    def memory(self):
        return {}


class OddMemory(Whole):
    """Its memory holds a set."""

    def memory(self):
        return {"names": {"a", "b"}}


class Mean(Strategy):
    """Its loss is a mean already."""

    def loss(self, model, batch):
        value, count = model.masked_loss(batch)
        return value / count, count


class OwnDice(Strategy):
    """It draws from the global generator."""

    def begin_stage(self, model, stage):
        self.noise = torch.rand(3)


class NoDefault(Strategy):
    """A setting that a recipe would have to give."""

    class Settings(Strategy.Settings):
        weight: float


class Loose(Strategy):
    """Takes any setting."""

    class Settings(Strategy.Settings):
        model_config = ConfigDict(extra="allow")


class TrainsDecoders(Strategy):
    """Old data trains the kept decoder."""

    rehearses = True

    def loss(self, model, batch):
        return model.masked_loss(batch)


class Nothing(Strategy):
    """Nothing can be trained."""

    def parameters(self, model):
        return iter(())


class Raises(Strategy):
    """Its loss raises."""

    def loss(self, model, batch):
        raise KeyError("fisher")


class Infinite(Strategy):
    """Its loss is not finite."""

    def loss(self, model, batch):
        value, count = model.masked_loss(batch)
        return value * float("inf"), count


class Shares(Strategy):
    """Its phases are more than a stage."""

    def phases(self, stage):
        return [Phase(0.7), Phase(0.7)]


BROKEN = {
    ForgetsState: "resumed after step",
    ForgetsMemory: "memory lacks something",
    OddMemory: "its memory cannot be kept in a checkpoint (set is neither a tensor nor a plain value)",
    Mean: "give a sum, not a mean",
    OwnDice: "it uses a global random generator",
    NoDefault: "its Settings has no default for weight",
    Loose: "its Settings takes unknown keys",
    TrainsDecoders: "it trains an earlier modality's decoder",
    Nothing: "nothing that can be trained",
    Raises: "training two stages fails (KeyError: 'fisher')",
    Infinite: "the loss is inf",
    Shares: "the shares of the phases",
}
