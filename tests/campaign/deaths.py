"""Worker processes die while training goes on: a sentence within seconds, no process is left, and it resumes to the same bits."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np

from tests.campaign import faults, points
from tests.campaign.attempts import Attempt, turns
from tests.campaign.recovery import Case, Recoveries
from tests.pretraining_runs import write_demo

SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGBUS)
VICTIMS = ("worker", "server")
LONGER = "train.epochs=8"
"""So many steps that the workers have not read all when the first are done."""
PREPARE = ("data", "prepare", "data/more/xray", "--modality", "xray", "--workers", "2")
CASES = (
    *(
        replace(case, name=case.name.partition(",")[0], verb=(*case.verb, LONGER))
        for case in points.variants()
        if case.name in ("2d, 2 workers, 1 rank", "3d, 2 workers, 1 rank")
    ),
    Case("prepare", (), PREPARE, "prepared"),
)
SECONDS = 15.0


def run(count: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[Attempt]:
    """A worker, or the server that workers are forked from, gets a signal at a step, or a time, that is drawn."""
    with tempfile.TemporaryDirectory() as name:
        recoveries = Recoveries(Path(name))
        write_demo(recoveries.data / "more", xray=400)  # enough for processes that read
        for number, case, rng in turns(CASES, count, seed, kinds):
            yield _strike(recoveries, case, number, rng)


def _strike(recoveries: Recoveries, case: Case, number: int, rng: np.random.Generator) -> Attempt:
    reference = recoveries.reference(case)
    victim, how = VICTIMS[int(rng.integers(len(VICTIMS)))], SIGNALS[int(rng.integers(len(SIGNALS)))]
    struck = recoveries.folder / ".struck"
    struck.unlink(missing_ok=True)
    strike = partial(_signal, victim, how, struck)
    at = int(rng.integers(1, reference.saves // 2)) if reference.saves else float(rng.uniform(0, 0.2))

    def disturb(place: Path) -> None:
        if reference.saves:
            faults.at_save(int(at), strike)
        else:
            Thread(target=_strike_readers, args=(at, strike), daemon=True).start()

    when = f"at step {at}" if reference.saves else f"{at:.3f} s after they began"
    words = f"{victim} ended by {how.name} {when}"
    attempt = recoveries.attempt(case, number, disturb, words, codes=(0, 6), within=(struck, SECONDS))
    left = [entry for entry in struck.read_text().split() if _lives(int(entry))] if struck.exists() else []
    if attempt.fine and left:
        return Attempt(case.name, number, "processes are left", words, fine=False)
    return attempt


def _strike_readers(delay: float, strike: Callable[[str], None]) -> None:
    while not any(_children(server) for server in _servers()):
        time.sleep(0.002)
    time.sleep(delay)
    strike("")


def _servers() -> list[int]:
    return [child for child in _children(os.getpid()) if b"forkserver" in _command(child)]


def _signal(victim: str, how: signal.Signals, struck: Path, name: str) -> None:
    """Send it, and write down which processes there were."""
    servers = _servers()
    workers = [child for server in servers for child in _children(server)]
    struck.write_text(" ".join(map(str, servers + workers)))
    for process in (workers if victim == "worker" else servers)[:1]:
        os.kill(process, how)


def _children(process: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{process}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def _command(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()


def _lives(process: int) -> bool:
    """Seconds are given to it to end."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True


def plant() -> None:
    """The end of a process that reads is no error of medcoss' own."""
    from medcoss_cli.data import batches

    batches._delivered = lambda loader, plan: iter(loader)
