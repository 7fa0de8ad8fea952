"""The engine: batches to steps. Accumulation, one all-reduce, AdamW, schedule, saving, interruption, NaN."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NoReturn

import torch

from medcoss_cli.data.batches import Plan, batches
from medcoss_cli.errors import Interrupted
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.multimodal import Model
from medcoss_cli.pretraining.job import Job
from medcoss_cli.recipe.schema import Stage
from medcoss_cli.store.run import without_paths
from medcoss_cli.strategies import Loss, Strategy
from medcoss_cli.training.interruption import Interruption
from medcoss_cli.training.optim import adamw, cosine, decay_on_matrices, set_rate
from medcoss_cli.training.resume import check_data, check_loss, check_parameters


class Engine:
    """Runs the steps of one stage, from the first or from where a `resume.pt` left off.

    Args:
        model, strategy: `strategy.begin_stage` has been called.
        plan: the steps of the stage.
        job: recipe, run folder, devices, screen.
        stage: its learning rate and warm-up, where it has its own.
        data_hash: of the prepared set, so that a run is not resumed on other data.
        baseline: loss of predicting the mean on the new data, so that a loss of 1.0 means nothing was learned yet.
    """

    def __init__(
        self, model: Model, strategy: Strategy, plan: Plan, job: Job, stage: Stage, data_hash: str, baseline: float
    ) -> None:
        train = job.recipe.train
        epochs, warmup = stage.epochs or train.epochs, train.warmup if stage.warmup is None else stage.warmup
        self.model, self.strategy, self.plan, self.job, self.train = model, strategy, plan, job, train
        self.run, self.devices, self.screen = job.run, job.devices, job.screen
        self.data_hash, self.baseline = data_hash, baseline
        self.peak, self.warmup = stage.lr or train.lr, math.ceil(min(1.0, warmup / epochs) * plan.steps)
        self.optimiser = adamw(decay_on_matrices(strategy.parameters(model), train.weight_decay), 0.95, fused=True)
        self.parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.at = 0  # steps done
        self.agreed = False  # some rank was asked to stop, and all know
        self.seen = math.nan  # the newest loss on new data, relative to the baseline

    def batches(self) -> Iterator[Batch]:
        """The micro-batches of this rank to the end of the stage; saves now and then, and stops after a signal.

        Raises: Interrupted after SIGINT or SIGTERM, when everything is saved.
        """
        self._load()
        workers = self.train.workers
        if workers is None:  # on the CPU workers would take the cores the step needs
            workers = 0 if self.devices.device.type == "cpu" else min(8, os.cpu_count() or 1)
        parts = batches(
            self.plan,
            self.model.modalities,
            start=self.at,
            mixup=self.strategy.mixup,
            accumulate=self.train.accumulate,
            rank=self.devices.rank,
            ranks=self.devices.ranks,
            workers=workers,
            device=self.devices.device,
        )
        self.model.train()
        saved = time.monotonic()
        title = f"stage {self.plan.stage} {self.plan.new.modality.name}"
        self.bar = self.open.enter_context(self.screen.progress(title, self.plan.steps, self.at))
        while self.at < self.plan.steps:
            self._begin_step()
            for _ in range(self.train.accumulate):
                asked = time.perf_counter()
                batch = next(parts)
                self.waited += time.perf_counter() - asked
                yield batch
            if self.agreed or (self.interruption.asked and self.devices.ranks == 1):
                self._stop()
            if time.monotonic() - saved > 60 * self.train.save_minutes:
                self._save()
                saved = time.monotonic()
        check_parameters(self.parameters, f"step {self.at} of stage {self.plan.stage}", self.run.folder)
        if self.devices.add_up(torch.tensor([float(self.interruption.asked)], device=self.devices.device)).item() > 0:
            self._stop()  # a signal in the last step

    def __enter__(self) -> Engine:
        self.open = ExitStack()
        self.interruption = self.open.enter_context(Interruption(self.screen.say))
        return self

    def __exit__(self, *error: object) -> None:
        self.open.close()

    def autocast(self) -> AbstractContextManager[Any]:
        """bf16 where the recipe or the device asks for it."""
        return self.devices.autocast(self.train.precision, self.model.shape.width)

    def _begin_step(self) -> None:
        self.began, self.waited, self.micro = time.perf_counter(), 0.0, 0
        self.total = torch.zeros(3, dtype=torch.float64)  # loss, count, stop
        self.optimiser.zero_grad(set_to_none=True)

    def step(self, batch: Batch, loss: Loss) -> None:
        """Backward, and when the global batch is complete: one all-reduce, `after_backward`, AdamW.

        Losses are sums; gradients are divided once by the count of the whole global batch, so one rank, many ranks and
        accumulation give the same curve. Raises: NumbersError on a loss that is not finite.
        """
        value, count = loss
        value.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        self.total += torch.tensor([value.item(), float(count), 0.0], dtype=torch.float64)
        self.micro += 1
        if self.micro < self.train.accumulate:
            return
        self.total[2] = float(self.interruption.asked)
        summed, counted, stop = self.devices.add_up(self.total.to(self.devices.device)).tolist()
        check_loss(summed, f"step {self.at + 1} of stage {self.plan.stage}", self.run.folder)
        self.devices.add_up_gradients(self.parameters, counted)
        self.strategy.after_backward(self.model)
        rate = cosine(self.at, self.plan.steps, self.warmup, self.peak)
        set_rate(self.optimiser, rate)
        self.optimiser.step()
        self.at += 1
        self.agreed = stop > 0  # any rank's signal stops all
        self._tell(batch, summed / counted, rate)

    def facts(self) -> dict[str, Any]:
        """What the history says of this stage's training."""
        return {
            "strategy": self.job.strategy,
            "seed": self.plan.seed,
            "steps": self.plan.steps,
            "rehearsal_steps": self.plan.rehearsal_steps,
            "batch": self.plan.batch,
            "learning_rate": self.peak,
            "baseline": self.baseline,
            "recipe": without_paths(self.job.recipe.model_dump(mode="json")),
        }

    def _tell(self, batch: Batch, loss: float, rate: float) -> None:
        """One line of metrics.jsonl, and the bar."""
        seconds = time.perf_counter() - self.began
        row = {"stage": self.plan.stage, "step": self.at, "modality": batch.modality, "new": batch.new, "loss": loss}
        row |= {"lr": rate, "seconds": round(seconds, 4), "waited": round(self.waited, 4), "samples": batch.total}
        if batch.new:
            row["relative"] = self.seen = loss / self.baseline
        self.run.metric(row)
        self.bar.advance(
            loss="–" if math.isnan(self.seen) else f"{self.seen:.3f}",
            samples=f"{batch.total / seconds:.0f}/s",
            waiting=f"{100 * self.waited / seconds:.0f} %",
        )

    def _stop(self) -> NoReturn:
        self._save()
        raise Interrupted(
            f"stopped after step {self.at} of {self.plan.steps}, everything is saved",
            fix=f"go on with --resume {self.run.folder}",
        )

    def _save(self) -> None:
        check_parameters(self.parameters, f"step {self.at} of stage {self.plan.stage}", self.run.folder)
        if self.devices.first:
            self.run.save_resume(
                {
                    "stage": self.plan.stage,
                    "data_hash": self.data_hash,
                    "step": self.at,
                    "model": self.model.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "strategy": self.strategy.state(),
                }
            )
        self.devices.wait()

    def _load(self) -> None:
        """Take up resume.pt if it belongs to this stage; metrics written after it are dropped."""
        state = self.run.load_resume()
        if state is not None and state["stage"] == self.plan.stage:
            check_data(state["data_hash"], self.data_hash, self.run.folder)
            self.at = state["step"]
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.strategy.load_state(state["strategy"])
        self.run.truncate_metrics(stage=self.plan.stage, step=self.at)
