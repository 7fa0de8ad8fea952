"""The console script: verbs, and what becomes of errors and signals. Importing it imports no torch."""

from __future__ import annotations

import difflib
import errno
import os
import signal
import sys
import traceback
from importlib import import_module
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from medcoss_cli import __version__
from medcoss_cli.cli import show
from medcoss_cli.errors import MedcossError, ResourceError, UsageError

VERBS = ("demo", "pretrain", "extend", "data", "plugins", "recipes", "checkpoint", "doctor")
"""Each is `app` in the module of the same name beside this one."""


class Verbs(TyperGroup):
    """Imports a verb's module when it is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            near = difflib.get_close_matches(cmd_name, VERBS, 1, 0.6)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"there is no verb {cmd_name!r}", fix=f"{hint}medcoss --help lists them")
        command = get_command(import_module(f"medcoss_cli.cli.{cmd_name}").app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    help="Teach one encoder many kinds of medical data, one kind after another, without forgetting. Not a medical device.",
)


@app.callback()
def top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Options of every verb."""
    if version:
        show.result(f"medcoss {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; every error ends in one sentence and its exit code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1 or bool(os.environ.get("MEDCOSS_DEBUG"))
    signal.signal(signal.SIGTERM, _terminated)
    if arguments == ["--version"]:  # without a verb the group would print its help
        show.result(f"medcoss {__version__}")
        return
    try:
        app(args=arguments, prog_name="medcoss")
    except MedcossError as error:
        if debug:
            traceback.print_exc()
        show.fault(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        show.fault("interrupted")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the last resort
        if debug:
            traceback.print_exc()
        told = _resources(error)
        if told is not None:
            show.fault(str(told))
            sys.exit(told.exit_code)
        name = type(error).__name__
        show.fault(f"a fault of medcoss itself ({name}: {error}); run it again with --debug and report what it prints")
        sys.exit(1)


def _resources(error: Exception) -> ResourceError | None:
    """Errors of the machine, not of medcoss."""
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return ResourceError("there is not enough memory", fix="lower train.batch, or raise train.accumulate")
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError("there is no space left", where=getattr(error, "filename", None), fix="make room")
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError(
            "permission denied", where=getattr(error, "filename", None), fix="check who may read and write"
        )
    return None


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
