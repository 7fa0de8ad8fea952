"""Ctrl-C and SIGTERM while work goes on: the step at hand is finished, all is saved, and the run can be resumed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interruption:
    """Inside `with`, the first SIGINT or SIGTERM sets `requested`; a second one takes its usual effect.

    Args:
        say: tells the user what happens.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.requested = False
        self._say = say
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        for number in map(int, (signal.SIGINT, signal.SIGTERM)):
            try:
                self._before[number] = signal.signal(number, self._stop)
            except ValueError:  # not in the main thread (a notebook's worker): the caller handles signals
                break
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, self._before[number])
        self._say("stopping after this step; press Ctrl-C again to stop at once")
