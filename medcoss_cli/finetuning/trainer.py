"""The loop of fine-tuning: AdamW, the paper's schedule, validation, the best state kept, resumed to the same bits."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from medcoss_cli.console import Screen
from medcoss_cli.errors import Interrupted, ResourceError
from medcoss_cli.model.finetuned import TaskNetwork
from medcoss_cli.randomness import seeded
from medcoss_cli.recipe.finetuning import Tune
from medcoss_cli.store.progress import Progress
from medcoss_cli.tasks import Scores, TaskData, TaskKind
from medcoss_cli.tasks.samples import SampleData
from medcoss_cli.training.distributed import Devices
from medcoss_cli.training.interruption import Interruption
from medcoss_cli.training.optim import adamw, by_depth, cosine, poly, set_rate
from medcoss_cli.training.resume import check_data, check_loss, load_optimiser, step_in, taken_up

PATIENCE = 4
"""Validations without a better one, while the training loss falls, before overfitting is reported."""
WAIT = 0.25
"""Share of all steps without a better validation before that; half of all must be done, since the first say little."""


def rate(step: int, tune: Tune, epoch: int) -> float:
    """Learning rate of a step, by the recipe's schedule."""
    if tune.schedule == "cosine":
        return cosine(step, tune.steps, tune.warmup, tune.lr)
    return poly(step, tune.steps, tune.warmup, tune.lr, epoch)


@dataclass
class TrainerState:
    """Where a training is, beside parameters and optimiser: plain values, and the best parameters so far."""

    step: int = 0
    best_step: int = 0
    best: float = -math.inf
    scores: Scores | None = None
    weights: dict[str, Tensor] | None = None
    losses: list[float] = field(default_factory=list)
    """Mean training loss between validations, up to the newest."""
    losses_at_best: float = math.inf
    warned: bool = False


def overfits(at: TrainerState, steps: int, interval: int) -> bool:
    """Has validation long been worse than at its best, while the training loss went on falling?

    Args:
        steps: of the whole training.
        interval: steps between two validations.
    """
    since = at.step - at.best_step
    long = since >= max(PATIENCE * interval, WAIT * steps) and at.step >= steps / 2
    return long and at.losses[-1] < 0.8 * at.losses_at_best


