"""Cells in processes of their own, several at once: one that fails, is killed or lacks memory stops no other."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from medcoss_cli.comparing import outcomes
from medcoss_cli.comparing.cells import Cell, Plan
from medcoss_cli.comparing.outcomes import Place
from medcoss_cli.console import Bar, Screen, aligned
from medcoss_cli.data.workers import forkserver
from medcoss_cli.errors import Interrupted, MedcossError
from medcoss_cli.training.interruption import Interruption

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

PRELOAD = "medcoss_cli.comparing.work"
OFTEN = 0.5
"""Seconds between two reports of a cell on how far it is."""


@dataclass
class _Running:
    key: str
    process: BaseProcess
    reports: Connection
    slot: int
    now: str = ""


def carry_out(
    plan: Plan, wanted: Mapping[str, Cell], titles: Mapping[str, str], place: Place, jobs: int, screen: Screen
) -> dict[str, str]:
    """Make the wanted cells that are not done, each behind those that it needs.

    Args:
        titles: of the cells, for people.
        jobs: cells at once; on a machine with GPUs they take turns on them.

    Returns: why cells failed, by key; a cell that needs a failed one is among them.
    Raises: Interrupted after Ctrl-C or SIGTERM, when the running cells have saved what they did.
    """
    done = {key for key in plan.cells if outcomes.done(place, key)}
    waiting = [key for key in wanted if key not in done]
    failed: dict[str, str] = {}
    running: list[_Running] = []
    with (
        Interruption(screen.say) as interruption,
        screen.progress("cells", len(wanted), len(wanted) - len(waiting)) as bar,
        _ended(running),
    ):
        while waiting or running:
            lost = {key for key in plan.cells if key not in done and key not in waiting} - {
                item.key for item in running
            }
            for key in [key for key in waiting if any(need in lost for need in wanted[key].needs)]:
                failed[key] = "what it needs is not there"
                waiting.remove(key)
                bar.advance()
            ready = [key for key in waiting if all(need in done for need in wanted[key].needs)]
            free = sorted(set(range(jobs)) - {item.slot for item in running})
            for key, slot in zip(ready, free, strict=False):
                waiting.remove(key)
                running.append(_begin(key, plan, place, slot, jobs))
            _listen(running)
            for item in [item for item in running if item.process.exitcode is not None]:
                running.remove(item)
                item.reports.close()
                if interruption.requested and not outcomes.done(place, item.key):
                    continue  # it was asked to stop, too
                reason = _reason(item, place)
                if reason is None:
                    done.add(item.key)
                else:
                    failed[item.key] = reason
                    screen.warn(f"{titles[item.key]} failed: {reason}")
                bar.advance()
            bar.advance(0, now="; ".join(f"{titles[item.key]} {item.now}".strip() for item in running))
            if interruption.requested:
                raise Interrupted("the comparison was stopped, everything is saved", fix="the same command goes on")
    return failed


def _begin(key: str, plan: Plan, place: Place, slot: int, jobs: int) -> _Running:
    cell = plan.cells[key]
    needed = {key: cell, **{need: plan.cells[need] for need in cell.needs}}
    ours, theirs = forkserver(PRELOAD).Pipe()
    outcomes.log(place, key).parent.mkdir(parents=True, exist_ok=True)
    place.outcome(key).unlink(missing_ok=True)  # an earlier failure's reason is not this one's
    threads = max(1, (os.cpu_count() or 1) // jobs)
    process: ForkServerProcess = forkserver(PRELOAD).Process(
        target=_main, args=(cell, Plan(needed), place, slot, threads, theirs)
    )
    process.start()
    theirs.close()
    return _Running(key, process, ours, slot)


def _listen(running: Sequence[_Running]) -> None:
    """Wait until a cell says something or ends, a second at most."""
    sentinels = [item.process.sentinel for item in running]
    for ready in wait([*sentinels, *(item.reports for item in running)], timeout=1.0):
        for item in running:
            if item.reports is ready:
                try:
                    item.now = item.reports.recv()
                except (EOFError, OSError):
                    item.process.join(5)


def _reason(item: _Running, place: Place) -> str | None:
    """Why a cell that has ended is not done; None where it is."""
    code = item.process.exitcode
    outcome = outcomes.read(place, item.key)
    if outcome is not None and outcome["status"] == "done":
        return None
    if code in (Interrupted.exit_code, -signal.SIGTERM):
        return "somebody stopped its process; it can be gone on with"
    if outcome is not None and outcome["status"] == "failed":
        return str(outcome["error"])
    reason = f"its process was ended by signal {-(code or 0)}, possibly for want of memory"
    reason = reason if code is not None and code < 0 else f"its process ended with code {code}"
    outcomes.write(place, item.key, {"status": "failed", "error": reason})
    return reason


@contextmanager
def _ended(running: Sequence[_Running]) -> Iterator[None]:
    """Whatever happens, no cell goes on behind this: each is asked to save and stop, and then waited for."""
    try:
        yield
    finally:
        for item in running:
            item.process.terminate()
        for item in running:
            item.process.join()


def _main(cell: Cell, plan: Plan, place: Place, slot: int, threads: int, reports: Connection) -> None:
    """A cell's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent passes it on
    _end_with_parent(reports)
    import torch

    torch.set_num_threads(threads)
    with outcomes.log(place, cell.key).open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.exit(_done(cell, plan, place, slot, reports))


