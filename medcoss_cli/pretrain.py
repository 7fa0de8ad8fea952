"""The heart: Algorithm 1 of Ye et al. (CVPR 2024). `extend` is one stage of it, from a checkpoint."""

from __future__ import annotations

import numpy as np
import torch

from medcoss_cli.data.batches import Pool, Stored
from medcoss_cli.model.multimodal import Model
from medcoss_cli.pretraining import retention
from medcoss_cli.pretraining.engine import Engine
from medcoss_cli.pretraining.job import Job
from medcoss_cli.pretraining.rehearsal import buffer_size, choose_kmeans, choose_random
from medcoss_cli.pretraining.stage import prepare_stage
from medcoss_cli.pretraining.state import State
from medcoss_cli.registry.discovery import load_strategy


def pretrain(job: Job, *, last: int | None = None) -> State:
    """One encoder, many modalities, one after another; stages that the state has already seen are not repeated.

    Args:
        last: stop after the stage of this number; another call goes on with the next one.
    """
    state, recipe = job.state, job.recipe
    model = state.model.to(job.devices.device)
    for number, stage in job.remaining(last):  # line 6; in the first stage the buffer is empty
        data = prepare_stage(job, number, stage)  # D_i; probes are set aside for retention
        model.add(data.modality)  # its tokenizer if the key is new; a fresh decoder, psi_i
        strategy = load_strategy(job.strategy)(recipe.mixup)
        strategy.begin_stage(model)  # medcoss: a frozen copy, M_(i-1)
        new = Pool(data.modality, data.prepared, data.train)
        old = [Pool(model.modalities[name], kept, np.arange(len(kept))) for name, kept in state.buffer.items()]
        plan = job.plan(number, stage, new, old if strategy.rehearses else [])  # line 7: D = D_i and B
        with Engine(model, strategy, plan, job, stage, data.prepared.data_hash, baseline(model, new)) as engine:
            for batch in engine.batches():  # lines 8, 9: one modality each
                with engine.autocast():
                    loss = strategy.loss(model, batch)  # lines 10 to 14: L_mim or L_fd
                engine.step(batch, loss)  # updates phi, T and, on new data, psi_i
        strategy.end_stage(model)
        state.keep(data.modality.name, select(job, number, model, new))  # line 16: B and Sample(D_i)
        state.finish(number, data.modality, Stored.of(data.prepared, data.probes), data.facts | engine.facts())
        job.save(state)
    return state


def select(job: Job, number: int, model: Model, new: Pool) -> Stored:
    """Sample(D_i): the buffer's share of a stage, chosen with the model just trained, in eval mode, nothing masked."""
    rehearsal = job.recipe.rehearsal
    key = (job.recipe.seed, number, "buffer")
    keep = buffer_size(len(new.rows), rehearsal.ratio)
    chosen = torch.zeros(keep, dtype=torch.int64)
    if job.devices.first:
        if rehearsal.select == "random":
            picked = choose_random(len(new.rows), keep, key)
        else:
            with job.screen.progress(f"stage {number} choosing {keep} for the buffer", len(new.rows)) as bar:
                features = retention.features(model, new.modality.name, new.source, new.rows, bar)
            picked = choose_kmeans(features.numpy(), keep, rehearsal.centers, key)
        chosen = torch.from_numpy(picked)
    return Stored.of(new.source, new.rows[job.devices.from_first(chosen).numpy()])


def baseline(model: Model, new: Pool) -> float:
    """The loss of predicting the mean on up to 256 samples of the new data: what a loss of 1.0 on the screen means."""
    rows = new.rows[np.linspace(0, len(new.rows) - 1, min(256, len(new.rows))).astype(int)]
    return model.decoder(new.modality.name).baseline(retention.decoded(model, new.modality.name, new.source, rows))
