"""Resume points: training of each kind stops after a step that is drawn, and goes on to the same bits."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.campaign import faults, kills
from tests.campaign.attempts import Attempt, turns
from tests.campaign.recovery import Case, Recoveries

STRATEGIES = ("cassle", "der", "derpp", "er", "ewc", "joint", "medcoss", "packnet", "sequential")
BY_NAME = {case.name: case for case in kills.CASES}
SIGNALS = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 130}
"""How training is stopped, and the exit code of it."""


def _pretrain(name: str, recipe: str, *overrides: str) -> Case:
    return Case(name, (), ("pretrain", recipe, *overrides, "--name", "a"), "runs/a", ("pretrain", "--resume", "runs/a"))


CASES = (
    *(_pretrain(name, f"{name}.yaml") for name in ("1d", "2d", "3d")),
    *(_pretrain(name, "joint.yaml" if name == "joint" else "tiny.yaml", f"strategy={name}") for name in STRATEGIES),
    *(BY_NAME[name] for name in ("extend", "finetune classes", "finetune masks", "compare")),
)


def variants() -> list[Case]:
    """Each case with 0 and 2 workers; pre-training on 1 and 2 ranks."""
    cases = []
    for ranks in (1, 2):
        for workers in (0, 2):
            for case in CASES:
                if case is kills.COMPARE:
                    cases += [case] if (ranks, workers) == (1, 0) else []
                elif ranks == 1 or case.verb[0] != "finetune":
                    own = f"train.workers={workers}"
                    if case.verb[0] == "finetune":  # its workers read files, and the one is this process
                        own = f"data.workers={workers or 1}"
                    name = f"{case.name}, {workers} workers, {ranks} rank{'s' * (ranks > 1)}"
                    cases.append(replace(case, name=name, verb=(*case.verb, own), ranks=ranks))
    return cases


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Stop each variant, or those named, at a step that is drawn."""
    with tempfile.TemporaryDirectory() as name:
        recoveries = Recoveries(Path(name))
        for number, case, rng in turns(variants(), count, seed, kinds):
            if case is kills.COMPARE:
                yield kills.kill_when_so_much_is_there(recoveries, case, number, rng)
            else:
                yield _stop(recoveries, case, number, rng)


def _stop(recoveries: Recoveries, case: Case, number: int, rng: np.random.Generator) -> Attempt:
    at = int(rng.integers(1, recoveries.reference(case).saves + 1))
    how = list(SIGNALS)[int(rng.integers(len(SIGNALS)))]

    def disturb(place: Path) -> None:
        faults.at_save(at, lambda name: os.kill(os.getpid(), how))

    codes = (SIGNALS[how], *([0] if how != signal.SIGKILL else []))  # one asked to stop at its last step may end
    return recoveries.attempt(case, number, disturb, f"{how.name} at step {at}", codes=codes)


def plant() -> None:
    """A resumed training begins with an empty optimiser."""
    from medcoss_cli.finetuning import trainer
    from medcoss_cli.pretraining import engine

    engine.load_optimiser = trainer.load_optimiser = lambda optimiser, state: None
