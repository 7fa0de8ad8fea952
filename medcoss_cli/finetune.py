"""Fine-tuning: a head for one labelled task on a checkpoint's encoder, as a recipe says; several seeds, tested."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from medcoss_cli.finetuning.checkpoints import predictor_of
from medcoss_cli.finetuning.results import json_values, write_results
from medcoss_cli.finetuning.setup import FinetuneJob
from medcoss_cli.finetuning.trainer import TrainerState, Training, parameters_of
from medcoss_cli.model.finetuned import TaskNetwork
from medcoss_cli.store import atomic, finetuned
from medcoss_cli.store.arrays import save_arrays
from medcoss_cli.store.progress import Progress
from medcoss_cli.store.table import write_rows
from medcoss_cli.tasks import Evaluation
from medcoss_cli.training.distributed import peak_memory


def finetune(job: FinetuneJob) -> dict[str, Any]:
    """Train every seed, test what validated best, and write results.json after each; finished seeds are not repeated."""
    for seed in job.seeds:
        folder = job.run.folder / f"seed-{seed}"
        progress = Progress(folder)
        if (folder / "result.json").exists():
            progress.drop_resume()  # which a kill behind the result left there
            continue
        folder.mkdir(exist_ok=True)
        began = time.monotonic()
        network = job.network(seed)
        state = Training(
            network,
            job.kind,
            job.data,
            job.recipe.train,
            seed,
            progress,
            job.devices,
            job.screen,
            job.recipe.head.layer_decay,
        ).run()
        facts = {"best_step": state.best_step, "validation": state.scores or {}}
        finetuned.save(finetuned.StoredTask(job.spec.to_plain(), network.state_dict(), facts), folder / "model.pt")
        evaluation = _test(job, network, seed, folder)
        seconds = round(time.monotonic() - began, 1)
        result = _result(seed, state, evaluation) | {"seconds": seconds} | peak_memory()
        result["weights"] = parameters_of(network)
        atomic.write(folder / "result.json", json.dumps(json_values(result)).encode())
        progress.drop_resume()
        write_results(job)
    return write_results(job)


def _test(job: FinetuneJob, network: TaskNetwork, seed: int, folder: Path) -> Evaluation | None:
    """The test of one seed, with its table of cases and their pictures; None where the data has no test cases."""
    cases = job.labelled.split("test")
    if not cases:
        job.screen.warn("the data has no test cases: nothing is tested")
        return None
    predictor = predictor_of(job.kind, job.spec, job.modality, network, job.devices.device)
    evaluation = job.kind.evaluate(predictor, job.labelled, seed)
    write_rows(folder / "cases.csv", evaluation.rows)
    save_arrays(folder / "cases.npz", evaluation.arrays)
    job.kind.draw(predictor, cases, evaluation, folder / "cases")
    return evaluation


def _result(seed: int, state: TrainerState, evaluation: Evaluation | None) -> dict[str, Any]:
    return {
        "seed": seed,
        "steps": state.step,
        "best_step": state.best_step,
        "validation": state.scores,
        "test": evaluation.result if evaluation else None,
    }
