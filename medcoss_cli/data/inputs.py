"""Files and folders that a user names, as records; and what the results of one are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.plugin import CompleteModality, LeftOut, Record


def list_records(
    modality: CompleteModality, inputs: Sequence[Path], screen: Screen
) -> tuple[list[tuple[Path, Record]], list[LeftOut]]:
    """(folder, record) of all that lies at the inputs, and what cannot be used.

    Raises: UsageError for a path that is not there, DataError where nothing at all can be read.
    """
    records: list[tuple[Path, Record]] = []
    bad: list[LeftOut] = []
    for path in inputs:
        if not path.exists():
            raise UsageError("there is no such file or folder", where=path)
        for item in modality.loader.find(path, "all"):
            if isinstance(item, Record):
                records.append((path, item))
            elif item.bad or path == item.source:
                bad.append(LeftOut(item.source, item.reason, bad=True))
            else:
                screen.warn(f"left out: {item.source.name}: {item.reason}")
    if not records:
        reason = f", the first reason: {bad[0].reason}" if bad else ""
        raise DataError(f"nothing that can be read as {modality.title}{reason}", where=inputs[0])
    return records, bad


def name_of(base: Path, record: Record) -> Path:
    """Where the results of a record go below the output folder: the input's place, without its ending."""
    source = record.source if record.source != base else Path(record.source.name)
    relative = source.relative_to(base) if source.is_relative_to(base) else source
    if record.source.is_file():
        stem = relative.name.removesuffix(".gz")
        relative = relative.with_name(Path(stem).stem if Path(stem).suffix else stem)
    part = record.part or ()
    number = part[1] if part[:1] == ("row",) else part[1] if part[:1] == ("volume",) else None
    if part[:1] == ("series",):
        relative = relative / _safe(str(part[1])) if relative.name else Path(_safe(str(part[1])))
    return relative if number is None else relative.with_name(f"{relative.name}-{number}")


def _safe(text: str) -> str:
    return "".join(c if c.isalnum() or c in ".-_" else "_" for c in text)[:80].strip(".") or "series"
