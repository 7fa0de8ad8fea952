"""One invocation of pretrain or extend, ready to run: recipe, stages, state, folders, devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.data.batches import Plan, Pool
from medcoss_cli.errors import RecipeError
from medcoss_cli.pretraining import retention
from medcoss_cli.pretraining.state import State
from medcoss_cli.recipe.schema import ExtendRecipe, PretrainRecipe, Stage
from medcoss_cli.store import checkpoint
from medcoss_cli.store.run import Run
from medcoss_cli.training.distributed import Devices

Recipe = PretrainRecipe | ExtendRecipe


@dataclass(frozen=True)
class Job:
    """Stages to run behind those a state has seen.

    Args:
        before: stages the state had seen when the run was begun; the first of `stages` is number before + 1.
        data_root, prepared: folders of the user's files and of prepared sets.
    """

    recipe: Recipe
    stages: Sequence[Stage]
    before: int
    state: State
    run: Run
    data_root: Path
    prepared: Path
    devices: Devices
    screen: Screen

    @property
    def strategy(self) -> str:
        """Without feature distillation the method of the paper is experience replay (its Table 3, first row)."""
        return "er" if self.recipe.strategy == "medcoss" and not self.recipe.distill else self.recipe.strategy

    def remaining(self, last: int | None = None) -> Iterator[tuple[int, Stage]]:
        """(number, stage) of the stages that are not in the state's history yet, up to number `last`."""
        for number, stage in enumerate(self.stages, self.before + 1):
            if number > len(self.state.history) and (last is None or number <= last):
                yield number, stage

    def plan(self, number: int, stage: Stage, new: Pool, old: Sequence[Pool]) -> Plan:
        """Which modality each step of a stage trains on."""
        train, share = self.recipe.train, self.recipe.rehearsal.share
        batch = stage.batch or train.batch
        parts = train.accumulate * self.devices.ranks
        if batch < parts:
            raise RecipeError(
                f"a batch of {batch} cannot be cut into {self.devices.ranks} ranks x {train.accumulate} micro-batches",
                where="train.batch",
                fix=f"set train.batch to at least {parts}",
            )
        return Plan.make(
            self.recipe.seed,
            number,
            batch,
            stage.epochs or train.epochs,
            None if share == "proportional" else float(share),
            new,
            old,
        )

    def save(self, state: State) -> None:
        """A stage is done: checkpoint, encoder, retention; then the resume file is no longer needed."""
        if self.devices.first:
            checkpoint.save(state.to_checkpoint(), self.run.checkpoint)
            self.run.save_encoder(len(state.history), state.history[-1]["modality"], state.shared_weights())
            retention.write(self.run.folder, state.history)
            self.run.drop_resume()
        self.devices.wait()
