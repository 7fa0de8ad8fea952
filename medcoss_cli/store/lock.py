"""The lock of a run's folder: held while its process lives, so that kill -9 leaves none behind."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medcoss_cli.errors import ResourceError
from medcoss_cli.store import atomic

_held: set[int] = set()


def _let_go() -> None:
    """In a forked child: a lock that a worker shares would outlive the killed run; O_CLOEXEC only helps on exec."""
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


def hold(folder: Path) -> int:
    """Take the folder's lock for the life of this process and write down whose it is; children do not share it.

    Raises: ResourceError if another process has it, or the folder cannot be written or locked.
    """
    try:
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise atomic.user_error(error, folder) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
    except OSError as error:
        owner = os.pread(handle, 200, 0).decode(errors="replace")
        os.close(handle)
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise ResourceError(
                "the file system has no locks, so two runs could overwrite each other",
                where=folder,
                fix="use a folder on a local disk",
            ) from error
        if not isinstance(error, BlockingIOError):
            raise atomic.user_error(error, folder) from error
        raise ResourceError(
            f"another run is using this folder{f' ({owner})' if owner else ''}",
            where=folder,
            fix="wait for it to end, or choose another --name",
        ) from error
    _held.add(handle)
    return handle


def beside(place: Path) -> tuple[Path, int]:
    """A new folder beside a place, and its lock; what killed processes left of such folders is removed.

    Raises: ResourceError.
    """
    try:
        for leftover in place.parent.glob(f"{atomic.PREFIX}*/"):
            _sweep(leftover)
        while True:
            folder = place.with_name(f"{atomic.PREFIX}{place.name[:100]}-{secrets.token_hex(6)}")
            folder.mkdir()
            try:
                handle = hold(folder)
            except ResourceError as error:
                if isinstance(error.__cause__, FileNotFoundError | BlockingIOError):
                    continue  # another process swept it before it was locked
                raise
            if os.fstat(handle).st_nlink:
                return folder, handle
            release(handle)  # swept as well
    except OSError as error:
        raise atomic.user_error(error, place) from error


def _sweep(folder: Path) -> None:
    """Remove a folder of `beside` whose owner ended."""
    try:
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        with suppress(OSError):  # its owner is about to lock it
            folder.rmdir()
        return
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass  # at work, or a file system without locks
    finally:
        os.close(handle)


@contextmanager
def scratch(place: Path) -> Iterator[Path]:
    """A folder beside a place for what is to be moved there; removed at the end, or by the next one after a kill."""
    folder, handle = beside(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        release(handle)


def release(handle: int) -> None:
    """Let go of a lock; in a forked child, which never had it, nothing happens."""
    if handle in _held:
        _held.discard(handle)
        os.close(handle)
