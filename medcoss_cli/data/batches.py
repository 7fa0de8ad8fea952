"""Batches of one modality: which samples a step takes, and how a rank reads its part of them.

Every draw is a function of (seed, stage, step, purpose), is made for the whole global batch and then cut to the rows of
a rank or micro-batch; nothing depends on worker count, rank count or how often a run was interrupted.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medcoss_cli.data.prepared import PreparedSet, again
from medcoss_cli.data.workers import blamed, end_with_parent, forkserver, worker_error
from medcoss_cli.errors import DataError, MedcossError
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
class StoredSamples:
    """Samples held in memory, in the prepared set's integer type: what the buffer and the anchors keep."""

    integers: Tensor
    scale: Tensor
    offset: Tensor

    def __len__(self) -> int:
        return len(self.integers)

    def read(self, indices: np.ndarray[Any, Any]) -> Rows:
        rows = torch.from_numpy(np.asarray(indices, np.int64))
        return self.integers[rows].numpy(), self.scale[rows].numpy(), self.offset[rows].numpy()

    @classmethod
    def of(cls, source: Source, indices: np.ndarray[Any, Any]) -> StoredSamples:
        """Copy these rows of a source into memory."""
        integers, scale, offset = source.read(np.asarray(indices))
        return cls(torch.from_numpy(integers.copy()), torch.from_numpy(scale.copy()), torch.from_numpy(offset.copy()))

    @classmethod
    def joined(cls, first: StoredSamples, second: StoredSamples) -> StoredSamples:
        """Both, one after the other."""
        pairs = ((first.integers, second.integers), (first.scale, second.scale), (first.offset, second.offset))
        return cls(*(torch.cat(pair) for pair in pairs))


def ids_fault(modality: CompleteModality, integers: np.ndarray[Any, Any]) -> str | None:
    """Where stored ids of a text are none of its vocabulary; of an image every whole number is a value.

    Asked before the network looks them up: there it is an IndexError, and on a GPU the end of the process.
    """
    pieces = getattr(modality.text_tokenizer, "pieces", None)  # a plugin's own tokenizer may not say
    if not isinstance(pieces, int) or not integers.size:
        return None
    low, high = int(integers.min()), int(integers.max())
    if low >= 0 and high < pieces:
        return None
    return f"a text of {modality.name} has the id {low if low < 0 else high}, its vocabulary the ids 0 to {pieces - 1}"


def read_rows(modality: CompleteModality, source: Source, indices: np.ndarray[Any, Any]) -> Rows:
    """These rows of a source. Raises: DataError where they are ids that no vocabulary has."""
    rows = source.read(indices)
    if (fault := ids_fault(modality, rows[0])) is not None:
        folder = source.folder if isinstance(source, PreparedSet) else None
        fix = None if folder is None else again(folder)
        raise DataError(f"a part of the prepared set is damaged: {fault}", where=folder, fix=fix)
    return rows


