"""Verbs in a process of their own, forked from one that has imported all: a try takes its own time, not Python's."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

_VERBS = ("compare", "embed", "evaluate", "export", "finetune", "predict", "pretrain")
HANG = 120.0
"""Seconds by the clock after which a verb that should take a few is killed; what it may take is measured in those of a core."""
FAULT = 1
"""The exit code of what is no user's error."""


@dataclass(frozen=True)
class Ended:
    """How a verb ended.

    Args:
        code: the exit code; negative is the signal that ended it, -9 also where it took longer than it may.
        said: standard output and error.
        seconds: of a core, its own and of those that it waited for.
        peak: MiB of memory beyond what it began with.
    """

    code: int
    said: str
    seconds: float
    peak: float
    hung: bool = False

    @property
    def is_fault(self) -> bool:
        """Not a result, nor a sentence with its exit code."""
        return self.code == FAULT or self.hung or "Traceback (most recent" in self.said or self.code < 0

    @property
    def outcome(self) -> str:
        """In a word."""
        return "hangs" if self.hung else "traceback" if "Traceback (most recent" in self.said else f"exit {self.code}"


def warm_up() -> None:
    """Import what verbs import, before the first fork."""
    for name in ("matplotlib.figure", "torch._dynamo", *(f"medcoss_cli.{verb}" for verb in _VERBS)):
        import_module(name)
    import torch

    torch.set_num_threads(1)


def run(
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], object] | None = None,
    seconds: float = HANG,
    ranks: int = 1,
    watch: Callable[[], bool] | None = None,
) -> Ended:
    """`medcoss ARGUMENTS` in `folder`.

    Args:
        before: is called in the process, before the verb.
        seconds: after which it is killed, as a hang.
        ranks: processes that train together, as under torchrun: when the first ends otherwise than well, the rest are killed.
        watch: where it says True, all of them are killed, which is no hang.
    """
    said = folder / ".said"
    began = time.monotonic()
    places = [dict[str, str]()] if ranks == 1 else _places(ranks)
    children = [_fork(arguments, folder, {**(environment or {}), **place}, before, said) for place in places]
    return _end(children, said, began, seconds, watch)


def run_together(
    lines: Sequence[Sequence[str]],
    delays: Sequence[float],
    *,
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
) -> list[Ended]:
    """`medcoss LINE` for each line in one folder, at the same time.

    Args:
        delays: seconds after which each begins, ascending.
    """
    began, children = time.monotonic(), []
    for number, (line, delay) in enumerate(zip(lines, delays, strict=True)):
        time.sleep(max(0.0, began + delay - time.monotonic()))
        children.append(_fork(line, folder, environment, None, folder / f".said-{number}"))
    return [_end([child], folder / f".said-{at}", began, seconds) for at, child in enumerate(children)]


def _end(
    children: Sequence[int], said: Path, began: float, seconds: float, watch: Callable[[], bool] | None = None
) -> Ended:
    """Wait for the first of them; where it does not end well the rest are killed."""
    hung = killed = False
    first, most = _own(children[0]), 0
    try:
        while os.waitid(os.P_PID, children[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            hung = hung or time.monotonic() - began > seconds
            if not killed and (hung or (watch is not None and watch())):
                killed = True
                _kill(children)
            most = max(most, _own(children[0]))
            time.sleep(0.005)
    except BaseException:  # the campaign itself ends
        _kill(children)
        raise
    _, status, used = os.wait4(children[0], 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        _kill(children[1:])
    for child in children[1:]:
        os.waitpid(child, 0)
    text = said.read_text(errors="replace") if said.exists() else ""
    said.unlink(missing_ok=True)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = max(0, used.ru_maxrss - base, most - first) / 1024
    return Ended(code, text, used.ru_utime + used.ru_stime, peak, hung)


def _places(ranks: int) -> list[dict[str, str]]:
    """The environment of each rank, as torchrun sets it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**together, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def _kill(children: Sequence[int]) -> None:
    """Each with all that it started."""
    for child in children:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)


def _fork(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    before: Callable[[], object] | None,
    said: Path,
) -> int:
    child = os.fork()
    if child == 0:
        _be(arguments, folder, environment, before, said)
    return child


def _own(process: int) -> int:
    """KiB that a process has for itself: what it has of files, such as libraries, a fork takes up again as it goes."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    held = re.search(r"RssAnon:\s*(\d+)", text)
    return int(held[1]) if held is not None else 0


def _be(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    before: Callable[[], object] | None,
    said: Path,
) -> None:
    code = 120
    try:
        os.setsid()
        os.chdir(folder)
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.environ.update(environment)
        sys.argv = ["medcoss", *arguments]
        sys.modules["__main__"] = ModuleType("__main__")  # else each worker imports the campaign
        from medcoss_cli.cli import app

        if before is not None:
            before()
        app.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
