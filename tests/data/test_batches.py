"""Batches: which samples a step takes, that ranks and micro-batches cut the same batch, that nothing depends on workers."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections import Counter
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medcoss_cli.data.batches import Plan, Pool, StoredSamples, batches
from medcoss_cli.errors import MedcossError, ResourceError
from medcoss_cli.model.batch import Batch
from medcoss_cli.registry.discovery import load_modality


def pool(name: str, count: int) -> Pool:
    modality = load_modality(name).with_size((16, 16))
    rng = np.random.default_rng(count)
    integers = torch.from_numpy(rng.integers(0, 256, (count, modality.channels, 16, 16)).astype(np.uint8))
    return Pool(modality, StoredSamples(integers, torch.ones(count), torch.zeros(count)), np.arange(count))


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 200),
    st.lists(st.integers(1, 40), max_size=3),
    st.integers(1, 32),
    st.floats(0.2, 5),
    st.sampled_from([None, 0.25, 0.5]),
    st.booleans(),
)
def test_the_plan_keeps_its_promises(
    new: int, old: list[int], batch: int, epochs: float, share: float | None, equal: bool
) -> None:
    names = ("xray", "pathology", "ultrasound")
    kept = [pool(n, c) for n, c in zip(names, old, strict=False)]
    plan = Plan.make(0, 2, batch, epochs, share, [pool("xray", new)], kept, equal=equal)
    steps = [plan.at(step) for step in range(plan.steps)]
    on_new = [turn for _, turn, is_new in steps if is_new]
    assert len(on_new) == max(1, math.ceil(epochs * new / batch))
    assert on_new == list(range(len(on_new)))
    part = max(sum(old) / (sum(old) + new), share or 0) if old else 0
    assert abs((plan.steps - len(on_new)) - part * plan.steps) <= 1
    turns = Counter(id(p) for p, _, is_new in steps if not is_new)
    rehearsed = sum(turns.values())
    for p in plan.old:
        exact = rehearsed / len(old) if equal else rehearsed * len(p.rows) / sum(old)
        few = rehearsed * min(old) < sum(old)  # the smallest gets a turn all the same, from the largest
        assert abs(turns[id(p)] - exact) <= (1 if equal or not few else len(old))
        assert rehearsed < len(old) or turns[id(p)]
        assert [t for q, t, is_new in steps if q is p and not is_new] == list(range(turns[id(p)]))


def test_a_kept_sample_is_seen_equally_often_whatever_its_modality() -> None:
    kept = [pool("xray", 120), pool("pathology", 40), pool("ultrasound", 20)]
    seen = {}
    for equal in (False, True):
        plan = Plan.make(0, 2, 10, 30, None, [pool("xray", 200)], kept, equal=equal)
        turns = Counter(p.modality.name for p, _, new in map(plan.at, range(plan.steps)) if not new)
        seen[equal] = [10 * turns[p.modality.name] / len(p.rows) / 30 for p in kept]  # an epoch of the new data
    assert seen[False] == pytest.approx([1, 1, 1], rel=0.02)
    assert seen[True] == pytest.approx([0.5, 1.5, 3], rel=0.02)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 20))
def test_a_pool_is_drawn_without_replacement_and_reshuffled_when_exhausted(count: int, batch: int) -> None:
    source = pool("xray", count)
    plan = Plan.make(3, 1, batch, 3, None, [source], [])
    drawn = np.concatenate([plan.indices(source, turn) for turn in range(plan.steps)])
    for epoch in range(len(drawn) // count):
        assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))


def collect(
    plan: Plan, *, ranks: int = 1, accumulate: int = 1, start: int = 0, workers: int = 0, partners: bool = True
) -> list[list[Batch]]:
    modalities = {p.modality.name: p.modality for p in (*plan.new, *plan.old)}
    parts = [
        list(
            batches(
                plan,
                modalities,
                start=start,
                partners=partners,
                accumulate=accumulate,
                rank=rank,
                ranks=ranks,
                workers=workers,
                device=torch.device("cpu"),
            )
        )
        for rank in range(ranks)
    ]
    steps = len(parts[0]) // accumulate
    return [[part[step * accumulate + micro] for part in parts for micro in range(accumulate)] for step in range(steps)]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan.make(1, 2, 7, 2, 0.4, [pool("xray", 20)], [pool("pathology", 5)])


@pytest.mark.parametrize(("ranks", "accumulate"), [(2, 1), (1, 3), (2, 3)])
def test_ranks_and_micro_batches_are_slices_of_one_batch(plan: Plan, ranks: int, accumulate: int) -> None:
    for (whole,), parts in zip(collect(plan), collect(plan, ranks=ranks, accumulate=accumulate), strict=True):
        assert torch.equal(torch.cat([part.mixup().inputs for part in parts]), whole.mixup().inputs)
        assert torch.equal(torch.cat([part.draw("mask", 9) for part in parts]), whole.draw("mask", 9))
        assert all((part.modality, part.new, part.total) == (whole.modality, whole.new, 7) for part in parts)


def test_starting_in_the_middle_and_workers_change_nothing(plan: Plan) -> None:
    whole = collect(plan)
    for other in (collect(plan, start=2), collect(plan, start=2, workers=2)):
        for (a,), (b,) in zip(whole[2:], other, strict=True):
            assert torch.equal(a.inputs, b.inputs)
            assert (a.partner is None) == (b.partner is None)
            assert a.partner is None or torch.equal(a.partner, b.partner)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGKILL, ResourceError), (signal.SIGSEGV, ResourceError)])
def test_a_worker_that_dies_is_named_and_none_is_left(number: signal.Signals, error: type[MedcossError]) -> None:
    plan = Plan.make(1, 1, 4, 500, None, [pool("xray", 20)], [])
    modalities = {p.modality.name: p.modality for p in plan.new}
    device = torch.device("cpu")
    parts = batches(plan, modalities, start=0, partners=False, accumulate=1, rank=0, ranks=1, workers=2, device=device)
    next(parts)
    [first, *_] = workers = processes_below(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
    os.kill(first, number)
    with pytest.raises(error, match="a process that reads"):
        list(parts)
    for _ in range(100):
        if not set(workers) & set(processes_below(forkserver._forkserver._forkserver_pid)):  # type: ignore[attr-defined]
            return
        time.sleep(0.05)
    pytest.fail("a worker is left")


def processes_below(parent: int) -> list[int]:
    """The children of a process, of which zombies are none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone meanwhile
            state, above, *_ = path.read_text().rpartition(")")[2].split()
            found += [int(path.parent.name)] if int(above) == parent and state != "Z" else []
    return found


def test_the_same_sample_gets_a_fresh_view_each_time(plan: Plan) -> None:
    seen = [batch.inputs for (batch,) in collect(plan, partners=False) if not batch.new]
    assert len(seen) > 1
    views = torch.cat(seen).flatten(1)
    assert len(torch.unique(views, dim=0)) == len(views)  # 5 samples, drawn many times


def test_partners_are_of_the_same_batch(plan: Plan) -> None:
    for (batch,) in collect(plan):
        if batch.partner is not None:
            own = {tuple(row.flatten().tolist()) for row in batch.inputs}
            assert {tuple(row.flatten().tolist()) for row in batch.partner} == own
