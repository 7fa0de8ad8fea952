"""Fine-tuning: a head for one labelled task on a checkpoint's encoder, as a recipe says; several seeds, tested."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from medcoss_cli.finetuning.checkpoints import applied
from medcoss_cli.finetuning.evaluation import Outcome, draw_cases, draw_classes, examine_classes, examine_masks
from medcoss_cli.finetuning.results import known, write_results
from medcoss_cli.finetuning.setup import Tuning
from medcoss_cli.finetuning.trainer import Standing, Training, parameters_of
from medcoss_cli.model.finetuned import Tuned
from medcoss_cli.store import atomic, finetuned
from medcoss_cli.store.progress import Progress
from medcoss_cli.store.table import write_rows
from medcoss_cli.tasks.classification import Classification
from medcoss_cli.training.distributed import peak_memory


def finetune(job: Tuning) -> dict[str, Any]:
    """Train every seed, test what validated best, and write results.json after each; finished seeds are not repeated."""
    for seed in job.seeds:
        folder = job.run.folder / f"seed-{seed}"
        if (folder / "result.json").exists():
            continue
        folder.mkdir(exist_ok=True)
        began = time.monotonic()
        network, progress = job.network(seed), Progress(folder)
        standing = Training(
            network,
            job.lesson,
            job.recipe.train,
            seed,
            progress,
            job.lesson.prepared.data_hash,
            job.devices,
            job.screen,
            job.recipe.head.layer_decay,
        ).run()
        _keep(job, network, standing, folder)
        outcome = examine(job, network, seed)
        if outcome is not None:
            write_rows(folder / "cases.csv", outcome.rows)
            _draw(job, network, outcome, folder)
        seconds = round(time.monotonic() - began, 1)
        result = _result(seed, standing, outcome) | {"seconds": seconds} | peak_memory()
        result["weights"] = parameters_of(network)
        atomic.write(folder / "result.json", json.dumps(known(result)).encode())
        progress.drop_resume()
        write_results(job)
    return write_results(job)


def examine(job: Tuning, network: Tuned, seed: int) -> Outcome | None:
    """The test of one seed; None where the data has no test cases."""
    cases = [case for case in job.cases if case.split == "test"]
    if not cases:
        job.screen.warn("the data has no test cases: nothing is tested")
        return None
    device = job.devices.device
    if isinstance(job.lesson, Classification):
        return examine_classes(job.lesson, network, "test", device, seed)
    return examine_masks(applied(job.task, job.modality, network, device), cases, seed, job.screen)


def _keep(job: Tuning, network: Tuned, standing: Standing, folder: Path) -> None:
    facts = {"best_step": standing.best_step, "validation": standing.scores or {}}
    finetuned.save(finetuned.Stored(job.task.to_plain(), network.state_dict(), facts), folder / "model.pt")


def _result(seed: int, standing: Standing, outcome: Outcome | None) -> dict[str, Any]:
    return {
        "seed": seed,
        "steps": standing.step,
        "best_step": standing.best_step,
        "validation": standing.scores,
        "test": outcome.result if outcome else None,
    }


def _draw(job: Tuning, network: Tuned, outcome: Outcome, folder: Path) -> None:
    cases, place = [case for case in job.cases if case.split == "test"], folder / "cases"
    if job.task.kind == "segmentation":
        draw_cases(applied(job.task, job.modality, network, job.devices.device), cases, outcome, place)
    else:
        draw_classes(job.task, job.modality, cases, outcome, place)
