"""Several verbs at once in one place: each ends as it would alone, or says that another is at work; none spoils the other's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np

from tests.campaign import artefacts, kills, verbs
from tests.campaign.attempts import Attempt, turns
from tests.campaign.recovery import Recoveries, differences, left_in

BY_NAME = {case.name: case for case in kills.CASES}
Found = tuple[str, list[str]]
"""The outcome, and what is wrong with it."""


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """Each way in turn; the verbs begin within a time that is drawn."""
    with tempfile.TemporaryDirectory() as name:
        recoveries = Recoveries(Path(name))
        for number, (kind, way), rng in turns(list(WAYS.items()), count, seed, kinds, itemgetter(0)):
            place = recoveries.folder / "try"
            outcome, wrong = way(recoveries, place, rng)
            wrong += [f"{path.name} is left" for path in place.rglob(".unfinished*")]
            shutil.rmtree(place)
            yield Attempt(kind, number, "wrong" if wrong else outcome, "; ".join(wrong[:5]), fine=not wrong)


def _extends(recoveries: Recoveries, place: Path, rng: np.random.Generator) -> Found:
    """Four of one checkpoint: in four folders, each with the bits of one that was alone."""
    case = BY_NAME["extend"]
    reference = recoveries.reference(case)
    _copy(recoveries, case.name, place)
    lines = [[f"b{at}" if word == "b" else word for word in case.verb] for at in range(4)]
    ended = _together(recoveries, place, lines, rng)
    wrong = _not_well(ended)
    for at in range(4):
        wrong += differences(reference.whole, left_in(place / f"runs/b{at}"), f"b{at}")
    return "four runs, the same", [line for line in wrong if "/run.json/0/name" not in line]


def _prepares(recoveries: Recoveries, place: Path, rng: np.random.Generator) -> Found:
    """Four of one set: one set, as by one that was alone."""
    case = BY_NAME["prepare"]
    reference = recoveries.reference(case)
    _copy(recoveries, case.name, place)
    ended = _together(recoveries, place, [case.verb] * 4, rng)
    return "one set, the same", _not_well(ended) + differences(reference.whole, left_in(place / case.leaves))


def _two_in_a_folder(recoveries: Recoveries, place: Path, rng: np.random.Generator) -> Found:
    """Two that resume one run: one does, the other says that it is in use, or finds it done."""
    case = BY_NAME["pretrain"]
    reference = recoveries.reference(case)
    _copy(recoveries, case.name, place)
    artefacts.stop_after(3, *case.verb, folder=place, data=recoveries.data)
    assert case.resume is not None
    ended = _together(recoveries, place, [case.resume, case.resume], rng)
    wrong = differences(reference.whole, left_in(place / case.leaves))
    codes = sorted(one.code for one in ended)
    if codes[0] != 0 or codes[1] not in (0, 2, 6):
        wrong += [f"exit codes {codes}: {' '.join(one.said[-300:] for one in ended)}"]
    if codes[1] == 6 and not any("another run is using this folder" in one.said for one in ended):
        wrong += ["it is not said that the folder is in use"]
    return f"one runs, the other ends with {codes[1]}", wrong


def _swept_while_training(recoveries: Recoveries, place: Path, rng: np.random.Generator) -> Found:
    """One trains; others begin beside it, which sweeps leftovers, and one would overwrite its folder."""
    case = BY_NAME["pretrain"]
    reference = recoveries.reference(case)
    _copy(recoveries, case.name, place)
    overwrite = (*case.verb, "--overwrite")
    beside = [("pretrain", "tiny.yaml", "--name", f"a{at}") for at in range(2)]
    ended = _together(recoveries, place, [case.verb, *beside, overwrite], rng, first=0.3)
    wrong = _not_well(ended[:3]) + differences(reference.whole, left_in(place / case.leaves))
    if ended[3].code not in (0, 6):
        wrong += [f"--overwrite: exit {ended[3].code}: {ended[3].said[-300:]}"]
    return f"none disturbs it, --overwrite ends with {ended[3].code}", wrong


WAYS: dict[str, Callable[[Recoveries, Path, np.random.Generator], Found]] = {
    "four extends of a checkpoint": _extends,
    "four prepares of a set": _prepares,
    "two runs in a folder": _two_in_a_folder,
    "begun and swept beside training": _swept_while_training,
}


def _copy(recoveries: Recoveries, case: str, place: Path) -> None:
    shutil.copytree(recoveries.reference(BY_NAME[case]).begun, place, symlinks=True)


def _together(
    recoveries: Recoveries, place: Path, lines: Sequence[Sequence[str]], rng: np.random.Generator, first: float = 0.0
) -> list[verbs.Ended]:
    """How each ended. Args: first: seconds that the first is alone."""
    environment = artefacts.environment(recoveries.data) | {"MEDCOSS_PREPARED": str(place / "prepared")}
    delays = [0.0, *(first + np.sort(rng.uniform(0, 0.3, len(lines) - 1)))]
    return verbs.run_together(lines, delays, folder=place, environment=environment, seconds=120)


def _not_well(ended: Sequence[verbs.Ended]) -> list[str]:
    return [f"exit {one.code}: {one.said[-300:]}" for one in ended if one.code != 0]


def plant() -> None:
    """The lock of a run's folder is not taken."""
    from types import SimpleNamespace

    from medcoss_cli.store import lock

    lock.fcntl = SimpleNamespace(  # type: ignore[assignment]
        flock=lambda handle, how: None, LOCK_EX=0, LOCK_NB=0
    )
