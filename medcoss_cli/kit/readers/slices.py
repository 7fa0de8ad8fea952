"""Which slices of one DICOM series are images of one volume: what differs physically is another volume."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from medcoss_cli.kit.readers.dicom import DicomHeader, Frame

ALIKE = 1e-2
"""Direction cosines, and shares of a spacing, by which slices of one volume may differ."""
FULL = 0.9
"""Slices whose steps are at least this share of their thickness do not overlap."""
HALF_A_DAY = 43_200
"""Seconds; no scan is that long."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A frame of a file."""

    header: DicomHeader
    frame: Frame


Parts = list[tuple[list[Slice], str]]
"""Slices of each part, and by what they were told apart; "" where they were not."""


def is_alike(a: tuple[float, ...] | None, b: tuple[float, ...] | None, unit: float) -> bool:
    """Equal to a hundredth of the unit, or both absent."""
    if a is None or b is None:
        return a is b
    return all(abs(x - y) <= ALIKE * unit for x, y in zip(a, b, strict=True))


def placed_apart(slices: list[Slice]) -> list[list[Slice]]:
    """Slices by orientation and pixel spacing."""
    groups: list[list[Slice]] = []
    for item in slices:
        for group in groups:
            first = group[0].frame
            unit = max(first.spacing or (1.0,))
            if is_alike(first.orientation, item.frame.orientation, 1.0) and is_alike(
                first.spacing, item.frame.spacing, unit
            ):
                group.append(item)
                break
        else:
            groups.append([item])
    return groups


def by_folders(slices: list[Slice]) -> list[list[Slice]]:
    """Slices of one series by folder; folders that hold different slices of one stack count as one."""
    folders: dict[object, list[Slice]] = {}
    for item in slices:
        folders.setdefault(item.header.path.parent, []).append(item)
    groups: list[list[Slice]] = []
    for part in folders.values():
        for group in groups:
            if _is_dealt_out(group, part):
                group += part
                break
        else:
            groups.append(list(part))
    return groups


def _is_dealt_out(group: list[Slice], part: list[Slice]) -> bool:
    """True where slices of two folders have different places in one stack."""
    first, second = group[0].frame, part[0].frame
    together = [*group, *part]
    along = _along(together)
    if along is None or not is_alike(first.orientation, second.orientation, 1.0):
        return False
    numbers = list(range(len(together)))
    parts = [numbers[: len(group)], numbers[len(group) :]]
    places = [{round(float(place), 2) for place in along[numbers]} for numbers in parts]
    return not places[0] & places[1] and not _is_split(together, along, parts, _is_even(along))


def separated(slices: list[Slice]) -> Parts:
    """Slices of one orientation as one part for each volume.

    Images of another kind (b-value, echo, part 3 of ImageType) are always told apart. Acquisitions, time points and settings of
    the scanner are, where their slices lie between or upon each other: a scan may be acquired in pieces. Last come times.
    """
    parts: Parts = []
    for group, difference in _by_contrast(slices):
        for part, further in _by_acquisition(group):
            parts.append((part, " and ".join(filter(None, (difference, further)))))
    return parts


def _by_contrast(slices: list[Slice]) -> Parts:
    groups: dict[object, list[Slice]] = {}
    for item in slices:
        groups.setdefault(item.frame.contrast, []).append(item)
    if len(groups) == 1:
        return [(slices, "")]
    names = [
        name
        for name, _ in slices[0].frame.contrast
        if len({dict(key)[name] for key in groups}) > 1  # type: ignore[call-overload]  # keys are the pairs
    ]
    return [(group, " and ".join(names)) for group in groups.values()]


def _by_acquisition(slices: list[Slice]) -> Parts:
    along = _along(slices)
    if along is None:
        return _by_time_point(slices)
    if len(slices) < 4:
        return [(slices, "")]
    is_even = _is_even(along)
    for name in dict(slices[0].frame.acquisition):
        groups: dict[str, list[int]] = {}
        for n, item in enumerate(slices):
            groups.setdefault(dict(item.frame.acquisition)[name], []).append(n)
        parts = list(groups.values())
        if len(parts) > 1 and _is_split(slices, along, parts, is_even):
            return [(part, name) for group in parts for part, _ in _by_acquisition([slices[n] for n in group])]
    if is_even:
        return [(slices, "")]
    for parts, name in ((_by_rank(slices, along), "time"), (_by_run(slices, along), "time")):
        if len(parts) > 1 and all(_is_even(along[part]) for part in parts):
            return [([slices[n] for n in part], name) for part in parts]
    return [(slices, "")]