class Training:
    """One seed's training.

    Args:
        progress: its folder, with metrics.jsonl and resume.pt.
        layer_decay: of the learning rate from block to block.
    """

    def __init__(
        self,
        network: TaskNetwork,
        kind: TaskKind,
        data: TaskData,
        tune: Tune,
        seed: int,
        progress: Progress,
        devices: Devices,
        screen: Screen,
        layer_decay: float = 1.0,
    ) -> None:
        self.network, self.kind, self.data = network.to(devices.device), kind, data
        self.tune, self.seed, self.progress, self.devices, self.screen = tune, seed, progress, devices, screen
        self.epoch = tune.epoch or math.ceil(data.cases / tune.batch)
        top = self.network.depth + 1
        groups = by_depth(network.named_parameters(), tune.weight_decay, layer_decay, network.depth_of, top)
        self.optimiser = adamw(groups, 0.999)  # torch's own beta2; pre-training takes MAE's 0.95
        self.at = TrainerState()
        self.recent: list[float] = []

    def run(self) -> TrainerState:
        """To the last step; the network then has the best weights, or the last (`select`, or nothing to validate on).

        Raises: Interrupted after a signal, when everything is saved; NonFiniteError, ResourceError (memory).
        """
        self._load()
        self._encode_once()
        at, tune = self.at, self.tune
        interval, saved = tune.validate_every or self.epoch, time.monotonic()
        with (
            Interruption(self.screen.say) as interruption,
            self.screen.progress(f"seed {self.seed}", tune.steps, at.step) as bar,
            memory_explained(tune.batch),
        ):
            while at.step < tune.steps:
                loss = self._step()
                if at.step % interval == 0 or at.step == tune.steps:
                    self._validate()
                bar.advance(loss=f"{loss:.3f}", best="–" if at.best == -math.inf else f"{at.best:.3f}")
                if interruption.requested:
                    self._save()
                    raise Interrupted(
                        f"seed {self.seed} stopped after step {at.step} of {tune.steps}, everything is saved",
                        fix=f"continue with --resume {self.progress.folder.parent}",
                    )
                if time.monotonic() - saved > 60 * tune.save_minutes:
                    self._save()
                    saved = time.monotonic()
        if at.weights is not None:
            self.network.load_state_dict(at.weights)
        else:
            at.best_step = at.step
        return at

    def _encode_once(self) -> None:
        """Of a frozen encoder whose samples are not augmented, all features are computed before the first step."""
        self.forward: Callable[[Tensor], Tensor] = self.network
        data, network = self.data, self.network
        if network.frozen and network.blocks is None and isinstance(data, SampleData) and data.is_steady:
            network.eval()
            with torch.no_grad(), self.devices.autocast(self.tune.precision, network.width):
                data.encode(network.features, self.devices.device)
            self.forward = network.head

    def _step(self) -> float:
        began, at, tune = time.perf_counter(), self.at, self.tune
        self.network.train()
        inputs, targets = self.data.batch(self.seed, at.step, tune.batch, self.devices.device)
        with seeded(self.seed, at.step, "drop path"), self.devices.autocast(tune.precision, self.network.width):
            outputs = self.forward(inputs)
        loss = self.data.loss(outputs, targets)
        value = loss.item()
        check_loss(value, f"step {at.step + 1} of seed {self.seed}", self.progress.folder)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        if tune.clip is not None:
            nn.utils.clip_grad_norm_([p for p in self.network.parameters() if p.requires_grad], tune.clip)
        learning_rate = rate(at.step, tune, self.epoch)
        set_rate(self.optimiser, learning_rate)
        self.optimiser.step()
        at.step += 1
        self.recent.append(value)
        seconds = round(time.perf_counter() - began, 4)
        self.progress.metric({"step": at.step, "loss": value, "lr": learning_rate, "seconds": seconds})
        return value

    def _validate(self) -> None:
        at = self.at
        at.losses.append(sum(self.recent) / max(1, len(self.recent)))
        self.recent = []
        scores = self.data.validate(self.network, self.devices.device)
        if scores is None:
            return
        self.progress.metric({"step": at.step, "validation": scores})
        value = self.kind.criterion(scores)
        if self.tune.select == "last":
            at.scores, at.best, at.best_step = scores, value, at.step
        elif value > at.best or at.weights is None:
            at.best, at.best_step, at.scores, at.losses_at_best = value, at.step, scores, at.losses[-1]
            at.weights = copy.deepcopy({k: v.detach().cpu() for k, v in self.network.state_dict().items()})
        interval = self.tune.validate_every or self.epoch
        if not at.warned and overfits(at, self.tune.steps, interval):
            at.warned = True
            self.screen.warn(
                f"seed {self.seed} overfits: best on validation at step {at.best_step}, while the training loss fell "
                f"from {at.losses_at_best:.3f} to {at.losses[-1]:.3f}; fewer steps, more augmentation or head.freeze may do"
            )

    def _save(self) -> None:
        content = {
            "data_hash": self.data.data_hash,
            "model": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "state": vars(self.at),
            "recent": self.recent,
        }
        self.progress.save_resume(content)

    def _load(self) -> None:
        content = self.progress.load_resume()
        if content is not None:
            with taken_up(self.progress.folder / "resume.pt", "remove it; the seed then starts again"):
                check_data(content["data_hash"], self.data.data_hash, self.progress.folder)
                self.at = at = TrainerState(**content["state"])
                if at.weights is not None:  # those of the end, tried before the training takes hours
                    self.network.load_state_dict(at.weights)
                self.network.load_state_dict(content["model"])
                load_optimiser(self.optimiser, content["optimiser"])
                self.recent = [float(loss) for loss in content["recent"]]
                at.losses, at.losses_at_best = [float(loss) for loss in at.losses], float(at.losses_at_best)
                at.step, at.best_step = (step_in(step, self.tune.steps) for step in (at.step, at.best_step))
                at.best, at.warned = float(at.best), at.warned is True
                at.scores = None if at.scores is None else {str(key): float(at.scores[key]) for key in at.scores}
        self.progress.truncate_metrics(step=self.at.step)


@contextmanager
def memory_explained(batch: int) -> Iterator[None]:
    """Out of memory becomes a sentence that says what to try. Raises: ResourceError."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        plain = isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)
        if plain and "allocate memory" not in str(error):
            raise
        half = f"train.batch={batch // 2}" if batch > 1 else "head.features=8"
        raise ResourceError("not enough memory for a step", fix=f"try {half}, or a smaller input.size") from error


def parameters_of(network: TaskNetwork) -> dict[str, Any]:
    """How many weights there are, and how many of them are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return {"weights": sum(n for n, _ in sizes), "trained": sum(n for n, trained in sizes if trained)}
