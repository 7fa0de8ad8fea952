"""Input files and folders as records, and the name of each record's results."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.data.read import listed, reason_counts, tell_links
from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.kit.manifest import is_present
from medcoss_cli.kit.sources import holds_samples
from medcoss_cli.plugin import CompleteModality, Record, Skipped

FEW = 10
"""Files that are named one by one."""
DETAILS = ("plain", "ending", "folder", "all folders")
"""What a name has: the place below the input, the file's ending too, the input's folder too, all folders that differ."""


def list_records(
    modality: CompleteModality, inputs: Sequence[Path], screen: Screen
) -> tuple[list[tuple[Path, Record]], list[Skipped]]:
    """(folder, record) of everything found at the inputs, and what cannot be used.

    Raises: UsageError for a path that is not there, DataError where nothing at all can be read.
    """
    records: list[tuple[Path, Record]] = []
    bad: list[Skipped] = []
    left_out: list[Skipped] = []
    keys: set[tuple[Path, object]] = set()
    for path in inputs:
        if not is_present(path):
            raise UsageError("the file or folder does not exist", where=path)
        items = listed(modality, path, "all")
        tell_links(path, (item.source for item in items if isinstance(item, Record)), screen)
        for item in items:
            if isinstance(item, Record):
                key = item.source.absolute(), item.part
                records += [(path, item)] if key not in keys else []  # a folder, and a file in it
                keys.add(key)
            elif item.bad or (path == item.source and not holds_samples(path)):
                bad.append(Skipped(item.source, item.reason, bad=True))
            else:
                left_out.append(item)
    if len(left_out) <= FEW:
        for item in left_out:
            screen.warn(f"left out: {item.source.name}: {item.reason}")
    else:
        screen.warn(f"left out: {reason_counts(item.reason for item in left_out)}")
    if not records:
        unread = [*bad, *(item for item in left_out if item.source in inputs)]
        reason = f", the first reason: {unread[0].reason}" if unread else ""
        raise DataError(f"no readable data for {modality.title}{reason}", where=inputs[0])
    return records, bad


def names_of(records: Sequence[tuple[Path, Record]]) -> list[tuple[Path, Path]]:
    """What the results of each record's recording, and its own, are called below the output folder.

    No two are alike, nor is one what the other's picture is called, in capital letters or small: a recording keeps its file's
    ending, then its input's folder, then all folders, where another would be called the same; a record has its part in its
    name where its recording has several.

    Raises: UsageError where two recordings would still be called the same.
    """
    bases = {record.recording: (base, record) for base, record in records}
    parts = Counter(record.recording for _, record in records)
    common = Path(os.path.commonpath([record.source.absolute().parent for _, record in records] or [Path("/")]))
    detail = dict.fromkeys(bases, 0)
    names: list[tuple[Path, Path]] = []
    for _ in range(len(DETAILS)):
        of = {key: _name(*bases[key], DETAILS[detail[key]], common) for key in bases}
        names = [
            (of[r.recording], of[r.recording] if parts[r.recording] == 1 else _part(of[r.recording], r))
            for _, r in records
        ]
        owners: dict[str, set[tuple[Path, tuple[str | int, ...]]]] = defaultdict(set)
        for (recording, name), (_, record) in zip(names, records, strict=True):
            for text in (recording.as_posix(), name.as_posix(), f"{name.as_posix()}-overlay"):
                owners[text.casefold()].add(record.recording)
        shared = {key for keys in owners.values() if len(keys) > 1 for key in keys}
        if not shared:
            return names
        detail |= {key: min(detail[key] + 1, len(DETAILS) - 1) for key in shared}
    first = sorted(text for text, keys in owners.items() if len(keys) > 1)[0]
    raise UsageError(f"the results of two inputs would be called {first}", fix="give them one at a time")


def _name(base: Path, record: Record, detail: str, common: Path) -> Path:
    """The input's place, without its ending; which series of a folder, or which row of a table.

    Args:
        detail: one of DETAILS.
        common: the folder that all inputs lie in.
    """
    source = record.source if record.source != base else Path(record.source.name)
    place = source.relative_to(base) if source.is_relative_to(base) else source
    if detail == "all folders":
        place = record.source.absolute().relative_to(common)
    if record.source.is_file() and detail == "plain":
        stem = place.name.removesuffix(".gz")
        place = place.with_name(Path(stem).stem if Path(stem).suffix else stem)
    kinds = record.recording[1]
    for kind, value in zip(kinds[::2], kinds[1::2], strict=True):
        if kind == "series":
            place = place / _safe(str(value)) if place.name else Path(_safe(str(value)))
        elif value != "":  # of a file with one array that has no name
            place = place.with_name(f"{place.name}-{_safe(str(value))}")
    folder = base.absolute() if base.is_dir() else base.absolute().parent
    return folder.name / place if detail == "folder" else place


def _part(name: Path, record: Record) -> Path:
    rest = (record.part or ())[len(record.recording[1]) :]
    return name.with_name("-".join((name.name, *(_safe(str(value)) for value in rest))))


def _safe(text: str) -> str:
    return "".join(c if c.isalnum() or c in ".-_" else "_" for c in text)[:80].strip(".") or "series"
