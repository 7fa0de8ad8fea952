"""A full disk, no permission, too few file handles, little memory, each at twelve calls: a sentence, and nothing is lost."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import ResourceError
from tests.campaign import faults, kills
from tests.campaign.attempts import Attempt, turns
from tests.campaign.recovery import Case, Recoveries

REASONS = {
    "disk full": errno.ENOSPC,
    "no permission": errno.EACCES,
    "too few handles": errno.EMFILE,
    "little memory": errno.ENOMEM,
}
CALLS = ("open", "read", "write", "mkdir", "rename", "replace", "unlink", "fsync", "scandir", "stat", "flock", "mmap")
CODES = (0, 2, 4, 6)
"""A resource that is missing, an input that cannot be read; 0 where medcoss can do without the call."""
CASES = tuple(case for case in kills.CASES if case is not kills.COMPARE)


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Each reason at each call in turn, once or from there on, at a verb and a call of it that are drawn."""
    places = [(reason, call) for reason in REASONS for call in CALLS]
    with tempfile.TemporaryDirectory() as name:
        recoveries = Recoveries(Path(name))
        for number, (reason, call), rng in turns(places, count, seed, kinds, ": ".join):
            makes = [case for case in CASES if recoveries.reference(case).calls[call]]
            case = makes[int(rng.integers(len(makes)))]
            yield _refuse(recoveries, case, number, reason, call, rng)


def _refuse(
    recoveries: Recoveries, case: Case, number: int, reason: str, call: str, rng: np.random.Generator
) -> Attempt:
    at = int(rng.integers(1, recoveries.reference(case).calls[call] + 1))
    onward = bool(rng.integers(2))
    disturb = partial(faults.install, at=at, act=faults.refuse(REASONS[reason]), names=(call,), onward=onward)
    how = f"{case.name}: {reason} at {call} {at}{' and later' if onward else ''}"
    attempt = recoveries.attempt(
        case,
        number,
        disturb,
        how,
        codes=CODES,
        removes=call not in ("unlink", "read", "scandir"),  # a folder is read before it is removed
        never=("damaged", "truncated"),
        tells="permission denied" if reason == "no permission" else None,  # a sample that may not be read is left out
    )
    return Attempt(f"{reason}: {call}", number, attempt.outcome, attempt.detail, attempt.fine)


def plant() -> None:
    """A file that cannot be written is passed over."""
    from contextlib import suppress

    from medcoss_cli.store import atomic

    write = atomic.write

    def wrong(*arguments: Any, **options: Any) -> None:
        with suppress(ResourceError):
            write(*arguments, **options)

    atomic.write = wrong
