"""kill -9 at chosen file operations: a run is resumed, or typed again, and ends with what an uninterrupted one leaves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from tests.campaign import faults
from tests.campaign.attempts import Attempt, turns
from tests.campaign.recovery import Case, Recoveries

PRETRAIN = ("pretrain", "tiny.yaml", "--name", "a")
EXTEND = ("extend", "--modality", "pathology", "--from", "runs/a/ckpt.pt", "--name", "b", "size=[32,32]")
SHORT = ("tokenizer=patch2d-8", "train.epochs=0.5", "train.batch=8", "train.warmup=0", "train.save_minutes=1e-9")
CLASSES = ("finetune", "classes.yaml", "--name", "c", "--seeds", "0,1")
MASKS = ("finetune", "masks.yaml", "--name", "m")
COMPARE = Case("compare", (), ("compare", "small.yaml"), "runs/compare-small")
CASES = (
    Case("pretrain", (), PRETRAIN, "runs/a", ("pretrain", "--resume", "runs/a")),
    Case("extend", (PRETRAIN,), (*EXTEND, *SHORT), "runs/b", ("extend", "--resume", "runs/b")),
    Case(
        "resume", (PRETRAIN,), ("pretrain", "--resume", "runs/a"), "runs/a", ("pretrain", "--resume", "runs/a"), stops=6
    ),
    Case(
        "pretrain with init",
        (PRETRAIN,),
        ("pretrain", "tiny.yaml", "init=runs/a/ckpt.pt", "--name", "b"),
        "runs/b",
        ("pretrain", "--resume", "runs/b"),
    ),
    Case("finetune classes", (), CLASSES, "runs/c", ("finetune", "--resume", "runs/c")),
    Case("finetune masks", (), MASKS, "runs/m", ("finetune", "--resume", "runs/m")),
    Case(
        "export",
        (PRETRAIN,),
        ("export", "runs/a/ckpt.pt", "--modality", "xray", "-o", "out/x.onnx"),
        "out",
        again=("--overwrite",),
    ),
    Case("prepare", (), ("data", "prepare", "data/xray", "--modality", "xray"), "prepared"),
    Case(
        "strip",
        (PRETRAIN,),
        ("checkpoint", "strip", "runs/a/ckpt.pt", "out/s.safetensors"),
        "out",
        again=("--overwrite",),
    ),
    COMPARE,
)


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Kill each case, or those named, at places drawn from all of its file operations."""
    with tempfile.TemporaryDirectory() as name:
        recoveries = Recoveries(Path(name))
        for number, case, rng in turns(CASES, count, seed, kinds):
            if case is COMPARE:
                yield kill_when_so_much_is_there(recoveries, case, number, rng)
            else:
                yield kill_at_an_operation(recoveries, case, number, rng)


def kill_at_an_operation(recoveries: Recoveries, case: Case, number: int, rng: np.random.Generator) -> Attempt:
    """One that is drawn, of all that the verb makes."""
    counts = recoveries.reference(case).calls
    at = int(rng.integers(1, sum(counts[name] for name in faults.CHANGES) + 1))
    disturb = partial(faults.install, at=at, act=faults.kill)
    return recoveries.attempt(case, number, disturb, f"killed at operation {at}", codes=(0, -9))


def kill_when_so_much_is_there(recoveries: Recoveries, case: Case, number: int, rng: np.random.Generator) -> Attempt:
    """A comparison works in many processes: all are killed when so many files of it are there."""
    files = int(rng.integers(1, len(recoveries.reference(case).whole) + 1))

    def watch(place: Path) -> bool:
        # not rglob: it stops at a folder that is renamed meanwhile
        return sum(len(names) for _, _, names in os.walk(place / case.leaves)) >= files

    return recoveries.attempt(case, number, None, f"killed when {files} files were there", codes=(0, -9), watch=watch)


def plant() -> None:
    """What a stage leaves beside its checkpoint is not made again on resume."""
    from medcoss_cli.pretraining.job import Job

    Job.mend = lambda self: None  # type: ignore[method-assign]
