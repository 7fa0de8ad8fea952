"""The heart: Algorithm 1 of Ye et al. (CVPR 2024). `extend` is one stage of it, from a checkpoint."""

from __future__ import annotations

import numpy as np

from medcoss_cli.data.batches import Plan, Pool
from medcoss_cli.model.multimodal import Model
from medcoss_cli.pretraining import retention
from medcoss_cli.pretraining.engine import Engine
from medcoss_cli.pretraining.job import Job
from medcoss_cli.pretraining.selection import select
from medcoss_cli.pretraining.stage import prepare_stage
from medcoss_cli.pretraining.state import State


def pretrain(job: Job, *, last: int | None = None) -> State:
    """One encoder, many modalities, one after another; stages that the state has already seen are not repeated.

    Args:
        last: stop after the stage of this number; another call goes on with the next one.
    """
    state = job.state
    model = state.model.to(job.devices.device)
    strategy = job.make_strategy()
    for number, stage in job.remaining(last):  # line 6; in the first stage the buffer is empty
        data = prepare_stage(job, number, stage)  # D_i, of one modality or several
        info = job.info(number, stage, data)
        names = [part.modality.name for part in data]
        for at, part in enumerate(data):  # its tokenizer if the key is new; a fresh decoder, psi_i
            model.add(part.modality, sharing=names[:at] if stage.decoders == "dimension" else ())
        strategy.begin_stage(model, info)  # medcoss: a frozen copy, M_(i-1)
        old = [Pool(model.modalities[name], stored, np.arange(len(stored))) for name, stored in state.buffer.items()]
        plan = job.plan(number, stage, [part.pool for part in data], old if strategy.rehearses else [])  # line 7: D, B
        data_hash = "+".join(part.prepared.data_hash for part in data)
        with Engine(model, strategy, plan, job, stage, info, data_hash, baselines(model, plan)) as engine:
            for batch in engine.batches():  # lines 8, 9: one modality each
                with engine.autocast():
                    loss = strategy.loss(model, batch)  # lines 10 to 14: L_mim or L_fd
                engine.step(batch, loss)  # updates phi, T and, on new data, psi_i
        model.separate_decoders()  # so that later stages, resumed or not, find the same
        engine.end_stage()  # what the strategy estimates from samples of D_i
        for pool in plan.new:
            state.keep(pool.modality.name, select(job, number, model, pool))  # line 16: B and Sample(D_i)
        state.remember(job.strategy.name, strategy.memory())
        state.finish(number, data, engine.facts(), strategy.serving)
        job.save(state)
    return state


def baselines(model: Model, plan: Plan) -> dict[str, float]:
    """By new modality the loss of predicting the mean, on up to 256 samples: what a loss of 1.0 on the screen means."""
    losses = {}
    for new in plan.new:
        rows, name = new.rows[np.linspace(0, len(new.rows) - 1, min(256, len(new.rows))).astype(int)], new.modality.name
        losses[name] = model.decoder(name).baseline(retention.decoded(model, name, new.source, rows))
    return losses
