"""Text documents, and the rows of CSV, TSV and JSON Lines files; signals as CSV or NumPy arrays."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import kind_of, plainly
from medcoss_cli.kit.readers.encoding import clean, lines_in, read_text
from medcoss_cli.kit.readers.rows import MAX_LINES, MAX_TABLE, SPREADSHEETS, filled, number_of, read_rows

Array = np.ndarray[Any, Any]

MAX_DOCUMENT = 64 * 2**20
"""Bytes of one .txt file."""
MAX_NUMBERS = 2**26
"""Numbers in one signal: a day of three leads at 250 Hz."""
MAX_LINE = 2**24
"""Letters of one line of JSON, of which each may be an object of a hundred bytes."""
MAX_RAGGED = 0.1
"""A table of which more rows do not match the header is refused as a whole."""

LINES = (".jsonl", ".ndjson")
TABLES = (".csv", ".tsv", *LINES, *SPREADSHEETS)
DOCUMENTS = ("", ".txt", ".text")


@dataclass(frozen=True, slots=True)
class TableRow:
    """One data row of a table, counted from 0 below the header."""

    index: int
    text: str
    group: str | None
    notes: tuple[str, ...] = ()
    """What was repaired in it."""


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity, so that it can be a cache key cheaply
class Table:
    """The rows of one file, and what was wrong in it."""

    rows: tuple[TableRow, ...]
    empty: int
    """Rows without text."""
    broken: tuple[str, ...]
    """One sentence for each row that could not be read."""
    notes: tuple[str, ...]
    count: int
    """Data rows, also empty and broken ones."""

    @property
    def texts(self) -> dict[int, str]:
        """Text by row."""
        return {index: row.text for index, row in _by_index(self).items()}

    def row(self, index: int) -> TableRow | None:
        """One data row; None where it has no text."""
        return _by_index(self).get(index)


@functools.lru_cache(maxsize=4)
def _by_index(table: Table) -> dict[int, TableRow]:
    return {row.index: row for row in table.rows}


def read_document(path: Path, encoding: str | None = None) -> tuple[str, tuple[str, ...]]:
    """The text of one file, and notes. Raises DataError."""
    decoded = read_text(path, MAX_DOCUMENT, encoding)
    text = decoded.text
    if not text.strip():
        raise DataError("there is no text in the file", where=path)
    if len(text) > 2 and len(set(text.strip())) == 1:
        raise DataError("not text: one character over and over", where=path)
    return text, (*decoded.notes, *decoded.notes_of(1, max(decoded.repaired, default=0) + 1))


def read_table(path: Path, column: str, group: str | None = None, encoding: str | None = None) -> Table:
    """The rows of one file with a column of text, and perhaps one of groups; see `rows.read_rows`. Raises DataError."""
    stat = path.stat()
    return _table(path, column, group, encoding, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4)  # every row of a table is asked for one by one
def _table(path: Path, column: str, group: str | None, encoding: str | None, changed: int, size: int) -> Table:
    if path.suffix.lower() in LINES:
        return _lines(path, column, group, encoding)
    return _separated(path, column, group, encoding)


def _lines(path: Path, column: str, group: str | None, encoding: str | None) -> Table:
    decoded = read_text(path, MAX_TABLE, encoding)
    rows, empty, broken, columns = [], 0, [], set[str]()
    index = -1
    if (count := lines_in(decoded.text)) > MAX_LINES:
        raise DataError(f"{count:,} lines are more than the limit of {MAX_LINES:,}", where=path)
    for number, line in enumerate(re.split(r"\r\n?|\n", decoded.text), start=1):
        if not line.strip():
            continue
        index += 1
        if len(line) > MAX_LINE:
            broken.append(f"line {number} has {len(line):,} letters, more than the limit of {MAX_LINE:,}")
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError):  # also for a number of more digits than Python takes
            broken.append(f"line {number} is not JSON")
            continue
        if not isinstance(item, dict):
            broken.append(f"line {number} is not a JSON object")
            continue
        columns.update(item)
        value = item.get(column)
        if value is not None and not isinstance(value, str):
            broken.append(f"line {number}: {column!r} is not text")
        elif not value or not filled(value):
            empty += 1
        else:
            text, lost = clean(value)
            notes = (*(f"{what} (line {number})" for what in lost), *decoded.notes_of(number, number + 1))
            rows.append(TableRow(index, text, _group(item.get(group) if group else None), notes))
    if columns and column not in columns:
        _no_column(path, column, sorted(columns))
    if broken and not rows:
        raise DataError(f"no line can be read ({broken[0]})", where=path)
    return Table(tuple(rows), empty, tuple(broken), decoded.notes, index + 1)


def _group(value: object) -> str | None:
    text = "" if value is None else number_of(filled(str(value)))
    return clean(text)[0] if text else None


def _no_column(path: Path, column: str, columns: Sequence[str]) -> None:
    listed = ", ".join(columns[:20])
    raise DataError(f"there is no column {column!r}; found: {listed}", where=path)


def _separated(path: Path, column: str, group: str | None, encoding: str | None) -> Table:
    table = read_rows(path, column, encoding)
    at, of = table.place(column), table.place(group) if group else None
    if at is None:
        _no_column(path, column, table.columns)
    assert at is not None
    rows, empty, ragged, broken = [], 0, [], []
    for index, row in enumerate(table.rows):
        fault = table.fault(row)
        if fault is None and len(row.fields) < len(table.columns):
            fault = f"line {row.line} has {len(row.fields)} fields where the header has {len(table.columns)}"
        if fault is not None:
            ragged.append(row.line)
            broken.append(fault)
        elif not filled(row.fields[at]):
            empty += 1
        else:
            rows.append(TableRow(index, row.fields[at], _group(row.fields[of]) if of is not None else None, row.notes))
    if len(ragged) > MAX_RAGGED * len(table.rows):
        lines = ", ".join(map(str, ragged[:10])) + (", …" if len(ragged) > 10 else "")
        raise DataError(f"{len(ragged)} of {len(table.rows)} rows do not match the header (lines {lines})", where=path)
    return Table(tuple(rows), empty, tuple(broken), table.notes, len(table.rows))


def read_signal(path: Path) -> tuple[Array, tuple[str, ...]]:
    """(C, L) float32 of a .npy file, or of the numeric columns of a .csv, and notes. Raises DataError."""
    kind = kind_of(path)
    if kind == "npy":
        return _numpy(path), ()
    if kind != "text":
        raise DataError("the file is empty" if kind == "empty" else "neither a CSV nor a NumPy array", where=path)
    return _columns(path)


def _numpy(path: Path) -> Array:
    with plainly(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: the size is checked before it is read
        if array.size > MAX_NUMBERS:
            raise DataError(
                f"{array.size:,} numbers are more than the limit of {MAX_NUMBERS:,}",
                where=path,
                fix="cut the recording into several files",
            )
        if array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
            raise DataError(f"an array of shape {array.shape} where (channels, length) is read", where=path)
        if not array.size:
            raise DataError("the array is empty", where=path)
        return np.atleast_2d(np.asarray(array, dtype=np.float32))


def _columns(path: Path) -> tuple[Array, tuple[str, ...]]:
    table = read_rows(path, None)
    notes = table.notes
    if any(row.broken for row in table.rows):
        raise DataError(next(row.broken for row in table.rows if row.broken), where=path)
    lines = [row.fields for row in table.rows]
    head = table.columns
    if any(_number(field) is not None for field in head):
        lines.insert(0, head)  # no header
    if not lines:
        raise DataError("there are no rows of numbers in the file", where=path)
    if any(len(fields) != len(head) for fields in lines):
        raise DataError("the rows do not all have the same number of fields", where=path)
    if len(lines) * len(head) > MAX_NUMBERS:
        raise DataError(f"more numbers than the limit of {MAX_NUMBERS:,}", where=path)
    columns = [[_number(field) for field in column] for column in zip(*lines, strict=True)]
    numeric = [column for column in columns if None not in column]
    if not numeric:
        raise DataError("there is no column of numbers in the file", where=path)
    if len(numeric) < len(head):
        notes = (*notes, f"{len(head) - len(numeric)} of {len(head)} columns are not numbers and left out")
    return np.array(numeric, dtype=np.float32), notes


def _number(field: str) -> float | None:
    """A number, also one with a decimal comma."""
    try:
        return float(field.replace(",", ".", 1) if "." not in field else field)
    except ValueError:
        return None
