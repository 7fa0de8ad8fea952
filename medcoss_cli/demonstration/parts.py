"""Long work in several parts: which one is running, and the time left for all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from medcoss_cli.console import Bar, Screen, clock

SKIPPED = 0.05
"""A piece that took less than this share of its expected time was done before, and says nothing about the machine."""


class Parts(Screen):
    """A screen whose headings and bars say "part 2 of 4" and the time left for all parts.

    Args:
        expected: part to the seconds of its pieces, as measured on one machine; on another only proportions matter.
    """

    def __init__(self, screen: Screen, expected: Mapping[str, Sequence[float]]) -> None:
        self._screen, self._expected = screen, {part: list(pieces) for part, pieces in expected.items()}
        self._names = list(expected)
        self._ahead = sum(map(sum, self._expected.values()))
        self._took = self._measured = 0.0  # seconds, and what was expected of the same pieces
        self._at, self._now, self._began = 0, 0.0, time.monotonic()

    @contextmanager
    def piece(self, part: str) -> Iterator[None]:
        """The next piece of a part; a part's first one is announced."""
        number = self._names.index(part) + 1
        self._began = time.monotonic()
        if number != self._at:
            self._at = number
            self.say(f"\npart {number} of {len(self._names)}: {part} (about {clock(self.left())} left in all)")
        self._now = self._expected[part].pop(0)
        yield
        took = time.monotonic() - self._began
        self._ahead -= self._now
        if took >= SKIPPED * self._now:
            self._took += took
            self._measured += self._now
        self._now = 0.0

    def left(self) -> float:
        """Seconds to the end of the last part, at the pace of the pieces that are done."""
        pace = self._took / self._measured if self._measured else 1.0
        passed = time.monotonic() - self._began
        return pace * (self._ahead - self._now) + max(0.0, pace * self._now - passed)

    def say(self, text: str) -> None:
        self._screen.say(text)

    def warn(self, text: str) -> None:
        self._screen.warn(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._screen.table(title, columns, rows)

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Bar]:
        with self._screen.progress(f"part {self._at} of {len(self._names)}: {title}", total, start) as bar:
            yield _Bar(bar, self)


class _Bar(Bar):
    def __init__(self, bar: Bar, parts: Parts) -> None:
        self._bar, self._parts = bar, parts

    def advance(self, steps: int = 1, **facts: str) -> None:
        few = {name: value for name, value in facts.items() if name == "loss"}  # the line has room for one more
        self._bar.advance(steps, **few, all=f"{clock(self._parts.left())} left")
