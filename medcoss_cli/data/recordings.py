"""Recordings of several records: which records are parts of one, and the average of their probabilities. No torch in here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medcoss_cli.plugin import Record

Array = np.ndarray[Any, Any]


def parts_of(records: Sequence[Record]) -> list[list[int]]:
    """Places of the records of each recording; recordings in the order of their first record."""
    places: dict[object, list[int]] = {}
    for place, record in enumerate(records):
        places.setdefault(record.recording, []).append(place)
    return list(places.values())


def group_of(record: Record) -> str:
    """Patient or document; a record without one belongs to its recording."""
    return record.group or repr(record.recording)


def averaged(probabilities: Array, parts: Sequence[Sequence[int]]) -> Array:
    """Probabilities (n, c) of records as those of their recordings (recordings, c): the mean over the parts.

    The mean of probabilities, not of their logarithms: one part that is sure, such as a window without signal, cannot
    outvote all others. A recording of one part keeps its values to the bit.
    """
    return np.stack([probabilities[list(places)].mean(0) for places in parts])
