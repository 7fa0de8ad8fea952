"""The console script: verbs that are imported late, errors that end in one sentence and their exit code, signals."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from importlib import import_module

import pytest
import typer

from medcoss_cli import __version__, errors
from medcoss_cli.cli import app
from tests.conftest import Answer, CommandLine

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.MedcossError) and kind is not errors.MedcossError
]
MAIN = "from medcoss_cli.cli.app import main; main()"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, command_line: CommandLine) -> CommandLine:
    """`recipes list` on a medcoss in which the given error occurs."""

    def run(error: BaseException, *arguments: str) -> Answer:
        def fail() -> None:
            raise error

        monkeypatch.setattr("medcoss_cli.recipe.read.shipped_recipes", fail)
        return command_line("recipes", "list", *arguments)

    return run


def test_help_has_a_sentence_for_every_verb(command_line: CommandLine) -> None:
    answer = command_line("--help")
    assert answer.code == 0
    for name, sentence in app.VERBS.items():
        assert f"  {name:10s}  {sentence}\n" in answer.out
        assert import_module(f"medcoss_cli.cli.{name}").app.registered_commands


def test_the_help_of_a_group_has_whole_sentences(command_line: CommandLine) -> None:
    out = command_line("data", "-h").out
    assert "..." not in out.replace("[ARGS]...", "")
    assert "refused and why." in " ".join(out.split())


def test_a_verb_that_cannot_be_imported_is_felt_by_nobody_else(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "medcoss_cli.cli.data", None)  # import now fails
    broken = command_line("data", "check", "scans")
    assert broken.code == 1
    assert "medcoss_cli.cli.data" in broken.err
    assert command_line("--help").code == 0
    assert command_line("recipes", "list").code == 0


@pytest.mark.parametrize("near", app.VERBS)
def test_an_unknown_verb_tells_the_nearest(command_line: CommandLine, near: str) -> None:
    answer = command_line(near[0] + near[2] + near[1] + near[3:])
    assert (answer.code, answer.out) == (2, "")
    assert f"did you mean {near}?" in answer.err


def test_a_verb_like_no_other_tells_none(command_line: CommandLine) -> None:
    answer = command_line("xylophone")
    assert answer.code == 2
    assert answer.err == "error: there is no verb 'xylophone'; medcoss --help lists them\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--nope", "no such option"),
        ("pretrain --nope", "no such option"),
        ("data demo ct", "missing argument 'DIR'"),
        ("data demo ct there --count many", "invalid value for '--count'"),
        ("data check there --modality", "option '--modality' requires an argument"),
        ("doctor too", "got unexpected extra argument"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_sentence(command_line: CommandLine, line: str, said: str) -> None:
    answer = command_line(*line.split())
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith(f"error: {said}")
    assert "--help" in answer.err


def test_an_unknown_verb_of_a_group_tells_the_nearest(command_line: CommandLine) -> None:
    answer = command_line("plugins", "lst")
    assert answer.code == 2
    assert answer.err == "error: there is no verb 'lst'; did you mean list? medcoss plugins --help lists them\n"


@pytest.mark.parametrize("group", [[], ["data"]])
def test_nothing_behind_a_group_shows_its_help(command_line: CommandLine, group: list[str]) -> None:
    answer = command_line(*group)
    assert (answer.code, answer.err) == (2, "")
    assert answer.out == command_line(*group, "--help").out
    assert "Example: medcoss " in answer.out


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_user_is_one_sentence_and_its_code(
    failing: CommandLine, kind: type[errors.MedcossError]
) -> None:
    answer = failing(kind("it is wrong", where="here.yaml:3", fix="do this"))
    assert (answer.code, answer.out, answer.err) == (kind.exit_code, "", "error: here.yaml:3: it is wrong; do this\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            "not enough memory",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "runs/a/ckpt.pt"), "runs/a/ckpt.pt: there is no space left"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "runs: permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "runs"), "runs: permission denied"),
        (OSError(errno.EMFILE, "Too many open files"), "too many files are open"),
    ],
)
def test_what_the_machine_lacks_is_a_resource(failing: CommandLine, error: Exception, said: str) -> None:
    answer = failing(error)
    assert answer.code == errors.ResourceError.exit_code
    assert answer.err.startswith(f"error: {said}" if ":" in said else "error: ")
    assert said in answer.err


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), EOFError("the end")])  # no Ctrl-D
def test_a_fault_of_medcoss_says_so_and_what_to_do(failing: CommandLine, error: Exception) -> None:
    answer = failing(error)
    assert answer.code == 1
    assert answer.err.lstrip() == (
        f"error: internal error ({type(error).__name__}: {error}); "
        "please report this, with the output of the same command and --debug\n"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_an_interruption_is_said(failing: CommandLine, error: BaseException) -> None:
    """A second signal may come where Typer makes of it an error of its own."""
    answer = failing(error)
    assert (answer.code, answer.err) == (130, "error: interrupted\n")


@pytest.mark.parametrize("arguments", [["--debug", "nothing"], ["nothing", "--debug"], ["nothing"]])
def test_debug_shows_the_traceback_wherever_it_stands(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *a: None)
    monkeypatch.setattr(sys, "argv", ["medcoss", *arguments])
    if "--debug" not in arguments:
        monkeypatch.setenv("MEDCOSS_DEBUG", "1")
    with pytest.raises(SystemExit) as done:
        app.main()
    assert done.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].startswith("error: there is no verb 'nothing'")


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "--debug"], ["--version", "doctor"]])
def test_version(command_line: CommandLine, arguments: list[str]) -> None:
    answer = command_line(*arguments)
    assert (answer.code, answer.out) == (0, f"medcoss {__version__}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_any_verb_with_130(number: signal.Signals) -> None:
    program = f"""
import signal, sys, time
from medcoss_cli.recipe import read
def wait():
    print("ready", flush=True)
    time.sleep(60)
read.shipped_recipes = wait
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
sys.argv = ["medcoss", "recipes", "list"]
{MAIN}
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"  # standard output is for answers alone
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "error: interrupted\n")


@pytest.mark.parametrize("arguments", [["recipes", "list"], ["recipes", "schema"], ["--version"]])
def test_that_nobody_reads_on_is_no_fault(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "medcoss_cli", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_output_that_is_closed_is_no_fault() -> None:
    command = f"'{sys.executable}' -m medcoss_cli recipes list >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command], check=False).returncode == 0


def test_a_name_that_is_no_text_can_be_told() -> None:
    command = [os.fsencode(sys.executable), b"-m", b"medcoss_cli", b"recipes", b"show", b"no-\xff\x1b.yaml"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr
