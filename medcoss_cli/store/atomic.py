"""Writing a file so that under its name there is always either the old or the new one, whole."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from medcoss_cli.errors import ResourceError

PREFIX = ".unfinished-"


def write(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write bytes, or what `content` writes to a file: temporary file in the same folder, fsync, rename, fsync.

    Raises: ResourceError without space or permission; the old file is then as it was.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=PREFIX, delete=False) as file:
            temporary = Path(file.name)
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)  # type: ignore[arg-type]  # a NamedTemporaryFile is a BinaryIO
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, RuntimeError) as error:
        raise told(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def told(error: Exception, path: Path) -> Exception:
    """What an operating system's refusal means to a user; other errors as they are."""
    code = getattr(error, "errno", None)
    if code is None and isinstance(error, RuntimeError) and "file write failed" not in str(error):
        return error  # torch's zip writer turns ENOSPC into a RuntimeError
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None):
        return ResourceError(
            "there is no space left to write this", where=path, fix="make room; what was there is kept"
        )
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError("it may not be written", where=path, fix="choose another folder, or change its permission")
    return ResourceError(f"it cannot be written ({os.strerror(code)})", where=path)


def sweep(folder: Path) -> None:
    """Remove what a killed process left unfinished in a folder that is locked by us."""
    for leftover in folder.glob(f"{PREFIX}*"):
        leftover.unlink(missing_ok=True)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
