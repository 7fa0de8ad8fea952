"""What a kind of task has drawn in a report: numbers and words; `report/` draws them. Nothing of a sample is in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Confusion:
    """Counts of names against the same names: rows are true, columns predicted."""

    title: str
    about: str
    names: Sequence[str]
    counts: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Distribution:
    """For each name the values of every case.

    Args:
        axis: what a value is.
        cases: the seed, and one case's values by name; a value that is missing is left out.
    """

    title: str
    about: str
    axis: str
    names: Sequence[str]
    cases: Sequence[tuple[int, Mapping[str, float]]]


Figure = Confusion | Distribution
