"""The only place that prints: results to standard output, all else to standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from medcoss_cli.screen import Bar, Screen

PAUSE = 5.0  # seconds between two plain lines of progress


def screen(as_json: bool = False) -> Screen:
    """Where a verb speaks: a live display on a terminal, else plain lines.

    Args:
        as_json: standard output is for JSON alone, so tables go to standard error.
    """
    return Terminal(as_json) if sys.stderr.isatty() else Plain(as_json)


def result(text: str) -> None:
    """The answer a user asked for."""
    print(text)


def result_json(value: Any) -> None:
    """The answer a program asked for."""
    print(json.dumps(value, indent=2, default=str))


def fault(text: str) -> None:
    """What went wrong, in one sentence."""
    colour = sys.stderr.isatty()
    print(f"\033[31merror:\033[0m {text}" if colour else f"error: {text}", file=sys.stderr)


class Plain(Screen):
    """One line after the other, for logs and pipes."""

    def __init__(self, as_json: bool = False) -> None:
        self.tables = sys.stderr if as_json else sys.stdout

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        print(f"note: {text}", file=sys.stderr, flush=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        lines = [title] if title else []
        for row in (columns, *rows):
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        print("\n".join(lines), file=self.tables, flush=True)

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Bar]:
        bar = _Lines(title, total, start)
        yield bar
        bar.tell()


class _Lines(Bar):
    def __init__(self, title: str, total: int, start: int) -> None:
        self.title, self.total, self.start, self.done = title, total, start, start
        self.began = self.told = time.monotonic()
        self.facts: dict[str, str] = {}

    def advance(self, steps: int = 1, **facts: str) -> None:
        self.done += steps
        self.facts = facts
        if time.monotonic() - self.told >= PAUSE:
            self.tell()

    def tell(self) -> None:
        self.told = time.monotonic()
        rate = (self.done - self.start) / max(1e-9, self.told - self.began)
        left = "" if self.done >= self.total or rate == 0 else f"{_clock((self.total - self.done) / rate)} left"
        share = f"{100 * self.done / max(1, self.total):.0f} %"
        shown = (f"{name} {value}" for name, value in self.facts.items())
        parts = (self.title, f"{self.done}/{self.total}", share, *shown, _rate(rate), left)
        print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)


class Terminal(Screen):
    """A live bar with rate and time left; lines that are said meanwhile appear above it."""

    def __init__(self, as_json: bool = False) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self.tables = Console(stderr=as_json, highlight=False)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        self.console.print(f"note: {text}", style="yellow", markup=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        if title:  # a table's own title would be wrapped to the table's width
            self.tables.print(Text(title, style="bold"))
        table = Table(box=box.SIMPLE_HEAD)
        for i, column in enumerate(columns):
            numbers = i > 0 and all(not row[i] or row[i][0] in "-0123456789" for row in rows)
            table.add_column(Text(column), justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        self.tables.print(table)

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Bar]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        )
        with Progress(*columns, console=self.console) as display:
            yield _Live(display, title, total, start)


class _Live(Bar):
    def __init__(self, display: Any, title: str, total: int, start: int) -> None:
        self.display, self.start, self.began, self.done = display, start, time.monotonic(), start
        self.task = display.add_task(title, total=total, completed=start, facts="", rate="")

    def advance(self, steps: int = 1, **facts: str) -> None:
        self.done += steps
        rate = (self.done - self.start) / max(1e-9, time.monotonic() - self.began)
        shown = "  ".join(f"{name} {value}" for name, value in facts.items())
        self.display.update(self.task, advance=steps, facts=shown, rate=_rate(rate))


def _rate(per_second: float) -> str:
    return f"{per_second:.1f}/s" if per_second >= 1 or per_second == 0 else f"{1 / per_second:.1f} s each"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