def _done(cell: Cell, plan: Plan, place: Place, slot: int, reports: Connection) -> int:
    """Make a cell; the exit code. What fails is written down."""
    from medcoss_cli.comparing.work import do

    _choose_gpu(slot)
    try:
        do(cell, plan, place, _Reports(reports))
    except Interrupted as error:
        _log(str(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - whatever it is, it is written down as this cell's fault
        traceback.print_exc()
        if isinstance(error, MedcossError):
            reason = str(error)
        elif isinstance(error, MemoryError) or "memory" in str(error):
            reason = "there is not enough memory"
        else:
            reason = f"internal error ({type(error).__name__}: {error})"
        outcomes.write(place, cell.key, {"status": "failed", "error": reason})
        return error.exit_code if isinstance(error, MedcossError) else 1
    return 0


def _log(text: str) -> None:
    """Standard output is the cell's log here."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _choose_gpu(slot: int) -> None:
    """Give this process one GPU of several; before torch has looked at any."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None and "," not in given:
        return
    names = given.split(",") if given else [str(i) for i in range(_gpus())]
    if len(names) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]


def _gpus() -> int:
    """How many GPUs there are, by NVML, which leaves torch as it is."""
    import torch

    return max(0, int(torch.cuda._device_count_nvml()))


def _end_with_parent(reports: Connection) -> None:
    """A thread that ends this process when the parent is gone: nobody would know of it any more."""

    def watch() -> None:
        try:
            reports.recv()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Reports(Screen):
    """Lines go to the cell's log, progress to the parent."""

    def __init__(self, reports: Connection) -> None:
        self.reports = reports

    def say(self, text: str) -> None:
        _log(text)

    def warn(self, text: str) -> None:
        _log(f"note: {text}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        _log("\n".join([title, *aligned(columns, rows)]))

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Bar]:
        yield _Reported(self.reports, title, total, start)


class _Reported(Bar):
    def __init__(self, reports: Connection, title: str, total: int, start: int) -> None:
        self.reports, self.title, self.total, self.done, self.last = reports, title, total, start, 0.0

    def advance(self, steps: int = 1, **facts: Any) -> None:
        self.done += steps
        if time.monotonic() - self.last > OFTEN:
            self.last = time.monotonic()
            try:
                self.reports.send(f"{self.title} {self.done}/{self.total}")
            except OSError:
                os._exit(1)
