"""Input files and folders as records, and the name of each record's results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.data.read import listed
from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.plugin import CompleteModality, Record, Skipped


def list_records(
    modality: CompleteModality, inputs: Sequence[Path], screen: Screen
) -> tuple[list[tuple[Path, Record]], list[Skipped]]:
    """(folder, record) of everything found at the inputs, and what cannot be used.

    Raises: UsageError for a path that is not there, DataError where nothing at all can be read.
    """
    records: list[tuple[Path, Record]] = []
    bad: list[Skipped] = []
    keys: set[tuple[Path, object]] = set()
    for path in inputs:
        if not path.exists():
            raise UsageError("the file or folder does not exist", where=path)
        for item in listed(modality, path, "all"):
            if isinstance(item, Record):
                key = item.source.absolute(), item.part
                records += [(path, item)] if key not in keys else []  # a folder, and a file in it
                keys.add(key)
            elif item.bad or path == item.source:
                bad.append(Skipped(item.source, item.reason, bad=True))
            else:
                screen.warn(f"left out: {item.source.name}: {item.reason}")
    if not records:
        reason = f", the first reason: {bad[0].reason}" if bad else ""
        raise DataError(f"no readable data for {modality.title}{reason}", where=inputs[0])
    return records, bad


def names_of(records: Sequence[tuple[Path, Record]]) -> list[tuple[Path, Path]]:
    """What the results of each record's recording, and its own, are called below the output folder.

    No two are alike: a recording keeps its file's ending, then its input's name, where another would be called the same;
    a record has its part in its name where its recording has several.

    Raises: UsageError where two recordings would still be called the same.
    """
    bases = {record.recording: (base, record) for base, record in records}
    names = {key: _name(*item) for key, item in bases.items()}
    for inputs in (False, True):
        repeated = {name for name, count in Counter(names.values()).items() if count > 1}
        names |= {
            key: _name(*bases[key], ending=True, inputs=inputs) for key, name in names.items() if name in repeated
        }
    if twins := sorted(name for name, count in Counter(names.values()).items() if count > 1):
        raise UsageError(f"the results of two inputs would be called {twins[0]}", fix="give them one at a time")
    parts = Counter(record.recording for _, record in records)
    return [(name := names[r.recording], name if parts[r.recording] == 1 else _part(name, r)) for _, r in records]


def _name(base: Path, record: Record, *, ending: bool = False, inputs: bool = False) -> Path:
    """The input's place, without its ending; which series of a folder, or which row of a table."""
    source = record.source if record.source != base else Path(record.source.name)
    place = source.relative_to(base) if source.is_relative_to(base) else source
    if record.source.is_file() and not ending:
        stem = place.name.removesuffix(".gz")
        place = place.with_name(Path(stem).stem if Path(stem).suffix else stem)
    kinds = record.recording[1]
    for kind, value in zip(kinds[::2], kinds[1::2], strict=True):
        if kind == "series":
            place = place / _safe(str(value)) if place.name else Path(_safe(str(value)))
        elif value != "":  # of a file with one array that has no name
            place = place.with_name(f"{place.name}-{_safe(str(value))}")
    folder = base.absolute() if base.is_dir() else base.absolute().parent
    return folder.name / place if inputs else place


def _part(name: Path, record: Record) -> Path:
    rest = (record.part or ())[len(record.recording[1]) :]
    return name.with_name("-".join((name.name, *(_safe(str(value)) for value in rest))))


def _safe(text: str) -> str:
    return "".join(c if c.isalnum() or c in ".-_" else "_" for c in text)[:80].strip(".") or "series"
