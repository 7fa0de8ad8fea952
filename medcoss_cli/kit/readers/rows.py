"""Tables as rows of text: CSV with any separator, TSV, and spreadsheets. The one reader of manifests, labels and reports."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import kind_of, plainly
from medcoss_cli.kit.readers.encoding import lines_in, read_text

MAX_TABLE = 2**28
"""Bytes of one table, which is in memory as text, as lines and as fields."""
MAX_LINES = 2**22
MAX_CELLS = 2**23
"""Of one table: some hundred bytes each while it is read."""
_FIRST_CELLS = 2**20
"""Of the rows in which the separator is looked for."""
SPREADSHEETS = (".xlsx", ".xlsm")
SEPARATORS = ",;\t|"
_OLD_SPREADSHEETS = (".xls", ".ods")
_TITLES = 20
"""Rows above the header that may hold a title."""
_MAX_FAULTS = 100
"""Rows with a quotation mark that is not closed; more, and the file is not CSV."""
_MISSING = frozenset({"nan", "NaN", "NAN", "None", "<NA>", "NA", "NaT", "N/A", "n/a", "#N/A", "NULL", "null"})
"""What pandas, R, Excel and databases write where there is no value."""
_LINE = re.compile(r"[^\r\n]+(?:\r\n?|\n)?|\r\n?|\n")
_SEP_LINE = re.compile(r'"?sep=(.)"?[\r\n]*$')  # which a European Excel writes and reads


@dataclass(frozen=True, slots=True)
class Row:
    """One data row: where it begins in the file, counted from 1, and its fields."""

    line: int
    fields: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What was repaired in it."""
    broken: str | None = None
    """Why its fields cannot be told; it has none."""


