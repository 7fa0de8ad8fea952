"""The engine: batches to steps. Phases, accumulation, one all-reduce, AdamW, schedule, saving, interruption, NaN."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from medcoss_cli.data.batches import Plan, batches
from medcoss_cli.errors import Interrupted, PluginError, ResourceError
from medcoss_cli.model.batch import Batch
from medcoss_cli.model.multimodal import Model
from medcoss_cli.pretraining.job import Job
from medcoss_cli.recipe.schema import AnyStage
from medcoss_cli.store.run import without_paths
from medcoss_cli.strategies import Losses, StageInfo, Strategy, terms
from medcoss_cli.training.interruption import Interruption
from medcoss_cli.training.optim import adamw, cosine, decay_on_matrices, decay_places, set_rate
from medcoss_cli.training.resume import check_data, check_loss, check_parameters, load_optimiser, step_in, taken_up


class Engine:
    """Runs the steps of one stage, from the first or from where a `resume.pt` left off.

    Args:
        model, strategy: `strategy.begin_stage` has been called with `info`.
        plan: the steps of the stage.
        job: recipe, run folder, devices, screen.
        stage: its learning rate and warm-up, where it has its own.
        data_hash: of the prepared data, so that a run is not resumed on other data.
        baselines: loss of predicting the mean by new modality, so that a loss of 1.0 means nothing was learned yet.
    """

    def __init__(
        self,
        model: Model,
        strategy: Strategy,
        plan: Plan,
        job: Job,
        stage: AnyStage,
        info: StageInfo,
        data_hash: str,
        baselines: Mapping[str, float],
    ) -> None:
        train = job.recipe.train
        epochs, warmup = train.span(stage.epochs, stage.warmup)
        self.model, self.strategy, self.plan, self.job, self.train = model, strategy, plan, job, train
        self.run, self.devices, self.screen = job.run, job.devices, job.screen
        self.data_hash, self.baselines = data_hash, baselines
        self.peak = train.peak(stage.lr, stage.batch)
        self.warmup = math.ceil(min(1.0, warmup / epochs) * plan.steps)
        self.phases = strategy.phases(info)
        self.starts = _starts([phase.share for phase in self.phases], plan.steps, str(job.strategy))
        self.phase = 0  # phases that have begun
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
            partners=self.strategy.partners,
            accumulate=self.train.accumulate,
            rank=self.devices.rank,
            ranks=self.devices.ranks,
            workers=workers,
            device=self.devices.device,
        )
        self.model.train()
        self.model.drop_path = self.train.drop_path
        saved = time.monotonic()
        title = f"stage {self.plan.stage} {self.plan.title}"
        self.bar = self.open.enter_context(self.screen.progress(title, self.plan.steps, self.at))
        while self.at < self.plan.steps:
            self._begin_phases()
            self._begin_step()
            for _ in range(self.train.accumulate):
                began = time.perf_counter()
                batch = self._next(parts)
                self.waited += time.perf_counter() - began
                yield batch
            if self.agreed or (self.interruption.requested and self.devices.ranks == 1):
                self._stop()
            if time.monotonic() - saved > 60 * self.train.save_minutes:
                self._save()
                saved = time.monotonic()
        check_parameters(self.parameters, f"step {self.at} of stage {self.plan.stage}", self.run.folder)
        if (
            self.devices.add_up(torch.tensor([float(self.interruption.requested)], device=self.devices.device)).item()
            > 0
        ):
            self._stop()  # a signal in the last step
        self._begin_phases()  # of a stage so short that a phase has no step

    def _next(self, parts: Iterator[Batch]) -> Batch:
        """The next micro-batch; where the processes that read are gone, all done so far is saved first."""
        try:
            return next(parts)
        except (ResourceError, PluginError) as error:
            if self.devices.ranks > 1 or self.at == 0:  # other ranks are at work; or there is nothing to save yet
                raise
            self._save()
            steps = f"{error.what}; step {self.at} of {self.plan.steps} is saved"
            again = f"continue with --resume {self.run.folder}"
            raise type(error)(steps, where=error.where, fix=f"{again}; {error.fix}") from error

    def end_stage(self) -> None:
        """The strategy's end of the stage: the model in eval mode, samples of the new data, no gradient left behind."""
        self.strategy.end_stage(self.model.eval(), self.samples)
        self.model.zero_grad(set_to_none=True)

    def samples(self, count: int = 1024, batch: int = 1) -> Iterator[Batch]:
        """Samples of the new data on the device; see `medcoss_cli.strategies.Samples`."""
        for drawn in self.plan.samples(count, batch):
            yield replace(drawn, inputs=drawn.inputs.to(self.devices.device))

    def __enter__(self) -> Engine:
        self.open = ExitStack()
        self.interruption = self.open.enter_context(Interruption(self.screen.say))
        return self

    def __exit__(self, *error: object) -> None:
        self.open.close()

    def autocast(self) -> AbstractContextManager[Any]:
        """bf16 where the recipe or the device asks for it."""
        return self.devices.autocast(self.train.precision, self.model.shape.width)

    def _begin_phases(self) -> None:
        """Phases whose turn has come: `on_begin`, then an optimiser of their own."""
        while self.phase < len(self.phases) and self.starts[self.phase] <= self.at:
            self._on_begin()
            self._new_optimiser()

    def _on_begin(self) -> None:
        begin = self.phases[self.phase].on_begin
        if begin is not None:
            begin(self.model)
        self.phase += 1

    def _new_optimiser(self) -> None:
        named = list(self.strategy.parameters(self.model))
        places = {p: self.strategy.decay(name, p) for name, p in named if p.ndim == 2 and p.requires_grad}
        self.decayed = {parameter: where for parameter, where in places.items() if where is not None}
        groups = decay_on_matrices(named, self.train.weight_decay, self.decayed)
        self.optimiser = adamw(groups, 0.95, fused=True)
        self.parameters = [p for group in self.optimiser.param_groups for p in group["params"]]

    def _begin_step(self) -> None:
        self.began, self.waited, self.micro = time.perf_counter(), 0.0, 0
        self.sums: list[Tensor] = []  # of each turn: loss, count of each term
        self.turns: list[Batch] = []
        self.optimiser.zero_grad(set_to_none=True)

    def step(self, batch: Batch, loss: Losses) -> None:
        """Backward, and when the step is complete: one all-reduce, `after_backward`, AdamW, `after_step`.

        Losses are sums; gradients are divided once by the count of the whole global batch, so one rank, many ranks and
        accumulation give the same curve. Mixed micro-batches differ in what they count (patches, words, samples): each
        is divided by its own count over all ranks, and their gradients are averaged. So are the terms of a loss.
        Raises: NonFiniteError on a loss that is not finite.
        """
        parts = terms(loss)
        mixed = self.plan.mix > 1
        sums_and_counts = torch.tensor([[value.item(), float(count)] for value, count in parts], dtype=torch.float64)
        value = parts[0][0]
        if mixed or len(parts) > 1:  # before backward: gradients add up
            counts = self.devices.add_up(sums_and_counts[:, 1].to(self.devices.device, copy=True)).tolist()
            whole = 1.0 if mixed else counts[0]  # all gradients are divided by the first count when they are complete
            value = value / (counts[0] / whole)
            for (further, _), count in zip(parts[1:], counts[1:], strict=True):
                value = value + further / (count / whole)
        value.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        if mixed or self.micro == 0:
            self.turns.append(batch)
            self.sums.append(sums_and_counts)
        else:
            self.sums[0] += sums_and_counts
        self.micro += 1
        if self.micro < self.train.accumulate:
            return
        stop = torch.tensor([float(self.interruption.requested)], dtype=torch.float64)
        flat = torch.cat([*(part.flatten() for part in self.sums), stop]).to(self.devices.device)
        *added, stops = self.devices.add_up(flat).tolist()
        means = [summed / counted for summed, counted in zip(added[::2], added[1::2], strict=True)]
        losses = [[means.pop(0) for _ in part] for part in self.sums]
        check_loss(sum(added[::2]), f"step {self.at + 1} of stage {self.plan.stage}", self.run.folder)
        self.devices.add_up_gradients(self.parameters, float(self.plan.mix) if mixed else added[1])
        self.strategy.after_backward(self.model)
        rate = cosine(self.at, self.plan.steps, self.warmup, self.peak)
        set_rate(self.optimiser, rate)
        decay_places(self.decayed, rate, self.train.weight_decay)
        self.optimiser.step()
        self.strategy.after_step(self.model)
        self.at += 1
        self.agreed = stops > 0  # any rank's signal stops all
        self._report_step(losses, rate)

    def facts(self) -> dict[str, Any]:
        """What the history says of this stage's training."""
        return {
            "strategy": str(self.job.strategy),
            "seed": self.plan.seed,
            "steps": self.plan.steps,
            "rehearsal_steps": self.plan.rehearsal_turns // self.plan.mix,
            "batch": self.plan.batch * self.plan.mix,
            "learning_rate": self.peak,
            "baselines": dict(self.baselines),
            "recipe": without_paths(self.job.recipe.model_dump(mode="json")),
        }

    def _report_step(self, losses: Sequence[Sequence[float]], rate: float) -> None:
        """A line of metrics.jsonl for each turn of the step, and the bar."""
        seconds, parts = time.perf_counter() - self.began, len(losses)
        for batch, (loss, *further) in zip(self.turns, losses, strict=True):
            row = {
                "stage": self.plan.stage,
                "step": self.at,
                "modality": batch.modality,
                "new": batch.new,
                "loss": loss,
            }
            row |= {"lr": rate, "seconds": round(seconds / parts, 4), "waited": round(self.waited / parts, 4)}
            row["samples"] = batch.total
            row |= {"terms": further} if further else {}
            if batch.new:
                row["relative"] = self.seen = loss / self.baselines[batch.modality]
            self.run.metric(row)
        self.bar.advance(
            loss="–" if math.isnan(self.seen) else f"{self.seen:.3f}",
            samples=f"{sum(batch.total for batch in self.turns) / seconds:.0f}/s",
            waiting=f"{100 * self.waited / seconds:.0f} %",
        )

    def _stop(self) -> NoReturn:
        self._save()
        raise Interrupted(
            f"stopped after step {self.at} of {self.plan.steps}; everything is saved",
            fix=f"continue with --resume {self.run.folder}",
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
        with taken_up(self.run.folder / "resume.pt", "remove it; the stage then starts again"):
            if state is not None and _stage_of(state) == self.plan.stage:
                check_data(state["data_hash"], self.data_hash, self.run.folder)
                self.at = step_in(state["step"], self.plan.steps)
                while self.phase < len(self.phases) and self.starts[self.phase] < self.at:
                    self._on_begin()  # what it set up is there again; what it changed in the model comes from the file
                self.model.load_state_dict(state["model"])
                self.strategy.load_state(state["strategy"])
                self._new_optimiser()
                load_optimiser(self.optimiser, state["optimiser"])
        self.run.truncate_metrics(stage=self.plan.stage, step=self.at)


def _stage_of(state: Mapping[str, Any]) -> int:
    """The stage a resume.pt is of. Raises: ValueError, KeyError."""
    stage = state["stage"]
    if type(stage) is not int:
        raise ValueError("its stage is no whole number")
    return stage


def _starts(shares: Sequence[float], steps: int, strategy: str) -> list[int]:
    """The step at which each phase begins. Raises: PluginError for shares that do not add up to 1."""
    if not shares or min(shares) < 0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise PluginError(
            f"the shares of the phases of the strategy {strategy} are {list(shares)}, which is not 1 in all"
        )
    return [round(sum(shares[:i]) * steps) for i in range(len(shares))]
