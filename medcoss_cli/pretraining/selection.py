"""Sample(D_i), line 16 of Algorithm 1: which samples of a finished stage go into the buffer."""

from __future__ import annotations

import torch

from medcoss_cli.data.batches import Pool, StoredSamples
from medcoss_cli.model.multimodal import Model
from medcoss_cli.pretraining import retention
from medcoss_cli.pretraining.job import Job
from medcoss_cli.pretraining.rehearsal import CENTERS, buffer_size, choose_kmeans, choose_random


def select(job: Job, number: int, model: Model, new: Pool) -> StoredSamples:
    """The buffer's share of a stage, chosen with the model just trained, in eval mode, nothing masked."""
    rehearsal = job.recipe.rehearsal
    key = (job.recipe.seed, number, "buffer")
    keep = buffer_size(len(new.rows), rehearsal.ratio)
    chosen = torch.zeros(keep, dtype=torch.int64)
    if job.devices.first:
        if job.recipe.selection == "random":
            picked = choose_random(len(new.rows), keep, key)
        else:
            with job.screen.progress(f"stage {number} choosing {keep} for the buffer", len(new.rows)) as bar:
                features = retention.features(model, new.modality.name, new.source, new.rows, bar)
            picked = choose_kmeans(features.numpy(), keep, rehearsal.centers or CENTERS, key)
        chosen = torch.from_numpy(picked)
    return StoredSamples.of(new.source, new.rows[job.devices.from_first(chosen).numpy()])