@dataclass(frozen=True)
class Pool:
    """The samples of one modality that a stage may draw."""

    modality: CompleteModality
    source: Source
    rows: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Plan:
    """Which modality each turn of a stage trains on.

    A turn is what one modality is drawn for: a whole step, or one of its `mix` micro-batches. Rehearsal is spread evenly
    over the turns; earlier modalities, and new ones, get their exact share in a random order. Mixed turns come
    in a random order altogether, as in the authors' code. Each pool is drawn without replacement and reshuffled when
    exhausted, so a pool smaller than a turn gives its samples several times, with fresh augmentation.

    Args:
        batch: samples of a turn, over all ranks.
        turns, rehearsal_turns: of the stage; `turns` is a multiple of `mix`.
        uniform: new modalities get the same number of turns, else in proportion to their samples.
        equal: earlier modalities alternate, else they get turns in proportion to what is kept of them.
    """

    seed: int
    stage: int
    batch: int
    new: Sequence[Pool]
    old: Sequence[Pool]
    turns: int
    rehearsal_turns: int
    mix: int = 1
    uniform: bool = False
    equal: bool = False

    @classmethod
    def make(
        cls,
        seed: int,
        stage: int,
        batch: int,
        epochs: float,
        share: float | None,
        new: Sequence[Pool],
        old: Sequence[Pool],
        *,
        mix: int = 1,
        uniform: bool = False,
        equal: bool = False,
    ) -> Plan:
        """Plan `epochs` passes over the new data, in steps of `batch` samples.

        Args:
            share: of all turns that are rehearsal, at least; None: in proportion to size.
        """
        samples, buffered = (sum(len(pool.rows) for pool in pools) for pools in (new, old))
        turns, rehearsed = turns_of(samples, buffered, batch // mix, epochs, share, mix)
        return cls(
            seed, stage, batch // mix, list(new), [p for p in old if len(p.rows)], turns, rehearsed, mix, uniform, equal
        )

    @property
    def steps(self) -> int:
        """Steps of the optimiser."""
        return self.turns // self.mix

    @property
    def title(self) -> str:
        """The modalities of the new data, as in "ct+mri"."""
        return "+".join(pool.modality.name for pool in self.new)

    def at(self, turn: int) -> tuple[Pool, int, bool]:
        """The pool of a turn, how many batches are drawn from it before, and whether it is new data."""
        if self.mix > 1:
            turn = int(_shuffled(self.seed, self.stage, "mix", self.turns)[turn])
        rehearsed = turn * self.rehearsal_turns // self.turns
        if (turn + 1) * self.rehearsal_turns // self.turns != rehearsed:
            if self.equal:
                return self.old[rehearsed % len(self.old)], rehearsed // len(self.old), False
            kept = [len(pool.rows) for pool in self.old]
            return *self._drawn(self.old, kept, self.rehearsal_turns, rehearsed, "rehearsal"), False
        weights = [1 if self.uniform else len(pool.rows) for pool in self.new]
        return *self._drawn(self.new, weights, self.turns - self.rehearsal_turns, turn - rehearsed, "alternation"), True

    def _drawn(
        self, pools: Sequence[Pool], weights: Sequence[int], turns: int, turn: int, purpose: str
    ) -> tuple[Pool, int]:
        """The pool of one of the turns that these share in proportion to the weights, and how often it came before."""
        if len(pools) == 1:
            return pools[0], turn
        order, drawn = _alternation(self.seed, self.stage, purpose, tuple(weights), turns)
        return pools[order[turn]], int(drawn[turn])

    def samples(self, count: int = 1024, batch: int = 1) -> Iterator[Batch]:
        """Batches of the new data that are neither augmented nor drawn twice; see `medcoss_cli.strategies.Samples`."""
        total = sum(len(pool.rows) for pool in self.new)
        for pool in self.new:
            share = min(len(pool.rows), max(1, round(min(count, total) * len(pool.rows) / total)))
            name = pool.modality.name
            order = _shuffled(self.seed, self.stage, f"samples of {name}", len(pool.rows))[:share]
            for first in range(0, share, batch):
                read = read_rows(pool.modality, pool.source, pool.rows[order[first : first + batch]])
                inputs = pool.modality.intensity.decode(
                    *(torch.from_numpy(np.ascontiguousarray(part)) for part in read)
                )
                key = (self.seed, self.stage, "samples", name, first)
                yield Batch(name, True, inputs, None, slice(0, len(inputs)), len(inputs), key)

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
        picks: np.ndarray[Any, Any] = pool.rows[order[places - places[0] // n * n]]
        return picks


def turns_of(
    samples: int, buffered: int, batch: int, epochs: float, share: float | None, mix: int = 1
) -> tuple[int, int]:
    """(turns, rehearsal among them) of a stage with so many new and kept samples; see `Plan`."""
    new = max(1, math.ceil(epochs * samples / batch))
    part = max(buffered / (buffered + samples), share or 0.0) if buffered else 0.0
    turns = math.ceil(new / (1 - part) - 1e-9)  # the division's rounding must not add a turn
    rounded = -(-turns // mix) * mix  # the last step is filled up with rehearsal, or else with new data
    return rounded, rounded - new if buffered else 0


@lru_cache(maxsize=8)
def _shuffled(seed: int, stage: int, purpose: str, n: int) -> np.ndarray[Any, Any]:
    order: np.ndarray[Any, Any] = torch.randperm(n, generator=generator(seed, stage, purpose)).numpy()
    return order


@lru_cache(maxsize=8)
def _alternation(
    seed: int, stage: int, purpose: str, weights: tuple[int, ...], turns: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Which pool each of the turns takes, in proportion to the weights, and how often that pool was taken before."""
    exact = np.array(weights) * turns / sum(weights)
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: turns - counts.sum()]] += 1  # by the largest remainders
    while counts.min() == 0 and counts.max() > 1:  # no modality is left out
        counts[[counts.argmax(), counts.argmin()]] += [-1, 1]
    pools = np.repeat(np.arange(len(counts)), counts)[_shuffled(seed, stage, purpose, turns)]
    drawn = np.empty(turns, int)
    for pool in range(len(counts)):
        drawn[pools == pool] = np.arange(counts[pool])
    return pools, drawn


@lru_cache(maxsize=8)
def _order(seed: int, stage: int, modality: str, epoch: int, n: int) -> np.ndarray[Any, Any]:
    order: np.ndarray[Any, Any] = torch.randperm(n, generator=generator(seed, stage, modality, "order", epoch)).numpy()
    return order


class _Parts(Dataset[dict[str, Any]]):
    """Item i is micro-batch i of the stage, as stored integers; read in the main process or in workers."""

    def __init__(self, plan: Plan, partners: bool, accumulate: int, rank: int, ranks: int) -> None:
        self.plan, self.partners, self.rank, self.ranks = plan, partners, rank, ranks
        self.cuts = accumulate // plan.mix  # micro-batches that a turn is cut into

    def __getitem__(self, item: int) -> dict[str, Any]:
        try:
            return self._part(item)
        except MedcossError as error:  # torch would pass on a text of it, without its kind
            return {"fault": error, "traceback": "".join(traceback.format_exception(error))}

    def _part(self, item: int) -> dict[str, Any]:
        plan = self.plan
        turn, micro = divmod(item, self.cuts)
        pool, drawn, new = plan.at(turn)
        indices = plan.indices(pool, drawn)
        part, parts = self.rank * self.cuts + micro, self.ranks * self.cuts
        first, last = part * len(indices) // parts, (part + 1) * len(indices) // parts
        key = (plan.seed, plan.stage, turn)
        result = {
            "modality": pool.modality.name,
            "new": new,
            "rows": (first, last),
            "total": len(indices),
            "key": key,
            "partner": None,
        }
        positions = np.arange(first, last)
        if new or not self.partners:
            return {**result, "own": _read(pool, indices, positions, key)}
        partner = torch.randperm(len(indices), generator=generator(*key, "partner")).numpy()[positions]
        places, where = np.unique(np.concatenate([positions, partner]), return_inverse=True)
        views = _read(pool, indices, places, key)  # a rank reads its partners itself, each sample once
        halves = [tuple(view[torch.from_numpy(half)] for view in views) for half in np.split(where, [len(positions)])]
        return {**result, "own": halves[0], "partner": halves[1]}


def _read(
    pool: Pool, indices: np.ndarray[Any, Any], places: np.ndarray[Any, Any], key: tuple[int, ...]
) -> tuple[Tensor, ...]:
    """Read and augment the samples at these places of the global batch; a place always gets the same view."""
    integers, scale, offset = read_rows(pool.modality, pool.source, indices[places])
    augment = pool.modality.augment
    assert augment is not None
    stored = torch.from_numpy(np.ascontiguousarray(integers))
    with blamed(pool.modality):
        views = [augment(stored[i : i + 1], generator(*key, "augment", int(place))) for i, place in enumerate(places)]
    return torch.cat(views) if views else stored, torch.from_numpy(scale), torch.from_numpy(offset)


def _delivered(loader: DataLoader[dict[str, Any]], plan: Plan) -> Iterator[dict[str, Any]]:
    """What the workers read. Raises: what was raised there, ResourceError for a worker that was killed."""
    parts: Any = iter(loader)
    try:
        for part in parts:
            if "fault" in part:
                if part["fault"].__cause__ is None:  # it crossed from a worker process
                    part["fault"].add_note(part["traceback"])
                raise part["fault"]
            yield part
    except (RuntimeError, OSError, EOFError) as error:
        workers = getattr(parts, "_workers", [])  # nothing public says how a worker ended
        for worker in workers:
            worker.join(1)
        codes = [worker.exitcode for worker in workers if not worker.is_alive()]
        if "DataLoader worker" not in str(error) and not codes:
            raise
        for worker in workers:
            worker.kill()
        names = dict.fromkeys(pool.modality.name for pool in (*plan.new, *plan.old))
        raise worker_error(names, codes or [None], alone="train.workers=0") from error


def batches(
    plan: Plan,
    modalities: Mapping[str, CompleteModality],
    *,
    start: int,
    partners: bool,
    accumulate: int,
    rank: int,
    ranks: int,
    workers: int,
    device: torch.device,
) -> Iterator[Batch]:
    """The micro-batches of this rank from step `start` on, on the device, decoded to the encoder's range.

    Args:
        partners: whether rehearsal batches come with samples to mix with.
        accumulate: micro-batches of a step; the plan's `mix`, or any number where that is 1.
    """
    loader = DataLoader(
        _Parts(plan, partners, accumulate, rank, ranks),
        batch_size=None,
        sampler=range(start * accumulate, plan.steps * accumulate),
        num_workers=workers,
        generator=torch.Generator(),  # private: an iterator of the global generator would change it
        pin_memory=device.type == "cuda",
        multiprocessing_context=forkserver() if workers else None,
        prefetch_factor=4 if workers else None,
        worker_init_fn=end_with_parent,
    )
    for part in _delivered(loader, plan):
        intensity = modalities[part["modality"]].intensity
        assert intensity is not None
        inputs, partner = (
            None if stored is None else intensity.decode(*(t.to(device, non_blocking=True) for t in stored))
            for stored in (part["own"], part["partner"])
        )
        assert inputs is not None
        yield Batch(
            part["modality"], part["new"], inputs, partner, slice(*part["rows"]), part["total"], tuple(part["key"])
        )
