"""Progress and log output. `cli/terminal.py` draws it; these classes are silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table in plain text, cells below each other."""
    lines = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def drawable(text: str) -> str:
    """As matplotlib can draw it: each byte of a name that is not UTF-8 is a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def clock(seconds: float) -> str:
    """A time in its two largest units: 2h05m, 3m10s, 40s."""
    minutes, remainder = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{remainder:02d}s" if minutes else f"{remainder}s"


class Bar:
    """Progress of one piece of work; this one is silent."""

    def advance(self, steps: int = 1, **facts: str) -> None:
        """Move on by `steps`; `facts` (loss="0.83") are shown beside the bar until the next call replaces them."""


class Screen:
    """Output of a verb; this class is silent (tests, ranks other than 0)."""

    def say(self, text: str) -> None:
        """One line of plain information."""

    def warn(self, text: str) -> None:
        """One line about something that differs from what was requested or expected."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; cells are already text."""

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Bar]:
        """A bar with rate and time left (plain lines when not a terminal)."""
        yield Bar()


class Logged(Screen):
    """Another screen whose lines are also written to a run's log."""

    def __init__(self, screen: Screen, log: Callable[[str], None]) -> None:
        self._screen, self._log = screen, log

    def say(self, text: str) -> None:
        self._log(text)
        self._screen.say(text)

    def warn(self, text: str) -> None:
        self._log(f"note: {text}")
        self._screen.warn(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        for line in (title, *aligned(columns, rows)):
            self._log(line)
        self._screen.table(title, columns, rows)

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Bar]:
        with self._screen.progress(title, total, start) as bar:
            yield bar
