"""Every error a user can cause: one sentence of what is wrong, where, and what to type next; each kind has its exit code."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Mapping


class MedcossError(Exception):
    """An error that a user can cause; `cli/app.py` prints it in one sentence and exits with `exit_code`.

    Args:
        what: what is wrong, one sentence without a full stop.
        where: file, file:line, record or key; shown to the user only, never written to anything shareable.
        fix: what to type or do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = re.sub(
            r" at 0x[0-9A-Fa-f]+", "", what
        )  # of an object in a library's message, another one in each run
        self.where = None if where is None else str(where)
        self.fix = fix

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}" + (f"; {self.fix}" if self.fix else "")

    def __reduce__(self) -> tuple[object, ...]:  # so that an error crosses from a worker process unharmed
        return (_rebuild, (type(self), self.what, self.where, self.fix))


def _rebuild(kind: type[MedcossError], what: str, where: str | None, fix: str | None) -> MedcossError:
    return kind(what, where=where, fix=fix)


class UsageError(MedcossError):
    """An invalid command line or combination of options."""

    exit_code = 2


class RecipeError(MedcossError):
    """A recipe, or an override of one of its keys, that is not valid."""

    exit_code = 2


class PluginError(MedcossError):
    """A plugin is missing, broken, or written for another plugin API."""

    exit_code = 3


class DataError(MedcossError):
    """A file of the user cannot be used as it is."""

    exit_code = 4


class CheckpointError(MedcossError):
    """A file is not a checkpoint that this medcoss can go on from."""

    exit_code = 5


class ResourceError(MedcossError):
    """Space, permission, memory or a lock stands in the way."""

    exit_code = 6


class NonFiniteError(MedcossError):
    """A loss or a gradient is not finite."""

    exit_code = 7


class ExportError(MedcossError):
    """An exported file differs from its checkpoint by more than the tolerance."""

    exit_code = 8


class RetentionError(MedcossError):
    """An earlier modality is remembered less than `--min-retention`."""

    exit_code = 9


class CellError(MedcossError):
    """Cells of a comparison failed; all others are done."""

    exit_code = 10


class Interrupted(MedcossError):  # noqa: N818 - not a fault: the run was stopped and can be resumed
    """A signal stopped the run after its current step; everything is saved."""

    exit_code = 130


def blame(error: BaseException, owners: Mapping[str, str]) -> PluginError | None:
    """An exception as the fault of the plugin whose code it came through last; None if it came through none.

    Args:
        owners: top-level package of each plugin, and what to call it: {"medcoss_ecg": "ecg (medcoss-ecg 1.0)"}.
    """
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        owner = owners.get(str(frame.f_globals.get("__name__", "")).partition(".")[0])
        if owner is not None:
            text = str(error).partition("\n")[0]
            return PluginError(
                f"the plugin {owner} fails in {frame.f_code.co_qualname} "
                f"({type(error).__name__}{': ' if text else ''}{text})",
                where=f"{frame.f_code.co_filename}:{line}",
                fix="see its traceback with --debug and report it to its author",
            )
    return None


def shortage(error: BaseException, where: object = None) -> ResourceError | None:
    """Want of handles, memory or space, which says nothing of the file that was being read; None for any other error."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError("there is no space left", where=where, fix="make room")
    if code in (errno.EMFILE, errno.ENFILE):
        return ResourceError("too many files are open", where=where, fix="raise the limit with `ulimit -n`")
    if code == errno.ENOMEM:
        return ResourceError("there is not enough memory", where=where, fix="close other programs, and start again")
    return None


_MACHINE = ("EIO", "ESTALE", "ENOMEM", "ENOSPC", "EDQUOT", "EACCES", "EPERM", "EMFILE", "ENFILE")


def is_of_the_machine(error: BaseException) -> bool:
    """Want of memory, handles, space or permission, or a disk that fails: the file that is read may be whole."""
    return isinstance(error, MemoryError) or errno.errorcode.get(getattr(error, "errno", None) or 0) in _MACHINE
