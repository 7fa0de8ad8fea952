"""Text documents, and the rows of CSV, TSV and JSON Lines files; signals as CSV or NumPy arrays."""

from __future__ import annotations

import csv
import functools
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import kind_of, looks_like_text, plainly

Array = np.ndarray[Any, Any]

MAX_DOCUMENT = 64 * 2**20
"""Bytes of one .txt file."""
MAX_TABLE = 2**30
"""Bytes of one table."""
MAX_NUMBERS = 2**28
"""Numbers in one signal."""
MAX_RAGGED = 0.1
"""A table of which more rows do not match the header is refused as a whole."""

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
DOCUMENTS = ("", ".txt", ".text")


@dataclass(frozen=True, slots=True)
class TableRow:
    """One data row of a table, counted from 0 below the header."""

    index: int
    text: str
    group: str | None


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
        return _texts(self)


@functools.lru_cache(maxsize=4)
def _texts(table: Table) -> dict[int, str]:
    return {row.index: row.text for row in table.rows}


def read_document(path: Path) -> tuple[str, tuple[str, ...]]:
    """The text of one file, and notes. Raises DataError."""
    text, notes = _decoded(path, MAX_DOCUMENT)
    if not text.strip():
        raise DataError("there is no text in the file", where=path)
    if len(text) > 2 and len(set(text.strip())) == 1:
        raise DataError("not text: one character over and over", where=path)
    return text, notes


def _decoded(path: Path, limit: int) -> tuple[str, tuple[str, ...]]:
    with plainly(path):
        size = path.stat().st_size
        if size > limit:
            raise DataError(f"{size:,} bytes are more than the limit of {limit:,}", where=path)
        if not size:
            raise DataError("the file is empty", where=path)
        data = path.read_bytes()
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            try:
                return data.decode(encoding), () if encoding == "utf-8-sig" else ("decoded as UTF-16",)
            except UnicodeDecodeError as error:
                raise DataError("not text", where=path) from error
    if not looks_like_text(data):
        raise DataError("not text", where=path)
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError:
        return data.decode("latin-1"), ("not UTF-8: decoded as Latin-1",)


def read_table(path: Path, column: str, group: str | None = None) -> Table:
    """The rows of one file with a column of text, and perhaps one of groups. Raises DataError.

    Of a .csv, the separator (comma, semicolon, tab or bar) is the one with which the header has the column.
    """
    stat = path.stat()
    return _table(path, column, group, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4)  # every row of a table is asked for one by one
def _table(path: Path, column: str, group: str | None, changed: int, size: int) -> Table:
    text, notes = _decoded(path, MAX_TABLE)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return _lines(path, text, column, group, notes)
    return _separated(path, text, column, group, notes)


def _lines(path: Path, text: str, column: str, group: str | None, notes: tuple[str, ...]) -> Table:
    rows, empty, broken, columns = [], 0, [], set[str]()
    index = -1
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        index += 1
        try:
            item = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            broken.append(f"line {number} is not JSON")
            continue
        if not isinstance(item, dict):
            broken.append(f"line {number} is not a JSON object")
            continue
        columns.update(item)
        value = item.get(column)
        if value is not None and not isinstance(value, str):
            broken.append(f"line {number}: {column!r} is not text")
        elif not value or not value.strip():
            empty += 1
        else:
            rows.append(TableRow(index, value, _group(item.get(group) if group else None)))
    if columns and column not in columns:
        _no_column(path, column, sorted(columns))
    if broken and not rows:
        raise DataError(f"no line can be read ({broken[0]})", where=path)
    return Table(tuple(rows), empty, tuple(broken), notes, index + 1)


def _group(value: object) -> str | None:
    return None if value is None or str(value).strip() == "" else str(value).strip()


def _no_column(path: Path, column: str, columns: list[str]) -> None:
    listed = ", ".join(columns[:20])
    raise DataError(f"there is no column {column!r}; found: {listed}", where=path)


def _separator(text: str, suffix: str, column: str) -> str:
    if suffix == ".tsv":
        return "\t"
    head = text.split("\n", 1)[0].rstrip("\r")
    fields = {separator: next(csv.reader([head], delimiter=separator), []) for separator in ",;\t|"}
    for separator, names in fields.items():
        if column in (name.strip() for name in names):
            return separator
    return max(fields, key=lambda separator: len(fields[separator]))


def _separated(path: Path, text: str, column: str, group: str | None, notes: tuple[str, ...]) -> Table:
    csv.field_size_limit(MAX_DOCUMENT)  # the default of 128 KiB is shorter than some reports
    rows, empty, ragged, broken, index = [], 0, [], [], -1
    with plainly(path):
        separator = _separator(text, path.suffix.lower(), column)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        names = [name.strip() for name in next(reader, [])]
        if column not in names:
            _no_column(path, column, names)
        at, of = names.index(column), names.index(group) if group in names else None
        for fields in reader:
            if not fields:
                continue
            index += 1
            if len(fields) != len(names) and any(field.strip() for field in fields[len(names) :] or ["short"]):
                ragged.append(reader.line_num)
                broken.append(f"line {reader.line_num} has {len(fields)} fields where the header has {len(names)}")
            elif not fields[at].strip():
                empty += 1
            else:
                rows.append(TableRow(index, fields[at], _group(fields[of]) if of is not None else None))
    if len(ragged) > MAX_RAGGED * (index + 1):
        lines = ", ".join(map(str, ragged[:10])) + (", …" if len(ragged) > 10 else "")
        raise DataError(f"{len(ragged)} of {index + 1} rows do not match the header (lines {lines})", where=path)
    return Table(tuple(rows), empty, tuple(broken), notes, index + 1)


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
            raise DataError(f"{array.size:,} numbers are more than the limit of {MAX_NUMBERS:,}", where=path)
        if array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
            raise DataError(f"an array of shape {array.shape} where (channels, length) is read", where=path)
        if not array.size:
            raise DataError("the array is empty", where=path)
        return np.atleast_2d(np.asarray(array, dtype=np.float32))


def _columns(path: Path) -> tuple[Array, tuple[str, ...]]:
    text, notes = _decoded(path, MAX_TABLE)
    with plainly(path):
        separator = _separator(text, path.suffix.lower(), "")
        lines = [fields for fields in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if fields]
    head = lines[0] if lines else []
    if lines and not any(_is_number(field) for field in head):
        lines = lines[1:]
    if not lines:
        raise DataError("there are no rows of numbers in the file", where=path)
    if any(len(fields) != len(head) for fields in lines):
        raise DataError("the rows do not all have the same number of fields", where=path)
    if len(lines) * len(head) > MAX_NUMBERS:
        raise DataError(f"more numbers than the limit of {MAX_NUMBERS:,}", where=path)
    columns = [column for column in zip(*lines, strict=True) if all(_is_number(field) for field in column)]
    if not columns:
        raise DataError("there is no column of numbers in the file", where=path)
    if len(columns) < len(head):
        notes = (*notes, f"{len(head) - len(columns)} of {len(head)} columns are not numbers and left out")
    return np.array(columns, dtype=np.float32), notes


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
