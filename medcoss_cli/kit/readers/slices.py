"""Which slices of one DICOM series are images of one volume: what differs physically is another volume."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers.dicom import DicomHeader, Frame

ALIKE = 1e-2
"""Direction cosines, and shares of a spacing, by which slices of one volume may differ."""
FULL = 0.9
"""Slices whose steps are at least this share of their thickness do not overlap."""
MAX_TURNS = 500
"""Orientations and pixel spacings of one series."""
HALF_A_DAY = 43_200
"""Seconds; no scan is that long."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A frame of a file."""

    header: DicomHeader
    frame: Frame


Along = np.ndarray[tuple[int], np.dtype[np.float64]]
Parts = list[tuple[list[Slice], str]]
"""Slices of each part, and by what they were told apart; "" where they were not."""


def is_alike(a: tuple[float, ...] | None, b: tuple[float, ...] | None, unit: float) -> bool:
    """Equal to a hundredth of the unit, or both absent."""
    if a is None or b is None:
        return a is b
    return all(abs(x - y) <= ALIKE * unit for x, y in zip(a, b, strict=True))


def placed_apart(slices: list[Slice]) -> list[list[Slice]]:
    """Slices by orientation and pixel spacing. Raises DataError for more of these than a series has."""
    groups: list[list[Slice]] = []
    known: dict[object, list[Slice]] = {}
    for item in slices:
        key = item.frame.orientation, item.frame.spacing
        if key not in known:
            known[key] = next((group for group in groups if _is_placed_alike(group[0].frame, item.frame)), [])
            if not known[key]:
                groups.append(known[key])
            if len(groups) > MAX_TURNS:
                raise DataError(f"they have more than {MAX_TURNS} orientations or pixel spacings")
        known[key].append(item)
    return groups


def _is_placed_alike(first: Frame, second: Frame) -> bool:
    unit = max(first.spacing or (1.0,))
    return is_alike(first.orientation, second.orientation, 1.0) and is_alike(first.spacing, second.spacing, unit)


@dataclass(slots=True)
class _Stack:
    """Slices of one or more folders."""

    slices: list[Slice]
    along: Along | None
    """As `_along` gives it."""
    places: set[float]


def by_folders(slices: list[Slice]) -> list[list[Slice]]:
    """Slices of one series by folder; folders that hold different slices of one stack count as one."""
    folders: dict[object, list[Slice]] = {}
    for item in slices:
        folders.setdefault(item.header.path.parent, []).append(item)
    if len(folders) == 1:
        return [slices]
    axis = _axis(slices)
    stacks: list[_Stack] = []
    for part in folders.values():
        # by each stack's own normal, once for all those that have the same
        alongs: dict[object, tuple[Along | None, set[float]]] = {}
        for stack in stacks:
            turn = stack.slices[0].frame.orientation
            if turn not in alongs:
                alongs[turn] = _with_places(_along(part, turn, axis))
            along, places = alongs[turn]
            if along is not None and stack.along is not None and _is_dealt_out(stack, part, along, places):
                stack.slices += part
                stack.along = np.concatenate([stack.along, along])
                stack.places |= places
                break
        else:
            stacks.append(_Stack(list(part), *_with_places(_along(part, part[0].frame.orientation, axis))))
    return [stack.slices for stack in stacks]


def _with_places(along: Along | None) -> tuple[Along | None, set[float]]:
    return along, set() if along is None else {round(float(place), 2) for place in along}


def _is_dealt_out(stack: _Stack, part: list[Slice], along: Along, places: set[float]) -> bool:
    """True where slices of a further folder have other places in one stack."""
    if not stack.places.isdisjoint(places):
        return False
    if not is_alike(stack.slices[0].frame.orientation, part[0].frame.orientation, 1.0):
        return False
    if stack.along is None or min(len(stack.slices), len(part)) < 2:  # one slice is no stack of its own
        return True
    together = np.concatenate([stack.along, along])
    numbers = list(range(len(together)))
    parts = [numbers[: len(stack.slices)], numbers[len(stack.slices) :]]
    return not _is_split([*stack.slices, *part], together, parts, _is_even(together))


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
    along = _along(slices, slices[0].frame.orientation, _axis(slices))
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


def _axis(slices: list[Slice]) -> int:
    """The axis on which positions move most."""
    points = np.array([item.frame.position for item in slices if item.frame.position is not None], dtype=float)
    return int(np.ptp(points, axis=0).argmax()) if len(points) else 0


def _along(slices: list[Slice], turn: tuple[float, ...] | None, axis: int) -> Along | None:
    """mm along the normal of an orientation, or without one along an axis; None without positions."""
    if any(item.frame.position is None for item in slices):
        return None
    points = np.array([item.frame.position for item in slices], dtype=float)
    return np.asarray(points[:, axis] if turn is None else points @ np.cross(turn[:3], turn[3:]))


def _is_even(along: Along) -> bool:
    """True for two or more places of which none is doubled and none is between two others."""
    steps = np.diff(np.sort(along))
    return len(steps) > 0 and bool(steps.min() > max(1e-3, 0.5 * float(np.median(steps))))


def _is_split(slices: list[Slice], along: Along, parts: list[list[int]], is_even: bool) -> bool:
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


def _by_rank(slices: list[Slice], along: Along) -> list[list[int]]:
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


def _by_run(slices: list[Slice], along: Along) -> list[list[int]]:
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
