"""One first stage for several strategies: what each would have kept of it, estimated afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from medcoss_cli.errors import UsageError
from medcoss_cli.model.batch import Batch
from medcoss_cli.pretraining.job import Job
from medcoss_cli.pretraining.stage import prepare_stage


def recollect(job: Job) -> None:
    """Give the job's state the memory that its strategy would have left of the first stage, which another one trained.

    In the first stage there is nothing old, so that all built-in strategies but packnet train it to the same bits; a
    comparison trains it once. The memory (Fisher of ewc, stored tokens of der) is that of a run of the strategy itself.

    Args:
        job: its state has seen one stage, the recipe's first, with the recipe's seed.

    Raises: UsageError where the state has seen another number of stages, or the strategy trains stages its own way.
    """
    if len(job.state.history) != 1:
        raise UsageError(f"a memory is made of one stage, but {len(job.state.history)} are done")
    model = job.state.model.to(job.devices.device)
    stage, strategy = job.stages[0], job.strategy.make()
    data = prepare_stage(job, 1, stage)
    info = replace(job.info(1, stage, data), new=tuple(member.modality for member in stage.members))
    if len(strategy.phases(info)) > 1:
        raise UsageError(
            f"the strategy {job.strategy.name} trains the first stage in a way of its own",
            fix="train it with this strategy",
        )
    plan = job.plan(1, stage, [part.pool for part in data], [])

    def samples(count: int = 1024, batch: int = 1) -> Iterator[Batch]:
        for drawn in plan.samples(count, batch):
            yield replace(drawn, inputs=drawn.inputs.to(job.devices.device))

    strategy.begin_stage(model, info)
    strategy.end_stage(model.eval(), samples)
    model.zero_grad(set_to_none=True)
    job.state.remember(job.strategy.name, strategy.memory())