@dataclass(frozen=True)
class Rows:
    """A table: the names of its columns, and its data rows without blank ones."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    line: int = 1
    """Of the header."""

    def place(self, name: str) -> int | None:
        """Number of a column: of this name, else of this name in other letters (`Path` for `path`)."""
        return _place(self.columns, name)

    def fault(self, row: Row) -> str | None:
        """Why a row cannot be used: it has fields beyond the header, or none that can be told."""
        if row.broken is None and any(field.strip() for field in row.fields[len(self.columns) :]):
            return f"line {row.line} has {len(row.fields)} fields where the header has {len(self.columns)}"
        return row.broken


def filled(field: str) -> str:
    """What a cell holds; empty where it says that there is no value (nan, None, NA)."""
    field = field.strip()
    return "" if field in _MISSING else field


def number_of(field: str) -> str:
    """A whole number as spreadsheets write it (3, 3.0, 3,0), without the zero. 1.000 is left: it is 1 here, 1000 there."""
    return re.sub(r"^([+-]?\d+)[.,](0{1,2}|0{4,})$", r"\1", field)


def read_rows(path: Path, column: str | None, encoding: str | None = None) -> Rows:
    """The rows of one table.

    The separator (comma, semicolon, tab or bar; `sep=;` in the first line names it) is the one with which the header has the
    column, and the header is the first row, or the one below a title. The sheet of a workbook is the first with that column.

    Args:
        column: the column that the table is read for; it may be missing, see `Rows.place`. None: any.
        encoding: of text; None: found from the bytes.

    Raises: DataError for a file that is no table.
    """
    ending = path.suffix.lower()
    if ending in _OLD_SPREADSHEETS:
        raise DataError(f"a spreadsheet of the kind {ending} is not read", where=path, fix="save it as .xlsx or .csv")
    if ending in SPREADSHEETS and kind_of(path) == "zip":
        return _workbook(path, column)
    decoded = read_text(path, MAX_TABLE, encoding)
    csv.field_size_limit(MAX_TABLE)  # the default of 128 KiB is shorter than some reports
    with plainly(path):
        _check(lines_in(decoded.text), "lines", MAX_LINES)
        lines = _LINE.findall(decoded.text)
        separator, skipped = _separator(lines, ending, column)
        _check(decoded.text.count(separator), "fields", MAX_CELLS)
        rows = _separated(lines, skipped, separator)
    if not rows:
        raise DataError("the table has no header", where=path)
    at = _header([row.fields for row in rows[:_TITLES]], column)
    columns = tuple(field.strip() for field in rows[at].fields)
    if column is not None and len(columns) == 1 and len({len(row.fields) for row in rows[at + 1 :]}) > 1:
        # one column of sentences with commas; rows of one length are those of a header that lacks names
        rows = [replace(row, fields=(separator.join(row.fields),)) if len(row.fields) > 1 else row for row in rows]
    if decoded.repaired:
        ends = [row.line for row in rows[1:]] + [len(lines) + 1]
        rows = [
            replace(row, notes=(*row.notes, *decoded.notes_of(row.line, end)))
            for row, end in zip(rows, ends, strict=True)
        ]
    return Rows(path, columns, tuple(rows[at + 1 :]), decoded.notes, rows[at].line)


def _check(count: int, what: str, most: int) -> None:
    if count > most:
        raise DataError(f"{count:,} {what} are more than the limit of {most:,}", fix="split it into several files")


def _place(columns: Sequence[str], name: str | None) -> int | None:
    if name is None:
        return None
    names = [column.strip() for column in columns]
    if name in names:
        return names.index(name)
    folded = [column.casefold() for column in names]
    return folded.index(name.casefold()) if name.casefold() in folded else None


def _header(rows: Sequence[Sequence[str]], column: str | None) -> int:
    """Number of the header: the row with the column, if only titles (one cell each) are above it; else the first of several
    cells, or the first.
    """
    for number, fields in enumerate(rows if column is not None else ()):
        if _place(fields, column) is not None:
            return number
        if sum(bool(field.strip()) for field in fields) > 1:
            return number
    return 0


def _separator(lines: Sequence[str], ending: str, column: str | None) -> tuple[str, int]:
    """The separator, and how many lines above the table say so."""
    if lines and (named := _SEP_LINE.match(lines[0])):
        return named[1], 1
    if ending == ".tsv":
        return "\t", 0
    first = list(itertools.islice((line for line in lines if line.strip()), _TITLES))
    for separator in SEPARATORS:
        _check(sum(line.count(separator) for line in first), "fields in its first rows", _FIRST_CELLS)
    fields = {separator: list(csv.reader(first, delimiter=separator)) for separator in SEPARATORS}
    for separator, rows in fields.items():
        if rows and _place(rows[_header(rows, column)], column) is not None:
            return separator, 0
    return max(fields, key=lambda separator: _width(fields[separator], column)), 0


def _width(rows: Sequence[Sequence[str]], column: str | None) -> tuple[int, int]:
    """How likely rows are a table: one with a header of several cells, the nearer to the top and the wider the better."""
    if not rows:
        return -_TITLES, 0
    at = _header(rows, column)
    return (-at if len(rows[at]) > 1 else -_TITLES), len(rows[at])


def _separated(lines: Sequence[str], skipped: int, separator: str) -> list[Row]:
    plain = _unquoted(lines, skipped, separator)
    if plain is not None:
        return plain
    rows = [row for row in _quoted(lines, skipped, separator) if row.fields or row.broken]
    width = len(rows[0].fields) if rows else 0
    beginnings = {_shape(row.fields[0]) for row in rows[1:] if row.fields and "\n" not in row.fields[0]} - {""}
    return [_whole(row, width, separator, beginnings) for row in rows]


def _shape(field: str) -> str:
    return re.sub(r"\d+", "#", field.strip().casefold())


def _whole(row: Row, width: int, separator: str, beginnings: set[str]) -> Row:
    """The row; a broken one where a field in quotation marks holds what looks like rows: a mark is missing, or one too many.

    Reports have line breaks and commas as well. A line of one looks like a row if it has as many separators and begins as rows
    do (with a number, 2026-03-01), or if all lines but the last have as many.
    """
    if width < 2 or not any("\n" in field or "\r" in field for field in row.fields):
        return row
    start = row.line
    for field in row.fields:
        inner = field.splitlines()[1:]
        like = [line.count(separator) == width - 1 for line in inner]
        begins = [
            is_like and _shape(line.split(separator)[0]) in beginnings
            for is_like, line in zip(like, inner, strict=True)
        ]
        if any(begins) or (width > 2 and len(like) > 2 and all(like[:-1])):
            line = start + 1 + (begins.index(True) if any(begins) else 0)
            what = f"line {row.line} has a quoted text that takes in line {line}, which looks like a row: "
            return Row(row.line, (), row.notes, what + "a quotation mark is missing, or there is one too many")
        start += len(inner)
    return row


def _unquoted(lines: Sequence[str], skipped: int, separator: str) -> list[Row] | None:
    """Rows of a table whose quotation marks are text: every line has as many separators as the first.

    With quoting, a report that begins with a quotation mark would take in all rows up to the next mark. Commas also stand in
    sentences, so a line's number of them says nothing.
    """
    if separator == "," or not any('"' in line for line in lines):
        return None
    content = [(n, line.rstrip("\r\n")) for n, line in enumerate(lines, start=1) if n > skipped and line.strip()]
    width = content[0][1].count(separator) if content else 0
    if width == 0 or any(line.count(separator) != width for _, line in content):
        return None
    return [Row(n, tuple(map(_without_quotes, line.split(separator)))) for n, line in content]


def _without_quotes(field: str) -> str:
    """A field as it was before it was quoted as a whole; any other as it stands."""
    inner = field[1:-1]
    if len(field) < 2 or not (field[0] == field[-1] == '"') or '"' in inner.replace('""', ""):
        return field
    return inner.replace('""', '"')


def _quoted(lines: Sequence[str], skipped: int, separator: str) -> Iterator[Row]:
    """Rows by the rules of CSV. A quotation mark that is not closed costs its own line, not those behind it."""
    start, faults, width = skipped, 0, 0
    while start < len(lines):
        reader = csv.reader(itertools.islice(lines, start, None), delimiter=separator, strict=True)
        done = 0
        try:
            for fields in reader:
                yield Row(start + done + 1, tuple(fields))
                width, done = width or len(fields), reader.line_num
            return
        except csv.Error as error:
            first, last = start + done, start + reader.line_num
            faults += 1
            if faults > _MAX_FAULTS:
                raise DataError(f"more than {_MAX_FAULTS} rows have quotation marks that are not closed") from error
        # a space behind the closing mark is harmless; else only the line itself is trusted
        harmless = re.search(r'"[ \t]+(' + re.escape(separator) + r"|$)", lines[last - 1].rstrip("\r\n"))
        last = last if harmless else first + 1
        fields = next(csv.reader(lines[first:last], delimiter=separator), [])
        if len(fields) == width:
            text = tuple(field.rstrip("\r\n") for field in fields)
            yield Row(first + 1, text, () if harmless else (f"a quotation mark is not closed (line {first + 1})",))
        else:
            yield Row(first + 1, (), (), f"line {first + 1} has a quotation mark that is not closed")
        start = last


def _workbook(path: Path, column: str | None) -> Rows:
    from medcoss_cli.kit.readers.spreadsheet import read_workbook

    sheets = read_workbook(path)
    for sheet in sheets:
        at = _header([fields for _, fields in sheet.rows[:_TITLES]], column)
        if sheet.rows and (column is None or _place(sheet.rows[at][1], column) is not None):
            break
    else:
        sheet, at = sheets[0], 0
    if not sheet.rows:
        raise DataError("the sheet is empty", where=path)
    notes = (*sheet.notes, f"of {len(sheets)} sheets {sheet.name!r} is read") if len(sheets) > 1 else sheet.notes
    columns = tuple(field.strip() for field in sheet.rows[at][1])
    return Rows(
        path, columns, tuple(Row(line, fields) for line, fields in sheet.rows[at + 1 :]), notes, sheet.rows[at][0]
    )
