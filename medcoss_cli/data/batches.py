"""Batches of one modality: which samples a step takes, and how a rank reads its part of them.

Every draw is a function of (seed, stage, step, purpose), is made for the whole global batch and then cut to the rows of
a rank or micro-batch; nothing depends on worker count, rank count or how often a run was interrupted.
"""

from __future__ import annotations

import math
import re
import signal
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medcoss_cli.data.workers import blamed, forkserver, gone
from medcoss_cli.errors import PluginError
from medcoss_cli.model.batch import Batch
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.randomness import generator

Rows = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


class Source(Protocol):
    """Stored integers: a prepared set or a part of the rehearsal buffer."""

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray[Any, Any]) -> Rows:
        """(integers (N, ...), scale (N,), offset (N,)) of these rows."""
        ...


@dataclass(frozen=True)
class Stored:
    """Samples held in memory, in the prepared set's integer type: what the buffer and the probes keep."""

    integers: Tensor
    scale: Tensor
    offset: Tensor

    def __len__(self) -> int:
        return len(self.integers)

    def read(self, indices: np.ndarray[Any, Any]) -> Rows:
        rows = torch.from_numpy(np.asarray(indices, np.int64))
        return self.integers[rows].numpy(), self.scale[rows].numpy(), self.offset[rows].numpy()

    @classmethod
    def of(cls, source: Source, indices: np.ndarray[Any, Any]) -> Stored:
        """Copy these rows of a source into memory."""
        integers, scale, offset = source.read(np.asarray(indices))
        return cls(torch.from_numpy(integers.copy()), torch.from_numpy(scale.copy()), torch.from_numpy(offset.copy()))

    @classmethod
    def joined(cls, first: Stored, second: Stored) -> Stored:
        """Both, one after the other."""
        pairs = ((first.integers, second.integers), (first.scale, second.scale), (first.offset, second.offset))
        return cls(*(torch.cat(pair) for pair in pairs))


