"""The data of one stage: from a folder of files to rows that may be trained on and rows set aside as anchors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medcoss_cli.data.prepare import prepare
from medcoss_cli.data.read import find, with_vocabulary
from medcoss_cli.kit.sources.places import local
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.pretraining.job import Job
from medcoss_cli.pretraining.retention import choose_anchors
from medcoss_cli.pretraining.stage_data import StageData
from medcoss_cli.recipe.schema import AnyStage, Member
from medcoss_cli.registry.configure import for_stage, reading


def prepare_stage(job: Job, number: int, stage: AnyStage) -> list[StageData]:
    """The data of a stage's modalities, in order; most stages have one.

    Raises: DataError for a missing or unusable folder, RecipeError for a size or tokenizer that does not fit.
    """
    modalities, prepared = dict(job.state.model.modalities), []
    for member in stage.members:
        data = _prepare(job, number, member, modalities)
        modalities[data.modality.name] = data.modality  # a later one may share its tokenizer and vocabulary
        prepared.append(data)
    job.run.quarantine(number, [data.prepared.quarantine for data in prepared])
    return prepared


def _prepare(job: Job, number: int, member: Member, modalities: Mapping[str, CompleteModality]) -> StageData:
    """Find, learn a vocabulary if one is needed and none is there, prepare, and set anchors aside by patient or document."""
    recipe, screen = job.recipe, job.screen
    decoder = recipe.decoder.model_dump() if recipe.decoder else None
    offered = job.state.model.offered
    modality = for_stage(
        member.modality,
        modalities,
        screen,
        decoder=decoder,
        offered=offered,
        positions=recipe.positions,
        **member.parts(),
    )
    if not job.devices.first:
        job.devices.wait()  # rank 0 prepares the set, the other ranks then open it
    root = local(member.data, job.data_root, screen.say)
    screen.say(f"stage {number} of {job.before + len(job.stages)}: {modality.title} from {root}")
    part = reading(modality, recipe.data.reading)
    listing = find(part, root, recipe.data.split, screen, columns=member.columns)
    modality = with_vocabulary(modality, listing, screen)
    rows = prepare(
        reading(modality, recipe.data.reading),
        listing,
        job.prepared,
        workers=recipe.data.workers,
        bad_share=recipe.data.bad_share,
        screen=screen,
    )
    if job.devices.first:
        job.devices.wait()
    anchors = choose_anchors(rows.groups, (recipe.seed, number))
    if len(anchors) == 0:
        screen.warn(f"{modality.name}: too few patients or documents to hold any out, so retention is not measured")
    train = np.setdiff1d(np.arange(len(rows)), anchors)
    facts = {
        "samples": len(rows),
        "train": len(train),
        "anchors": len(anchors),
        "groups": len(np.unique(rows.groups)),
        "data_hash": rows.data_hash,
    }
    return StageData(modality, rows, train, anchors, facts)
