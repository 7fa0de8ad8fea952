"""The only place that prints: results to standard output, all else to standard error."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from functools import wraps
from typing import Any, TextIO

from medcoss_cli.console import Bar, Screen, aligned, clock

PAUSE, LONGEST = 5.0, 600.0  # seconds between two plain lines of progress: 2 % of the time passed, within these
WIDE = 110  # columns of a terminal that has room for a bar beside the facts
RED, RESET = "\033[31m", "\033[0m"
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}
CONTROLS |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""A file's name may hold what would move the cursor, ring the bell or turn a line around; line feed and tab are left."""


_answers: list[TextIO] = []  # the stream of answers, while standard output is theirs alone


def answering(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The same verb, with standard output for its answers alone.

    What other code prints meanwhile goes to standard error: plugins, in this process and in its workers, and libraries in C.
    """

    @wraps(verb)
    def alone(*arguments: Any, **keywords: Any) -> Any:
        with ExitStack() as open_:
            out = sys.stdout
            with suppress(
                OSError, ValueError, AttributeError
            ):  # no descriptor: a test's, a notebook's, or it is closed
                if (number := out.fileno()) == 1:
                    out.flush()
                    copy = os.dup(number)
                    out = open_.enter_context(open(copy, "w", encoding=out.encoding, errors="backslashreplace"))  # noqa: PTH123 - no path
                    duplicate = os.dup(number)
                    open_.callback(os.close, duplicate)
                    open_.callback(os.dup2, duplicate, number)
                    os.dup2(sys.stderr.fileno(), number)
            _answers.append(out)
            open_.callback(_answers.pop)
            open_.enter_context(redirect_stdout(sys.stderr))
            return verb(*arguments, **keywords)

    return alone


def begin() -> None:
    """Make standard output take every file name, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def end() -> None:
    """Write what is still waiting, so that Python finds nothing to complain of when it ends."""
    for stream in ("stdout", "stderr"):
        _print("", stream, end="")


def screen(as_json: bool = False) -> Screen:
    """Where a verb speaks: a live display on a terminal, else plain lines.

    Args:
        as_json: standard output is for JSON alone, so tables go to standard error.
    """
    tables = "stderr" if as_json else "stdout"
    return Terminal(tables) if _terminal("stderr") else Plain(tables)


def result(text: str) -> None:
    """The answer for a person."""
    _print(text.translate(CONTROLS), "stdout")


def result_json(value: Any) -> None:
    """The answer for a program."""
    _print(json.dumps(value, indent=2, default=str), "stdout")


def fault(text: str) -> None:
    """What went wrong, in one sentence."""
    colour = _terminal("stderr") and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    _print((f"{RED}error:{RESET} " if colour else "error: ") + text.translate(CONTROLS), "stderr")


def _file(stream: str) -> Any:
    return _answers[-1] if stream == "stdout" and _answers else getattr(sys, stream)


def _terminal(stream: str) -> bool:
    file = _file(stream)
    return file is not None and file.isatty()


def _print(text: str, stream: str, end: str = "\n") -> None:
    """To sys.stdout or sys.stderr. That its reader has left (`| head`) does not end the work: the rest goes nowhere."""
    file = _file(stream)
    try:
        print(text, file=file, end=end, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


class Plain(Screen):
    """One line after the other, for logs and pipes."""

    def __init__(self, tables: str = "stdout") -> None:
        self.tables = tables

    def say(self, text: str) -> None:
        _print(text.translate(CONTROLS), "stderr")

    def warn(self, text: str) -> None:
        self.say(f"note: {text}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        _table(title, columns, rows, self.tables)

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Bar]:
        bar = _Lines(title, total, start)
        yield bar
        if bar.printed != bar.done or bar.done == start:
            bar.print_line()


class _Lines(Bar):
    def __init__(self, title: str, total: int, start: int) -> None:
        self.title, self.total, self.start, self.done = title, total, start, start
        self.began = self.printed_at = time.monotonic()
        self.printed = start  # what the last line said was done
        self.facts: dict[str, str] = {}

    def advance(self, steps: int = 1, **facts: str) -> None:
        self.done += steps
        self.total = max(self.total, self.done)  # more was found than counted
        self.facts = facts
        now = time.monotonic()
        if now - self.printed_at >= min(max(PAUSE, (now - self.began) / 50), LONGEST):
            self.print_line()

    def print_line(self) -> None:
        self.printed_at, self.printed = time.monotonic(), self.done
        rate = (self.done - self.start) / max(1e-9, self.printed_at - self.began)
        remaining = "" if self.done >= self.total or rate == 0 else f"{clock((self.total - self.done) / rate)} left"
        share = f"{100 * self.done / max(1, self.total):.0f} %"
        shown = (f"{name} {value}" for name, value in self.facts.items())
        parts = (self.title, f"{self.done}/{self.total}", share, *shown, _rate(rate), remaining)
        _print("  ".join(part for part in parts if part), "stderr")


class Terminal(Screen):
    """A live bar with rate and time left; lines that are said meanwhile appear above it."""

    def __init__(self, tables: str = "stdout") -> None:
        from rich.console import Console

        self.tables = tables
        self.console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        self.console.print(text.translate(CONTROLS), markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        self.console.print(f"note: {text.translate(CONTROLS)}", style="yellow", markup=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        _table(title, columns, rows, self.tables)

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Bar]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        has_room = self.console.width >= WIDE  # else there is no room for the bar; the facts alone may take two lines
        columns = (
            TextColumn("{task.description}", markup=False),
            *([BarColumn(bar_width=24)] if has_room else []),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", markup=False, table_column=Column(no_wrap=False)),
            *([TextColumn("{task.fields[rate]}")] if has_room else []),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[time]}"),
        )
        with Progress(*columns, console=self.console) as display:
            yield _Live(display, title, total, start)


class _Live(Bar):
    def __init__(self, display: Any, title: str, total: int, start: int) -> None:
        self.display, self.start, self.began, self.done = display, start, time.monotonic(), start
        self.task = display.add_task(title, total=total, completed=start, facts="", rate="", time="left")
        self.total = total

    def advance(self, steps: int = 1, **facts: str) -> None:
        self.done += steps
        passed = time.monotonic() - self.began
        rate = _rate((self.done - self.start) / passed) if passed > 1 else ""  # the first steps tell nothing
        shown = "  ".join(f"{name} {value}" for name, value in facts.items())
        words = "left" if self.done < self.total else "in all"
        self.total = max(self.total, self.done)  # more was found than counted
        self.display.update(self.task, total=self.total, advance=steps, facts=shown, rate=rate, time=words)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], stream: str) -> None:
    """Drawn on a terminal; elsewhere aligned columns of full width, whatever the screen is."""
    cells = [[cell.translate(CONTROLS) for cell in row] for row in (columns, *rows)]
    if not _terminal(stream):
        _print("\n".join([*([title] if title else []), *aligned(cells[0], cells[1:])]), stream)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=_file(stream), highlight=False)
    if title:  # a table's own title would be wrapped to the table's width
        console.print(Text(title, style="bold"))
    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(cells[0]):
        numbers = i > 0 and all(not row[i] or row[i][0] in "-0123456789" for row in cells[1:])
        table.add_column(Text(column), justify="right" if numbers else "left", overflow="fold")
    for row in cells[1:]:
        table.add_row(*map(Text, row))
    console.print(table)


def _rate(per_second: float) -> str:
    return f"{per_second:.1f}/s" if per_second >= 1 or per_second == 0 else f"{1 / per_second:.1f} s each"


def number(value: float | None) -> str:
    """Three decimals, or a dash for what is not known."""
    return "–" if value is None or value != value else f"{value:.3f}"


def spread(mean: float | None, sd: float | None) -> str:
    """Mean ± standard deviation."""
    return number(mean) if mean is None or sd is None else f"{number(mean)} ± {number(sd)}"


def interval(test: Mapping[str, Any], metric: str) -> str:
    """A metric of one test, and its 95 % interval."""
    low, high = test.get("intervals", {}).get(metric) or (None, None)
    text = number(test["metrics"].get(metric))
    return text if low is None or low != low else f"{text} [{number(low)}, {number(high)}]"
