"""A verb is disturbed, then resumed or typed again: at its end it leaves what an undisturbed one leaves, bit by bit."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medcoss_cli.data.prepared import INDEX, QUARANTINE
from medcoss_cli.store import plain
from tests.campaign import artefacts, faults, verbs
from tests.campaign.attempts import Attempt

Disturb = Callable[[Path], object]
"""Is called in the process of a verb, before the verb, with the folder that it works in."""
TIMES = {"started", "finished", "seconds", "waited", "command", "peak_memory_gib", "step_seconds", "tested", "prepared"}
"""What of a file may differ from run to run."""
SECONDS = 300.0


@dataclass(frozen=True)
class Case:
    """A verb that is disturbed.

    Args:
        needs: verbs that are run before.
        leaves: the folder, in which the verb changes files, that is compared.
        resume: what is typed next where that folder is there; else, and without it, the verb is typed again.
        again: what is added where the verb is typed again.
        ranks: processes that train together.
        stops: the last of `needs` is a training that is killed after so many times of saving; 0: it is not.
    """

    name: str
    needs: Sequence[Sequence[str]]
    verb: Sequence[str]
    leaves: str
    resume: Sequence[str] | None = None
    again: Sequence[str] = ()
    ranks: int = 1
    stops: int = 0


@dataclass(frozen=True)
class Reference:
    """The folder before the verb, what it leaves there, and how often it made each call of `faults.ALL`."""

    begun: Path
    whole: dict[str, Any]
    calls: Counter[str]
    saves: int


class Recoveries:
    """Cases and their references, each made when it is first needed, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, artefacts.make_data(folder / "data")
        self._references: dict[Case, Reference] = {}
        verbs.warm_up()

    def reference(self, case: Case) -> Reference:
        """Raises: RuntimeError where the verb fails undisturbed."""
        if case not in self._references:
            self._references[case] = self._run_undisturbed(case, self.folder / f"reference-{len(self._references)}")
        return self._references[case]

    def attempt(
        self,
        case: Case,
        number: int,
        disturb: Disturb | None,
        how: str,
        *,
        codes: Collection[int],
        watch: Callable[[Path], bool] | None = None,
        within: tuple[Path, float] | None = None,
        removes: bool = True,
        never: Collection[str] = (),
        tells: str | None = None,
    ) -> Attempt:
        """Disturb the verb, go on with it, and compare.

        Args:
            how: the disturbance in words.
            codes: exit codes with which the disturbed verb may end; with 0 it is not gone on with.
            watch: where it says True, the processes are killed.
            within: the disturbed verb ends at most so many seconds after this file was written.
            removes: unfinished files are removed at the end.
            never: words that the disturbed verb must not say.
            tells: words with which a verb says what it goes on without; it may then leave something else.
        """
        reference, place = self.reference(case), self.folder / "try"
        shutil.copytree(reference.begun, place, symlinks=True)
        try:
            first = self._type(case, case.verb, place, disturb, watch)
            attempt = partial(Attempt, case.name, number)
            if first.code not in codes or first.hung or "Traceback (most recent" in first.said:
                return attempt(first.outcome, f"{how}: {first.said[-600:]}", fine=False)
            if said := [word for word in never if word in first.said]:
                return attempt(f"says {said[0]}", f"{how}: {first.said[-600:]}", fine=False)
            if first.code == 0 and tells and tells in first.said.lower():
                return attempt(f"goes on, says {tells}")
            if within and within[0].exists() and (late := time.time() - within[0].stat().st_mtime) > within[1]:
                return attempt(f"ends after {late:.0f} s", f"{how}: {first.said[-600:]}", fine=False)
            if first.code != 0:
                verb, last = self._go_on(case, place)
                how = f"{how} (exit {first.code}), then medcoss {' '.join(verb)}"
                if last.code != 0:
                    return attempt(f"ends with {last.code}", f"{how}: {last.said[-600:]}", fine=False)
            found = differences(reference.whole, left_in(place / case.leaves))
            found += [f"{path.name} is left" for path in place.rglob(".unfinished*") if removes]
            return (
                attempt("differs", f"{how}: {'; '.join(found[:5])}", fine=False)
                if found
                else attempt("undisturbed" if first.code == 0 else "the same")
            )
        finally:
            shutil.rmtree(place)

    def _run_undisturbed(self, case: Case, folder: Path) -> Reference:
        begun, place = folder / "begun", folder / "whole"
        begun.mkdir(parents=True)
        artefacts.write_recipes(begun)
        (begun / "data").symlink_to(self.data)
        for number, verb in enumerate(case.needs, start=1):
            if case.stops and number == len(case.needs):
                artefacts.stop_after(case.stops, *verb, folder=begun, data=self.data)
            else:
                artefacts.must(*verb, folder=begun, data=self.data)
        shutil.copytree(begun, place, symlinks=True)
        saves = place.parent / ".saves"
        saves.touch()

        def before(place: Path) -> None:
            faults.install(place, 0, faults.kill, faults.ALL)
            faults.each_save(saves)

        ended = self._type(case, case.verb, place, before if case.ranks == 1 else partial(_only_saves, saves))
        if ended.code != 0:
            raise RuntimeError(f"{case.name}: {ended.outcome}\n{ended.said}")
        counter = folder / ".calls-whole"
        calls = faults.calls(counter) if counter.exists() else Counter()
        return Reference(begun, left_in(place / case.leaves), calls, saves.stat().st_size)

    def _go_on(self, case: Case, place: Path) -> tuple[Sequence[str], verbs.Ended]:
        verb = case.resume if case.resume is not None and (place / case.leaves).exists() else case.verb
        last = self._type(case, verb, place)
        if last.code == 2 and case.again:
            verb = (*verb, *case.again)
            last = self._type(case, verb, place)
        return verb, last

    def _type(
        self,
        case: Case,
        verb: Sequence[str],
        place: Path,
        disturb: Disturb | None = None,
        watch: Callable[[Path], bool] | None = None,
    ) -> verbs.Ended:
        return verbs.run(
            *verb,
            folder=place,
            environment=artefacts.environment(self.data) | {"MEDCOSS_PREPARED": str(place / "prepared")},
            before=None if disturb is None else partial(disturb, place),
            seconds=SECONDS,
            ranks=case.ranks,
            watch=None if watch is None else partial(watch, place),
        )


def _only_saves(saves: Path, place: Path) -> None:
    faults.each_save(saves)


def left_in(folder: Path) -> dict[str, Any]:
    """All files below a folder, by name, as values that are the same from run to run: without logs and a page with times."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {
        name: _content(folder / name)
        for name in names
        if not name.endswith((".lock", "log.txt", "tables.html"))
        and not name.startswith("logs/")
        and not _tells_why_there_is_no_set(folder / name)
    }


def _tells_why_there_is_no_set(path: Path) -> bool:
    """The table of what could not be read, of a set that was therefore never finished."""
    return path.name == QUARANTINE and path.parents[1].name == "prepared" and not (path.parent / INDEX).exists()


def _content(path: Path) -> Any:
    if path.name == "training-data.json":  # hashes with a salt of their own
        return sorted(json.loads(path.read_text()))
    if path.suffix == ".pt":  # as values first: their names say where two files differ
        return {"values": plain.load(path), "bytes": path.read_bytes()}
    if path.suffix in (".json", ".jsonl"):
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        return [_timeless(json.loads(line)) for line in lines]
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(entry) for key, entry in value.items() if key not in TIMES}
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value


def differences(expected: Any, found: Any, at: str = "") -> list[str]:
    """Where two values differ; tensors bit by bit."""
    if isinstance(expected, dict) and isinstance(found, dict):
        lines = [f"{at}/{key} is missing" for key in expected if key not in found]
        lines += [f"{at}/{key} is left over" for key in found if key not in expected]
        return lines + [
            line for k in expected if k in found for line in differences(expected[k], found[k], f"{at}/{k}")
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            line
            for i, (a, b) in enumerate(zip(expected, found, strict=True))
            for line in differences(a, b, f"{at}/{i}")
        ]
    if isinstance(expected, torch.Tensor) and isinstance(found, torch.Tensor):
        same = expected.shape == found.shape and expected.dtype == found.dtype and torch.equal(expected, found)
        return [] if same else [f"{at} differs"]
    return [] if type(expected) is type(found) and (expected == found or expected != expected) else [f"{at} differs"]
