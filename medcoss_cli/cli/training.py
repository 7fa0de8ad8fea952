"""What pretrain and extend do around Algorithm 1: run the job, show what is remembered, say where all lies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from medcoss_cli.cli import terminal
from medcoss_cli.errors import RetentionError, UsageError

if TYPE_CHECKING:
    from medcoss_cli.pretraining.job import Job


def carry_out(job: Job, *, min_retention: float | None = None, as_json: bool = False) -> dict[str, Any]:
    """Run all remaining stages of a job and show the retention table.

    Returns: the summary that --json prints. Raises: RetentionError below `min_retention`, with everything kept.
    """
    from medcoss_cli.pretrain import pretrain
    from medcoss_cli.pretraining import retention
    from medcoss_cli.training.distributed import memory_text, peak_memory

    unmeasured = [name for name in job.state.model.modalities if name not in job.state.anchors]
    if min_retention is not None and unmeasured:
        raise UsageError(
            f"the checkpoint holds no anchors of {', '.join(unmeasured)}: what is remembered of it cannot be measured",
            where="--min-retention",
            fix="leave it out",
        )
    began = time.monotonic()
    job.screen.say("loss: 1 is as bad as predicting the mean, lower is better; waiting: for data")
    state = pretrain(job)
    summary: dict[str, Any] = {
        "run": str(job.run.folder),
        "checkpoint": str(job.run.checkpoint),
        "strategy": str(job.strategy),
        "stages": [_stage(entry) for entry in state.history],
        "learned_nothing": retention.unlearned(state.history),
        "seconds": round(time.monotonic() - began, 1),
        **peak_memory(),
    }
    if not job.devices.first:
        return summary
    job.run.finish()
    job.run.close()
    show_retention(job, state.history)
    job.screen.say(f"{summary['seconds']:.0f} s, at most {memory_text(summary)}")
    job.screen.say(f"checkpoint (private: holds samples): {job.run.checkpoint}")
    job.screen.say(f"retention: {job.run.folder / 'retention.json'}, {job.run.folder / 'retention.png'}")
    if as_json:
        terminal.result_json(summary)
    if min_retention is not None and summary["learned_nothing"]:
        raise RetentionError(
            f"nothing was learned of {', '.join(summary['learned_nothing'])}: there is nothing to remember, and "
            "--min-retention cannot be met",
            where=job.run.folder,
            fix="everything is kept; see the warning above, and train longer",
        )
    lowest = retention.lowest(state.history)
    if min_retention is not None and lowest is not None and not lowest[1] >= min_retention:
        raise RetentionError(
            f"{lowest[0]} is remembered with {lowest[1]:.3f} (the lower of debiased CKA and centred cosine), "
            f"--min-retention is {min_retention}",
            where=job.run.folder,
            fix="everything is kept; raise rehearsal.share or rehearsal.ratio and start again",
        )
    return summary


def show_retention(job: Job, history: list[dict[str, Any]]) -> None:
    """Tables modalities x stages: features now against then, their mean, the masked loss with the decoder kept from then."""
    from medcoss_cli.pretraining import retention

    columns = ["modality", *(f"{stage['stage']} {stage['modality']}" for stage in history)]
    title = f"Retention ({job.strategy}): features after each stage (1: as they were then)"
    job.screen.table(title, columns, retention.rows(history))
    job.screen.say("features: the lower of debiased CKA and centred cosine")
    title = "Shift of the mean feature after each stage, in spreads of the samples (0: none; a frozen head fails at several)"
    job.screen.table(title, columns, retention.rows(history, "shift"))
    title = "Loss of masked modelling after each stage (1: as bad as predicting the mean)"
    job.screen.table(title, columns, retention.rows(history, "loss"))
    for modality, loss in retention.unlearned(history).items():
        job.screen.warn(
            f"{modality}: nothing was learned that could be forgotten; on held-out samples the loss of its own stage was "
            f"{loss:.3f} of that of predicting the mean, not below {retention.LEARNED}; train longer (train.epochs=...) or "
            "with another train.lr="
        )


def _stage(entry: dict[str, Any]) -> dict[str, Any]:
    kept = (
        "stage",
        "modality",
        "modalities",
        "samples",
        "train",
        "anchors",
        "buffer",
        "steps",
        "rehearsal_steps",
        "baseline",
        "retention",
    )
    return {key: entry[key] for key in kept if key in entry}