@dataclass(frozen=True)
class Pool:
    """The samples of one modality that a stage may draw."""

    modality: CompleteModality
    source: Source
    rows: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Plan:
    """Which modality each step of a stage trains on (DESIGN 4.7).

    Rehearsal steps are spread evenly, earlier modalities take turns. Each pool is drawn without replacement and
    reshuffled when exhausted, so a pool smaller than a batch gives its samples several times, with fresh augmentation.
    """

    seed: int
    stage: int
    batch: int
    new: Pool
    old: Sequence[Pool]
    steps: int
    rehearsal_steps: int

    @classmethod
    def make(
        cls, seed: int, stage: int, batch: int, epochs: float, share: float | None, new: Pool, old: Sequence[Pool]
    ) -> Plan:
        """Plan `epochs` passes over the new data; `share` of all batches are rehearsal, None: in proportion to size."""
        new_steps = max(1, math.ceil(epochs * len(new.rows) / batch))
        kept = sum(len(pool.rows) for pool in old)
        part = max(kept / (kept + len(new.rows)), share or 0.0) if kept else 0.0
        steps = math.ceil(new_steps / (1 - part) - 1e-9)
        return cls(seed, stage, batch, new, list(old), steps, steps - new_steps)

    def at(self, step: int) -> tuple[Pool, int, bool]:
        """The pool of a step, how many batches were drawn from it before, and whether it is new data."""
        before = step * self.rehearsal_steps // self.steps
        if (step + 1) * self.rehearsal_steps // self.steps == before:
            return self.new, step - before, True
        return self.old[before % len(self.old)], before // len(self.old), False

    def indices(self, pool: Pool, turn: int) -> np.ndarray[Any, Any]:
        """Rows (N,) of the `turn`-th batch of a pool."""
        places = np.arange(turn * self.batch, (turn + 1) * self.batch)
        n = len(pool.rows)
        order = np.concatenate(
            [
                _order(self.seed, self.stage, pool.modality.name, epoch, n)
                for epoch in range(places[0] // n, places[-1] // n + 1)
            ]
        )
        chosen: np.ndarray[Any, Any] = pool.rows[order[places - places[0] // n * n]]
        return chosen


@lru_cache(maxsize=8)
def _order(seed: int, stage: int, modality: str, epoch: int, n: int) -> np.ndarray[Any, Any]:
    order: np.ndarray[Any, Any] = torch.randperm(n, generator=generator(seed, stage, modality, "order", epoch)).numpy()
    return order


class _Parts(Dataset[dict[str, Any]]):
    """Item i is micro-batch i of the stage, as stored integers; read in the main process or in workers."""

    def __init__(self, plan: Plan, mixup: bool, accumulate: int, rank: int, ranks: int) -> None:
        self.plan, self.mixup, self.accumulate, self.rank, self.ranks = plan, mixup, accumulate, rank, ranks

    def __getitem__(self, item: int) -> dict[str, Any]:
        try:
            return self._part(item)
        except PluginError as error:  # torch would pass on a text of it, without its kind
            return {"fault": error, "traceback": "".join(traceback.format_exception(error))}

    def _part(self, item: int) -> dict[str, Any]:
        plan = self.plan
        step, micro = divmod(item, self.accumulate)
        pool, turn, new = plan.at(step)
        chosen = plan.indices(pool, turn)
        part, parts = self.rank * self.accumulate + micro, self.ranks * self.accumulate
        first, last = part * len(chosen) // parts, (part + 1) * len(chosen) // parts
        key = (plan.seed, plan.stage, step)
        result = {
            "modality": pool.modality.name,
            "new": new,
            "rows": (first, last),
            "total": len(chosen),
            "key": key,
            "partner": None,
        }
        own = np.arange(first, last)
        if new or not self.mixup:
            return {**result, "own": _read(pool, chosen, own, key)}
        partner = torch.randperm(len(chosen), generator=generator(*key, "partner")).numpy()[own]
        places, where = np.unique(np.concatenate([own, partner]), return_inverse=True)
        views = _read(pool, chosen, places, key)  # a rank reads its partners itself, each sample once
        both = [tuple(view[torch.from_numpy(half)] for view in views) for half in np.split(where, [len(own)])]
        return {**result, "own": both[0], "partner": both[1]}


def _read(
    pool: Pool, chosen: np.ndarray[Any, Any], places: np.ndarray[Any, Any], key: tuple[int, ...]
) -> tuple[Tensor, ...]:
    """Read and augment the samples at these places of the global batch; a place always gets the same view."""
    integers, scale, offset = pool.source.read(chosen[places])
    augment = pool.modality.augment
    assert augment is not None
    stored = torch.from_numpy(np.ascontiguousarray(integers))
    with blamed(pool.modality):
        views = [augment(stored[i : i + 1], generator(*key, "augment", int(place))) for i, place in enumerate(places)]
    return torch.cat(views) if views else stored, torch.from_numpy(scale), torch.from_numpy(offset)


def _delivered(loader: DataLoader[dict[str, Any]], plan: Plan) -> Iterator[dict[str, Any]]:
    """What the workers read. Raises: PluginError for a fault of a plugin there, ResourceError for a worker that was killed."""
    try:
        for part in loader:
            if "fault" in part:
                if part["fault"].__cause__ is None:  # it crossed from a worker process
                    part["fault"].add_note(part["traceback"])
                raise part["fault"]
            yield part
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        names = dict.fromkeys(pool.modality.name for pool in (plan.new, *plan.old))
        code = re.search(r"exit code (\d+)", str(error))
        ended = -signal.SIGKILL if "signal: Killed" in str(error) else int(code[1]) if code else None
        raise gone(names, [ended]) from error


def batches(
    plan: Plan,
    modalities: Mapping[str, CompleteModality],
    *,
    start: int,
    mixup: bool,
    accumulate: int,
    rank: int,
    ranks: int,
    workers: int,
    device: torch.device,
) -> Iterator[Batch]:
    """The micro-batches of this rank from step `start` on, on the device, decoded to the encoder's range."""
    loader = DataLoader(
        _Parts(plan, mixup, accumulate, rank, ranks),
        batch_size=None,
        sampler=range(start * accumulate, plan.steps * accumulate),
        num_workers=workers,
        generator=torch.Generator(),  # private: an iterator of the global generator would change it
        pin_memory=device.type == "cuda",
        multiprocessing_context=forkserver() if workers else None,
        prefetch_factor=4 if workers else None,
    )
    for part in _delivered(loader, plan):
        intensity = modalities[part["modality"]].intensity
        assert intensity is not None
        own, partner = (
            None if stored is None else intensity.decode(*(t.to(device, non_blocking=True) for t in stored))
            for stored in (part["own"], part["partner"])
        )
        assert own is not None
        yield Batch(
            part["modality"], part["new"], own, partner, slice(*part["rows"]), part["total"], tuple(part["key"])
        )
