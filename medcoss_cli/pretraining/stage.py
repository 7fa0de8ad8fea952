"""The data of one stage: from a folder of files to rows that may be trained on and rows set aside as probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medcoss_cli.data.prepare import prepare
from medcoss_cli.data.prepared import PreparedSet
from medcoss_cli.data.read import find, with_vocabulary
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.pretraining.job import Job
from medcoss_cli.pretraining.retention import choose_probes
from medcoss_cli.recipe.schema import Stage
from medcoss_cli.registry.configure import for_stage


@dataclass(frozen=True)
class StageData:
    """A prepared set and its division: `train` and `probes` are row numbers; no group is in both."""

    modality: CompleteModality
    prepared: PreparedSet
    train: np.ndarray[Any, Any]
    probes: np.ndarray[Any, Any]
    facts: dict[str, Any]


def prepare_stage(job: Job, number: int, stage: Stage) -> StageData:
    """Find, learn a vocabulary if one is needed and none is there, prepare, and set probes aside by patient or document.

    Raises: DataError for a missing or unusable folder, RecipeError for a size or tokenizer that does not fit.
    """
    recipe, screen = job.recipe, job.screen
    model, decoder = job.state.model, recipe.decoder.model_dump() if recipe.decoder else None
    modality = for_stage(
        stage.modality, model.modalities, screen, decoder=decoder, offered=model.offered, **stage.parts()
    )
    root = job.data_root / stage.data
    screen.say(f"stage {number} of {job.before + len(job.stages)}: {modality.title} from {root}")
    if not job.devices.first:
        job.devices.wait()  # rank 0 prepares, the others then open what is there
    found = find(modality, root, recipe.data.split, screen)
    modality = with_vocabulary(modality, found, screen)
    rows = prepare(
        modality, found, job.prepared, workers=recipe.data.workers, bad_share=recipe.data.bad_share, screen=screen
    )
    job.run.quarantine(number, rows.quarantine)
    if job.devices.first:
        job.devices.wait()
    probes = choose_probes(rows.groups, (recipe.seed, number))
    if len(probes) == 0:
        screen.warn(f"{modality.name}: too few patients or documents to set any aside, so retention is not measured")
    train = np.setdiff1d(np.arange(len(rows)), probes)
    facts = {
        "samples": len(rows),
        "train": len(train),
        "probes": len(probes),
        "groups": len(np.unique(rows.groups)),
        "data_hash": rows.data_hash,
    }
    return StageData(modality, rows, train, probes, facts)
