"""A layer between medcoss and the operating system: at its n-th call of a kind the process is killed, or the call refused."""

from __future__ import annotations

import builtins
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "truncate", "ftruncate", "link", "symlink")
"""Calls that change what lies on a disk; opening a file for writing is another."""


def install(below: Path, at: int, act: Callable[[str], None], names: tuple[str, ...] = (*CHANGES, "open")) -> Path:
    """Call `act` with the name of the `at`-th call (from 1) that concerns a place below a folder, before the call is made.

    Returns: a file with the number of calls so far, of this process and its children.
    """
    counter = below.parent / f".calls-{below.name}"
    counter.write_bytes(b"")
    root = os.path.realpath(below)

    def count(name: str) -> None:
        handle = real_open(counter, os.O_WRONLY | os.O_APPEND)
        os.write(handle, b".")
        reached = os.fstat(handle).st_size
        os.close(handle)
        if reached == at:
            act(name)

    def concerns(place: Any) -> bool:
        if isinstance(place, int):
            try:
                place = Path(f"/proc/self/fd/{place}").readlink()
            except OSError:
                return False
        path = os.path.realpath(os.fsdecode(place))
        return path == root or path.startswith(root + os.sep)

    real_open = os.open
    for name in names:
        if name == "open":
            continue
        real = getattr(os, name)

        def wrapped(place: Any, *more: Any, _real: Any = real, _name: str = name, **options: Any) -> Any:
            if concerns(place):
                count(_name)
            return _real(place, *more, **options)

        setattr(os, name, wrapped)
    if "open" in names:

        def low(place: Any, flags: int, *more: Any, **options: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR) and concerns(place):
                count("open")
            return real_open(place, flags, *more, **options)

        real_high = builtins.open

        def high(file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
            if any(letter in mode for letter in "wax+") and concerns(file):
                count("open")
            return real_high(file, mode, *more, **options)

        os.open = low
        builtins.open = high
        io.open = high
    return counter


def kill(name: str) -> None:
    """End the process as a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(code: int) -> Callable[[str], None]:
    """Let the call fail with this errno."""

    def act(name: str) -> None:
        raise OSError(code, os.strerror(code))

    return act


def calls(counter: Path) -> int:
    """How many calls there were."""
    return counter.stat().st_size
