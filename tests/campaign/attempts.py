"""What one try of any part gives, and the table of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
        words = ", ".join(f"{outcome} {count}" for outcome, count in sorted(ends.items()))
        lines.append(f"{kind:<34} {sum(ends.values()):>6}  {words}")
    return lines


def shuffled(entries: Sequence[Entry], seed: int) -> list[Entry]:
    """In an order of this seed, so that a cut meets others each day."""
    return [entries[at] for at in np.random.default_rng(seed).permutation(len(entries))]