def _by_time_point(slices: list[Slice]) -> Parts:
    """Slices without positions: as many of each time point are a volume each."""
    groups: dict[str, list[Slice]] = {}
    for item in slices:
        groups.setdefault(dict(item.frame.acquisition)["time point"], []).append(item)
    counts = {len(group) for group in groups.values()}
    if len(groups) == 1 or len(counts) > 1 or counts == {1}:
        return [(slices, "")]
    return [(group, "time point") for group in groups.values()]


def _along(slices: list[Slice]) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """mm along the normal, or without an orientation along the axis on which positions move; None without positions."""
    if any(item.frame.position is None for item in slices):
        return None
    points = np.array([item.frame.position for item in slices], dtype=float)
    turn = slices[0].frame.orientation
    if turn is None:
        return np.asarray(points[:, int(np.ptp(points, axis=0).argmax())])
    return np.asarray(points @ np.cross(turn[:3], turn[3:]))


def _is_even(along: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
    """True for two or more places of which none is doubled and none is between two others."""
    steps = np.diff(np.sort(along))
    return len(steps) > 0 and bool(steps.min() > max(1e-3, 0.5 * float(np.median(steps))))


def _is_split(
    slices: list[Slice], along: np.ndarray[tuple[int], np.dtype[np.float64]], parts: list[list[int]], is_even: bool
) -> bool:
    """True where parts lie between or upon each other, and each is a volume by itself."""
    ends = sorted((float(along[part].min()), float(along[part].max())) for part in parts)
    overlap = any(low <= end + 1e-3 for (_, end), (low, _) in itertools.pairwise(ends))
    if not overlap or min(map(len, parts)) < 2 or not all(_is_even(along[part]) for part in parts):
        return False
    if not is_even:
        return True
    # together an even stack: one scan whose slices were acquired in turns does not overlap, two scans do
    step = float(np.median(np.diff(np.sort(along))))
    thickness = [item.frame.thickness for item in slices if item.frame.thickness is not None]
    return not thickness or step < FULL * float(np.median(thickness))


def _moments(slices: list[Slice]) -> list[tuple[float, ...]]:
    """The times of slices; a clock without dates that a scan ran over at midnight goes on after it."""
    times = [item.frame.times for item in slices]
    clocks = [item.frame.times[-1] for item in slices if item.frame.is_clock]
    if len(clocks) < len(slices) or max(clocks) - min(clocks) <= HALF_A_DAY:
        return times
    return [(*some, last + 2 * HALF_A_DAY * (last < HALF_A_DAY)) for *some, last in times]


def _by_rank(slices: list[Slice], along: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[list[int]]:
    """As many parts as there are images at every place, by their times there; none where times do not tell."""
    places: dict[float, list[int]] = {}
    for n, place in enumerate(along):
        places.setdefault(round(float(place), 2), []).append(n)
    counts = {len(group) for group in places.values()}
    if len(counts) != 1 or counts == {1}:
        return []
    moments = _moments(slices)
    if any(len({moments[n] for n in group}) < len(group) for group in places.values()):
        return []
    ranked = [sorted(group, key=moments.__getitem__) for group in places.values()]
    return [list(part) for part in zip(*ranked, strict=True)]


def _by_run(slices: list[Slice], along: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[list[int]]:
    """Parts that the scanner went through one after the other; none where times do not tell."""
    if any(not item.frame.times for item in slices):
        return []
    order = sorted(range(len(slices)), key=_moments(slices).__getitem__)
    runs = [[order[0]]]
    for n in order[1:]:
        run = runs[-1]
        if len(run) > 1 and (along[n] - along[run[-1]]) * (along[run[1]] - along[run[0]]) <= 0:
            runs.append([n])
        else:
            run.append(n)
    return runs if min(map(len, runs)) > 1 else []
