"""One invocation of pretrain or extend, ready to run: recipe, stages, state, folders, devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.data.batches import Plan, Pool
from medcoss_cli.errors import RecipeError
from medcoss_cli.pretraining import retention
from medcoss_cli.pretraining.rehearsal import buffer_size
from medcoss_cli.pretraining.stage_data import StageData
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.schema import AnyStage, ExtendRecipe, PretrainRecipe
from medcoss_cli.recipe.strategy import StrategyChoice
from medcoss_cli.store import atomic, checkpoint
from medcoss_cli.store.checkpoint import Checkpoint
from medcoss_cli.store.run import Run
from medcoss_cli.store.shareable import shareable
from medcoss_cli.strategies import StageInfo, Strategy
from medcoss_cli.training.distributed import Devices
from medcoss_cli.training.resume import taken_up

Recipe = PretrainRecipe | ExtendRecipe


@dataclass(frozen=True)
class Job:
    """Stages to run behind those a state has seen.

    Args:
        before: stages the state had seen when the run was begun; the first of `stages` is number before + 1.
        data_root, prepared: folders of the user's files and of prepared sets.
    """

    recipe: Recipe
    stages: Sequence[AnyStage]
    before: int
    state: State
    run: Run
    data_root: Path
    prepared: Path
    devices: Devices
    screen: Screen

    @property
    def strategy(self) -> StrategyChoice:
        """The recipe's."""
        return self.recipe.strategy

    def make_strategy(self) -> Strategy:
        """The strategy of the run, with the memory that earlier stages left it."""
        strategy = self.strategy.make()
        if self.strategy.name in self.state.memory:
            with taken_up(self.run.checkpoint, "use another copy of it"):
                strategy.load_memory(self.state.memory[self.strategy.name])
                strategy.check_memory(self.state.model)
        return strategy

    def info(self, number: int, stage: AnyStage, data: Sequence[StageData]) -> StageInfo:
        """What the strategy is to know of a stage; called before its modalities are added to the model."""
        names = tuple(member.modality for member in stage.members)
        total = self.before + len(self.stages) if isinstance(self.recipe, PretrainRecipe) else None
        new = tuple(name for name in names if name not in self.state.model.modalities)
        kept = sum(buffer_size(len(part.train), self.recipe.rehearsal.ratio) for part in data)
        return StageInfo(number, total, names, new, kept)

    def remaining(self, last: int | None = None) -> Iterator[tuple[int, AnyStage]]:
        """(number, stage) of the stages that are not in the state's history yet, up to number `last`."""
        for number, stage in enumerate(self.stages, self.before + 1):
            if number > len(self.state.history) and (last is None or number <= last):
                yield number, stage

    def plan(self, number: int, stage: AnyStage, new: Sequence[Pool], old: Sequence[Pool]) -> Plan:
        """Which modality each step of a stage trains on. Raises: RecipeError for a batch that cannot be cut."""
        train, share = self.recipe.train, self.recipe.rehearsal.share
        batch = stage.batch or train.batch
        parts = train.accumulate * self.devices.ranks
        if batch < parts:
            raise RecipeError(
                f"a batch of {batch} cannot be cut into {self.devices.ranks} ranks x {train.accumulate} micro-batches",
                where="train.batch",
                fix=f"set train.batch to at least {parts}",
            )
        if train.mix and batch % train.accumulate:
            raise RecipeError(
                f"with train.mix a batch of {batch} is no multiple of {train.accumulate} micro-batches",
                where="train.batch",
                fix=f"set train.batch to {batch - batch % train.accumulate}",
            )
        return Plan.make(
            self.recipe.seed,
            number,
            batch,
            stage.epochs or train.epochs,
            None if share == "proportional" else float(share),
            new,
            old,
            mix=train.accumulate if train.mix else 1,
            uniform=stage.sampling == "uniform",
            equal=self.recipe.rehearsal.turns == "equal",
        )

    def save(self, state: State) -> None:
        """A stage is done: its checkpoint, what is derived from it; then the resume file is no longer needed."""
        if self.devices.first:
            content = state.to_checkpoint()
            checkpoint.save(content, self.run.checkpoint)
            self._derive(content)
            self.run.drop_resume()
        self.devices.wait()

    def mend(self) -> None:
        """Make what a kill between the files of a stage's end left undone; nothing is done otherwise."""
        done = len(self.state.history)
        if not self.devices.first or done == self.before:
            return
        written = self.run.checkpoint.stat().st_mtime_ns
        if not all(path.exists() and path.stat().st_mtime_ns >= written for path in self._derived(self.state.history)):
            self._derive(self.state.to_checkpoint())
        resume = self.run.load_resume()
        stage = None if resume is None else resume.get("stage")
        if type(stage) is int and 0 <= stage <= done:
            self.run.drop_resume()

    def _derived(self, history: Sequence[Mapping[str, Any]]) -> list[Path]:
        """What the last stage leaves beside the checkpoint: its encoder, retention."""
        folder = self.run.folder
        encoder = self.run.encoder(len(history), history[-1]["modality"])
        return [encoder, folder / "retention.json", folder / "retention.png"]

    def _derive(self, content: Checkpoint) -> None:
        atomic.write(self._derived(content.history)[0], shareable(content))
        retention.write(self.run.folder, content.history)
