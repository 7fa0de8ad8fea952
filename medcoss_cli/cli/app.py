"""The console script: verbs, and what becomes of errors and signals. Importing it imports no torch."""

from __future__ import annotations

import difflib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable
from importlib import import_module
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from medcoss_cli import __version__
from medcoss_cli.cli import terminal
from medcoss_cli.errors import Interrupted, MedcossError, ResourceError, UsageError, blame, shortage

VERBS = {
    "demo": "Run the whole pipeline on synthetic data, in a few minutes.",
    "pretrain": "Teach one encoder several modalities, one after another.",
    "extend": "Teach a trained encoder one more modality without forgetting.",
    "finetune": "Train a head for a labelled task, and test it.",
    "evaluate": "Test a fine-tuned run, also on new data or with a newer encoder.",
    "compare": "Compare ways of pre-training on labelled tasks, over seeds.",
    "predict": "Predict classes, or masks on each scan's own grid.",
    "embed": "Write one feature vector per sample.",
    "export": "Write a verified ONNX file, or weights for timm.",
    "report": "Write one HTML page about a run.",
    "data": "Inspect and prepare data.",
    "plugins": "Plugins that are installed, and new ones.",
    "recipes": "List, show and validate recipes (YAML).",
    "checkpoint": "Show, strip or import checkpoints.",
    "doctor": "Show what is installed and what would be slow.",
}
"""Each is `app` in the module of the same name beside this one; the sentence stands in `medcoss --help`."""


_IMPORT = "<frozen importlib._bootstrap>"  # the file of Python's own frames below an import
_COMMAND_LINE: Any = typer.BadParameter.__mro__[1]  # what Typer raises for a command line it cannot read


class Group(TyperGroup):
    """A verb of several: its help has whole sentences, where Typer's ends after 45 letters."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if not args:
            terminal.result(ctx.get_help())
            ctx.exit(UsageError.exit_code)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        return command or _no_verb(cmd_name, self.commands, ctx.command_path)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, self.sentence(name)) for name in self.list_commands(ctx)])

    def sentence(self, name: str) -> str:
        """The first line of a verb's help."""
        return (self.commands[name].help or "").partition("\n")[0]


class Verbs(Group):
    """Imports a verb's module when it is needed, so that a slow or broken one is felt by nobody else."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def sentence(self, name: str) -> str:
        return VERBS[name]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            _no_verb(cmd_name, VERBS, "medcoss")
        verb: typer.Typer = import_module(f"medcoss_cli.cli.{cmd_name}").app
        verb.rich_markup_mode = None  # plain help takes a third of the time, and has room for its sentences
        verb.info.cls = Group
        command = get_command(verb)
        command.name = cmd_name
        _answering(command)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # before Typer turns it into an exit without a word
            raise Interrupted("interrupted") from None


def _answering(command: Any) -> None:
    """Let a verb, and those below it, have standard output to themselves while they work."""
    for inner in getattr(command, "commands", {}).values():
        _answering(inner)
    if command.callback is not None:
        command.callback = terminal.answering(command.callback)


def _no_verb(name: str, commands: Iterable[str], group: str) -> NoReturn:
    verbs = list(commands)
    swapped = [verb for verb in verbs if sorted(verb) == sorted(name)]  # letters in another order come first
    candidates = swapped or difflib.get_close_matches(name, verbs, 1, 0.6)
    hint = f"did you mean {candidates[0]}? " if candidates else ""
    raise UsageError(f"there is no verb {name!r}", fix=f"{hint}{group} --help lists them")


app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Teach one encoder many kinds of medical data, one kind after another, without forgetting. Not a medical device."
    "\n\nExample: medcoss demo",
)


def _version(version: bool) -> None:
    if version:
        terminal.result(f"medcoss {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Options of every verb; `main` removes --debug before they are parsed."""


def main() -> None:
    """Run the command line; every error ends in one sentence and its exit code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1 or bool(os.environ.get("MEDCOSS_DEBUG"))
    try:
        _on_signals(_interrupt)
        try:
            terminal.begin()
            code = app(args=arguments, prog_name="medcoss", standalone_mode=False)
        finally:
            _on_signals(signal.SIG_IGN)  # nothing is left to interrupt but what is said last and Python's own end
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and _of_a_plugin(error) is None:
            raise
        if debug:
            traceback.print_exc()
        fault = _user_error(error)
        terminal.fault(str(fault))
        sys.exit(fault.exit_code)
    finally:
        terminal.end()
    sys.exit(code or 0)


def _of_a_plugin(error: BaseException) -> MedcossError | None:
    """The error as a fault of the plugin that it came from, if any."""
    from medcoss_cli.registry.discovery import owners

    return blame(error, owners())


def _user_error(error: BaseException) -> MedcossError:
    """The error as the user sees it."""
    if isinstance(error, typer.Abort) and isinstance(error.__cause__, EOFError):
        error = error.__cause__  # Typer takes the end of any file for the user's Ctrl-D
    if isinstance(error, MedcossError):
        return error
    if isinstance(error, KeyboardInterrupt | typer.Abort):  # the latter where a second signal meets Typer's own code
        return Interrupted("interrupted")
    if isinstance(error, _COMMAND_LINE):
        return _misread(error)
    name = type(error).__name__
    return (
        _resources(error)
        or _of_a_name(error)
        or _of_a_plugin(error)
        or MedcossError(
            f"internal error ({name}: {error})",
            fix="please report this, with the output of the same command and --debug",
        )
    )


def _misread(error: Any) -> UsageError:
    """What Typer says of a command line, in one sentence like any other."""
    what, _, hint = error.format_message().removesuffix(".").partition(". ")
    where = f"{error.ctx.command_path} --help lists" if error.ctx else "--help behind the verb lists"
    return UsageError(_lower(what), fix=f"{_lower(hint)} {where} what it takes".strip())


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _resources(error: BaseException) -> ResourceError | None:
    """Errors of the machine, not of medcoss."""
    code, where = getattr(error, "errno", None), getattr(error, "filename", None)
    if code in (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV):
        return ResourceError(
            f"the file system refuses it ({os.strerror(code)})",
            where=where,
            fix="check the disk, or the connection to it",
        )
    no_memory = any(words in str(error) for words in ("out of memory", "can't allocate memory"))  # torch: GPU, CPU
    if isinstance(error, MemoryError) or code == errno.ENOMEM or no_memory:
        return ResourceError("there is not enough memory", fix="lower train.batch, or raise train.accumulate")
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError("permission denied", where=where, fix="check who may read and write")
    return shortage(error, where)


def _of_a_name(error: BaseException) -> UsageError | None:
    """Names that no file can have."""
    code, where = getattr(error, "errno", None), str(getattr(error, "filename", None) or "")
    if code in (errno.ENAMETOOLONG, errno.ELOOP):
        where = where if len(where) < 100 else f"{where[:60]}… ({len(where)} letters)"
        return UsageError(f"no file can have this name ({os.strerror(code)})", where=where, fix="check the name")
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return UsageError(
            "a name of a file holds a NUL character", fix="check the names in the recipe and on the command line"
        )
    return None


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End here, or as soon as an import at hand is over: torch aborts where an exception meets its half-made module."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            timer = threading.Timer(0.05, signal.raise_signal, (number,))
            timer.daemon = True
            timer.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt
