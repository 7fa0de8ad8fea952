"""What an entry of the history says: one stage, mostly of one modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SUMS = ("samples", "train", "probes", "groups", "buffer")


def about(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The part of an entry that tells of its modalities.

    Args:
        parts: of each modality "modality", "title", "baseline", "data_hash", and the numbers in `_SUMS`.

    Returns: of one modality, its part; of several, their sums, and under "modalities" the parts by name.
    """
    if len(parts) == 1:
        return parts[0]
    joined = {key: "+".join(str(part[key]) for part in parts) for key in ("modality", "title")}
    sums = {key: sum(part[key] for part in parts) for key in _SUMS}
    return {**joined, **sums, "modalities": {part["modality"]: part for part in parts}}


def parts(entry: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What an entry tells of each of its stage's modalities, by name."""
    several = entry.get("modalities")
    if isinstance(several, Mapping):
        return {str(name): part for name, part in several.items() if isinstance(part, Mapping)}
    return {entry["modality"]: entry}
