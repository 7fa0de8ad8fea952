"""Writing a file so that under its name there is always either the old or the new one, whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from medcoss_cli.errors import ResourceError

PREFIX = ".unfinished-"


def write(path: Path, content: bytes | Callable[[BinaryIO], object], *, needed: int | None = None) -> None:
    """Write bytes, or what `content` writes to a file: temporary file in the same folder, fsync, rename, fsync.

    Args:
        needed: bytes `content` is about to write, for the message if there is no space; known where it is bytes.

    Raises: ResourceError without space or permission; the old file is then as it was.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        temporary, file = _begin(path)
        with file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)  # before the file is closed, for closing lets go of its lock
        _sync(path.parent)
    except (OSError, RuntimeError) as error:
        _drop(temporary)  # before the free space is told
        raise user_error(error, path, len(content) if isinstance(content, bytes) else needed) from error
    finally:
        _drop(temporary)


def user_error(error: Exception, path: Path, needed: int | None = None) -> Exception:
    """What an operating system's refusal means to a user; other errors as they are.

    Args:
        needed: bytes that were to be written to `path`.
    """
    cause = _refusal(error)
    if cause is None:
        return error
    code = cause.errno
    if code in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            "there is no space left to write this",
            where=path,
            fix=f"make room{_room(path, needed)}; the old file is kept",
        )
    if code == errno.EFBIG:
        return ResourceError(
            "this is larger than the file system or the limit of this shell (ulimit -f) allows",
            where=path,
            fix="choose a folder with more space, or raise the limit; the old file is kept",
        )
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError(
            "permission denied when writing", where=path, fix="choose another folder, or change its permissions"
        )
    return ResourceError(
        f"it cannot be written ({os.strerror(code) if code else cause})",
        where=path,
        fix="choose another place; the old file is kept",
    )


def sweep(folder: Path, name: str = "") -> None:
    """Remove what killed processes left unfinished in a folder, of one file or of all; not what is being written now."""
    for leftover in [p for p in folder.iterdir() if p.name.startswith(f"{PREFIX}{_short(name)}")]:
        with contextlib.suppress(OSError):  # held by its writer, gone meanwhile, or not ours to remove
            handle = os.open(leftover, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(handle)


def _begin(path: Path) -> tuple[Path, BinaryIO]:
    """A new temporary file, locked while its writer lives, so that a leftover can be told from work in progress."""
    while True:
        temporary = path.parent / f"{PREFIX}{_short(path.name)}{secrets.token_hex(6)}"
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks: nothing is swept there
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return temporary, os.fdopen(handle, "wb")
        os.close(handle)  # another writer swept it between the two lines above


def _drop(temporary: Path | None) -> None:
    if temporary is not None:
        with contextlib.suppress(OSError):  # the first refusal is the one to tell
            temporary.unlink(missing_ok=True)


def _short(name: str) -> str:
    return f"{name[:100]}-" if name else ""


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refusal(error: BaseException | None) -> OSError | None:
    """The operating system's error behind this one: torch's zip writer hides ENOSPC in a RuntimeError."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _room(path: Path, needed: int | None) -> str:
    parts = [] if needed is None else [f"{_size(needed)} needed"]
    with contextlib.suppress(OSError):
        parts.append(f"{_size(shutil.disk_usage(path.parent).free)} free")
    return f" ({', '.join(parts)})" if parts else ""


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"
