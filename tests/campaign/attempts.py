"""What one try of any part gives, and the table of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from operator import attrgetter
from typing import TypeVar

import numpy as np

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Attempt:
    """One try: which, and what became of it.

    Args:
        fine: it ended as it should.
    """

    kind: str
    number: int
    outcome: str
    detail: str = ""
    fine: bool = True

    @property
    def failed(self) -> bool:
        """It did not end as it should."""
        return not self.fine


def table(attempts: Sequence[Attempt]) -> list[str]:
    """Lines: tries of each kind, and how they ended."""
    lines = [f"{'kind':<34} {'tries':>6}  outcomes"]
    for kind in dict.fromkeys(attempt.kind for attempt in attempts):
        ends = Counter(attempt.outcome for attempt in attempts if attempt.kind == kind)
        words = ", ".join(f"{outcome} {tries}" for outcome, tries in sorted(ends.items()))
        lines.append(f"{kind:<34} {sum(ends.values()):>6}  {words}")
    return lines


def turns(
    entries: Sequence[Entry],
    tries: int,
    seed: int,
    kinds: Sequence[str] = (),
    name: Callable[[Entry], str] = attrgetter("name"),
) -> Iterator[tuple[int, Entry, np.random.Generator]]:
    """Entries in turn, in an order of this seed, so that a cut meets others each day: number, entry, generator of the number.

    Args:
        kinds: where any is named, entries whose names begin otherwise are passed over; the others keep their numbers.

    Raises: SystemExit where no name begins so.
    """
    order = [entries[at] for at in np.random.default_rng(seed).permutation(len(entries))]
    wanted = [not kinds or name(entry).startswith(tuple(kinds)) for entry in order]
    if not any(wanted):
        raise SystemExit(f"no kind is called {', '.join(kinds)}; there are {', '.join(map(name, entries))}")
    numbers = (number for number in count() if wanted[number % len(order)])
    for number in islice(numbers, tries):
        yield number, order[number % len(order)], np.random.default_rng((seed, number))
