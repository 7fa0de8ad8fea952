"""One first stage for several strategies: what each would have kept of it, made afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from medcoss_cli.errors import CheckpointError, UsageError
from medcoss_cli.model.batch import Batch
from medcoss_cli.pretraining.job import Job
from medcoss_cli.pretraining.selection import select
from medcoss_cli.pretraining.stage import prepare_stage
from medcoss_cli.pretraining.state import versions
from medcoss_cli.store.run import without_paths

_SAME = ("seed", "encoder", "decoder", "masking", "positions", "train")
"""What of a recipe the first stage depends on, beside the stage itself."""


def branch(job: Job) -> None:
    """Let a job go on from a first stage that another strategy trained, as if its own had.

    In the first stage there is nothing old, so that strategies with `plain_first_stage` train it to the same bits; a
    comparison trains it once. The buffer, the strategy's memory (Fisher of ewc, stored tokens of der) and what the history
    says are made anew, and are those of a run of the strategy itself.

    Args:
        job: its state has seen one stage, the recipe's first, with the recipe's seed.

    Raises: UsageError where the state has seen another number of stages, or the strategy trains stages its own way;
        CheckpointError where the stage was trained otherwise than the recipe says.
    """
    state, [stage, *_] = job.state, job.stages
    if len(state.history) != 1:
        raise UsageError(f"a branch begins behind one stage, but {len(state.history)} are done")
    if not job.strategy.cls.plain_first_stage:
        raise UsageError(
            f"the strategy {job.strategy.name} trains the first stage in a way of its own",
            fix="train it with this strategy",
        )
    _check_same(state.history[0], job.recipe.model_dump(mode="json"))
    model = state.model.to(job.devices.device)
    strategy = job.strategy.make()
    data = prepare_stage(job, 1, stage)
    info = replace(job.info(1, stage, data), new=tuple(member.modality for member in stage.members))
    plan = job.plan(1, stage, [part.pool for part in data], [])

    def samples(count: int = 1024, batch: int = 1) -> Iterator[Batch]:
        for drawn in plan.samples(count, batch):
            yield replace(drawn, inputs=drawn.inputs.to(job.devices.device))

    strategy.begin_stage(model, info)
    strategy.end_stage(model.eval(), samples)
    model.zero_grad(set_to_none=True)
    state.memory.clear()
    state.remember(job.strategy.name, strategy.memory())
    state.buffer.clear()
    for pool in plan.new:
        state.keep(pool.modality.name, select(job, 1, model, pool))
    buffered = sum(len(samples) for samples in state.buffer.values())
    recipe = without_paths(job.recipe.model_dump(mode="json"))
    used = versions(state.model.modalities, job.strategy.name)
    state.history[0] |= {"strategy": str(job.strategy), "recipe": recipe, "buffer": buffered, "versions": used}


def _check_same(entry: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Raises: CheckpointError where a history's first stage was trained by another recipe."""
    trained, wanted = entry.get("recipe") or {}, without_paths(recipe)
    other = [key for key in _SAME if trained.get(key) != wanted.get(key)]
    other += ["stages.0"] if trained.get("stages", [])[:1] != wanted["stages"][:1] else []
    if other:
        raise CheckpointError(
            f"the first stage was trained by another recipe ({', '.join(other)} differ)", fix="train it again"
        )
