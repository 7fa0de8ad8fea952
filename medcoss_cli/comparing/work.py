"""Doing one cell, in a process of its own: every run is resumed where it was, and what a cell gives is one JSON file."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401 - every cell needs it; imported once, in the server that the cells are forked from
import torch._dynamo  # noqa: F401 - as is this: torch's optimisers import it, which takes seconds
from pydantic import BaseModel

from medcoss_cli.comparing import outcomes
from medcoss_cli.comparing.cells import Cell, Later, Plan, Simple, Training, Tuning
from medcoss_cli.comparing.outcomes import Place
from medcoss_cli.comparing.simple import simple
from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import LabelledSet
from medcoss_cli.errors import CheckpointError
from medcoss_cli.finetune import finetune
from medcoss_cli.finetuning.checkpoints import renewed, trained_seeds
from medcoss_cli.finetuning.dataset import find_cases
from medcoss_cli.finetuning.results import json_values
from medcoss_cli.finetuning.setup import begin_finetune, resume_finetune
from medcoss_cli.kit.sources.places import local
from medcoss_cli.pretrain import pretrain
from medcoss_cli.pretraining import setup
from medcoss_cli.pretraining.job import Job
from medcoss_cli.pretraining.state import read_state
from medcoss_cli.store import atomic, start, typed
from medcoss_cli.store.arrays import save_arrays
from medcoss_cli.store.shareable import shareable
from medcoss_cli.strategies import Strategy
from medcoss_cli.training.distributed import join, peak_memory
from medcoss_cli.training.runs import Options


def do(cell: Cell, plan: Plan, place: Place, screen: Screen) -> None:
    """Make a cell and write its outcome. Raises: whatever the runs raise."""
    began = time.monotonic()
    if isinstance(cell, Training):
        given = _train(cell, place, screen)
    elif isinstance(cell, Tuning):
        given = _tune(cell, plan, place, screen)
    elif isinstance(cell, Later):
        given = _test_later(cell, plan, place, screen)
    else:
        given = _simple(cell, place, screen)
    seconds = {"seconds": round(time.monotonic() - began, 1)}
    outcomes.write(place, cell.key, {"status": "done", **seconds, **peak_memory(), **json_values(given)})


def _train(cell: Training, place: Place, screen: Screen) -> dict[str, Any]:
    """All stages; after each, what serves earlier modalities where the strategy has a network for each of them."""
    job = _pretraining(cell, place, screen)
    try:
        for number in range(1, len(job.stages) + 1):
            pretrain(job, last=number)
            _keep_served(job, number)
        job.run.finish()
    finally:
        job.run.close()
    rows = _steps(job.run.folder / "metrics.jsonl")
    return {
        "retention": [{"after": stage["modality"], **stage.get("retention", {})} for stage in job.state.history],
        "steps": sum(stage.get("steps") or 0 for stage in job.state.history),
        "own_steps": len({(row.stage, row.step) for row in rows}),  # without those of a shared first stage
        "step_seconds": round(sum(row.seconds for row in rows), 3),
        "hash": start.digest(job.run.checkpoint),
    }


class _Step(BaseModel):
    stage: int
    step: int
    seconds: float


def _steps(path: Path) -> list[_Step]:
    """The steps of a metrics.jsonl. Raises: CheckpointError, naming the line."""
    fix, steps = "remove the folder; the cell is then made again", []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            content = typed.loads(line)
        except ValueError as error:
            raise CheckpointError(f"the line is damaged ({error})", where=f"{path}:{number}", fix=fix) from error
        steps.append(typed.checked(_Step, content, f"{path}:{number}", fix=fix, what="the line"))
    return steps


def _pretraining(cell: Training, place: Place, screen: Screen) -> Job:
    options, folder = place.options(cell.key), place.run(cell.key)
    is_begun = (folder / "run.json").exists() and (folder / "recipe.yaml").exists()
    if is_begun and (cell.first is None or (folder / "ckpt.pt").exists()):
        return setup.resume(folder, replace(options, name=None), screen)
    # one that was stopped before it had anything, or the shared first stage, begins again
    options = replace(options, overwrite=folder.exists())
    if cell.first is None:
        return setup.begin_pretrain(cell.recipe, cell.key, options, screen)
    done = read_state(place.run(cell.first) / "ckpt.pt")
    return setup.begin_pretrain(cell.recipe, cell.key, options, screen, done=done)


def _keep_served(job: Job, number: int) -> None:
    strategy = job.make_strategy()
    if type(strategy).serving is Strategy.serving or len(job.state.history) != number:
        return
    folder = job.run.folder / "stages" / f"{number}-{job.state.history[-1]['modality']}"
    for name in job.state.model.modalities:
        with strategy.serving(job.state.model, name):
            atomic.write(folder / f"for-{name}.safetensors", shareable(job.state.to_checkpoint()))


def _tune(cell: Tuning, plan: Plan, place: Place, screen: Screen) -> dict[str, Any]:
    options, folder = place.options(cell.key), place.run(cell.key)
    if (folder / "start.pt").exists() and (folder / "run.json").exists():
        job = resume_finetune(folder, replace(options, name=None), screen)
    else:
        begin_at = cell.start.file or str(place.encoder(plan, cell.start.training, cell.start.stage))
        options = replace(options, overwrite=folder.exists())
        job = begin_finetune(cell.recipe, cell.key, begin_at, None, options, screen)
    try:
        if job.seeds != [cell.recipe.seed]:
            raise CheckpointError("it is of other seeds", where=folder, fix="remove it; the cell is then made again")
        results = finetune(job)
        [seed] = results["seeds"]
        job.run.finish()
    finally:
        job.run.close()
    test = seed["test"] or {}
    return {
        "kind": job.kind.name,
        "classes": job.spec.classes,
        "validation": seed["validation"],
        "metrics": test.get("metrics"),
        "baseline": test.get("baseline"),
        "samples": test.get("samples"),
        "trained": results["data"]["train"]["samples"],
        "start": job.run.facts["start"],
    }


def _test_later(cell: Later, plan: Plan, place: Place, screen: Screen) -> dict[str, Any]:
    """The head as it was, under the encoder of each later stage."""
    tuned = plan.cells[cell.head]
    assert isinstance(tuned, Tuning)
    [head] = trained_seeds(place.run(cell.head), screen, tuned.recipe.seed)
    root, device = local(tuned.recipe.data.folder, place.data_root), join().device
    cases, _ = find_cases(head.modality, root, head.kind.target, screen=screen, fold=tuned.recipe.data.fold)
    workers, bad_share = tuned.recipe.data.workers, tuned.recipe.data.bad_share
    labelled = LabelledSet(head.modality, root, cases, place.prepared, workers, bad_share, screen)
    metrics: dict[str, Any] = {}
    for number in cell.stages:
        encoder = place.encoder(plan, cell.training, number, cell.modality)
        predictor = replace(head, network=renewed(head, encoder, screen)).predictor(device)
        evaluation = head.kind.evaluate(predictor, labelled, head.seed)
        save_arrays(place.arrays(cell.key, number), evaluation.arrays)
        metrics[str(number)] = evaluation.result["metrics"]
    return {"metrics": metrics}


def _simple(cell: Simple, place: Place, screen: Screen) -> dict[str, Any]:
    options = Options(None, False, place.data_root, place.prepared)
    return simple(cell.recipe, options, screen)
