"""A layer between medcoss and the operating system: at its n-th call of a kind the process is killed, or the call refused."""

from __future__ import annotations

import builtins
import fcntl
import io
import mmap
import os
import signal
from collections import Counter
from collections.abc import Callable, Collection
from multiprocessing import util
from pathlib import Path
from typing import Any

CHANGES = ("open", "mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "truncate", "ftruncate", "link", "symlink")
"""Calls that change what lies on a disk; `open` is a file opened for writing."""
OTHERS = ("read", "write", "scandir", "stat", "flock", "mmap", "start")
"""`read` is a file opened for reading, `write` bytes written to a file, `start` another process."""
ALL = (*CHANGES, *OTHERS)


def install(
    below: Path, at: int, act: Callable[[str], None], names: Collection[str] = CHANGES, *, onward: bool = False
) -> Path:
    """Call `act` with the name of the `at`-th call (from 1) that concerns a place below a folder, before the call is made.

    Args:
        onward: and of every later one.

    Returns: a file that holds a byte for each call so far, of this process and its forked children (see `calls`).
    """
    counter = below.parent / f".calls-{below.name}"
    counter.write_bytes(b"")
    root = os.path.realpath(below)
    handle = os.open(counter, os.O_WRONLY | os.O_APPEND)
    fstat = os.fstat

    def count(name: str) -> None:
        os_write(handle, bytes([ALL.index(name)]))
        reached = fstat(handle).st_size
        if reached == at or (onward and reached > at):
            act(name)

    def concerns(place: Any) -> bool:
        if isinstance(place, int):
            try:
                place = Path(f"/proc/self/fd/{place}").readlink()
            except OSError:
                return False
        if not isinstance(place, str | bytes | os.PathLike):
            return False
        path = os.path.abspath(os.fsdecode(place))  # noqa: PTH100 - a link is a place of its own
        return path == root or path.startswith(root + os.sep)

    os_write, real_open, real_high = os.write, os.open, builtins.open

    def wrap(owner: Any, attribute: str, name: str, always: bool = False) -> None:
        real = getattr(owner, attribute)

        def wrapped(place: Any = ".", *more: Any, **options: Any) -> Any:
            if always or concerns(place):
                count(name)
            return real(place, *more, **options)

        setattr(owner, attribute, wrapped)

    for name in set(names) & {*CHANGES, "scandir", "stat"} - {"open"}:
        wrap(os, name, name)
    if "scandir" in names:
        wrap(os, "listdir", "scandir")
    if "flock" in names:
        wrap(fcntl, "flock", "flock")
    if "start" in names:
        wrap(util, "spawnv_passfds", "start", always=True)
    if "mmap" in names:

        class Mapped(mmap.mmap):
            def __new__(cls, fileno: int, *more: Any, **options: Any) -> Any:
                if concerns(fileno):
                    count("mmap")
                return super().__new__(cls, fileno, *more, **options)

        mmap.mmap = Mapped  # type: ignore[misc]

    def low(place: Any, flags: int, *more: Any, **options: Any) -> int:
        name = "open" if flags & (os.O_WRONLY | os.O_RDWR) else "read"
        if name in names and concerns(place):
            count(name)
        return real_open(place, flags, *more, **options)

    class Raw(io.FileIO):
        def write(self, data: Any) -> Any:
            if concerns(self.fileno()):
                count("write")
            return super().write(data)

    def high(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **options: Any) -> Any:
        writes = any(letter in mode for letter in "wax+")
        name = "open" if writes else "read"
        if name in names and concerns(file):
            count(name)
        if "write" not in names or not mode.startswith(("w", "a")) or "+" in mode:
            return real_high(file, mode, buffering, *more, **options)
        options |= dict(zip(("encoding", "errors", "newline"), more, strict=False))
        raw = Raw(file, mode[0])
        return io.BufferedWriter(raw) if "b" in mode else io.TextIOWrapper(io.BufferedWriter(raw), **options)

    os.open = low
    builtins.open = high  # type: ignore[assignment]
    io.open = high  # type: ignore[assignment]
    return counter


def kill(name: str) -> None:
    """End the process as a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(code: int) -> Callable[[str], None]:
    """Let the call fail with this errno."""

    def act(name: str) -> None:
        raise OSError(code, os.strerror(code))

    return act


def calls(counter: Path) -> Counter[str]:
    """How many calls there were of each name."""
    return Counter(ALL[number] for number in counter.read_bytes())


def at_save(saves: int, act: Callable[[str], None]) -> None:
    """Call `act` after a training has saved where it stands so many times."""
    from medcoss_cli.store.progress import Progress

    save, left = Progress.save_resume, [saves]

    def then_act(self: Progress, state: Any) -> None:
        save(self, state)
        left[0] -= 1
        if left[0] == 0 and self.writes:
            act("save")

    Progress.save_resume = then_act  # type: ignore[method-assign]


def each_save(counter: Path) -> None:
    """Add a byte to a file each time that a training has saved where it stands."""
    from medcoss_cli.store.progress import Progress

    save = Progress.save_resume

    def then_count(self: Progress, state: Any) -> None:
        save(self, state)
        if self.writes:
            with counter.open("ab") as file:
                file.write(b".")

    Progress.save_resume = then_count  # type: ignore[method-assign]
