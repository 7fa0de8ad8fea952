"""Workbooks of Excel (.xlsx) as rows of text, with what a person sees in a cell; openpyxl is the extra `excel`."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly

MAX_UNPACKED = 2**26
"""Bytes of a workbook's parts; openpyxl takes some fifty times as much."""
MAX_CELLS = 2**23
"""Cells of a sheet, from the first to the last that holds a value."""


@dataclass(frozen=True)
class Sheet:
    """One sheet: (line, cells) of its rows that are not blank."""

    name: str
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    notes: tuple[str, ...]


def read_workbook(path: Path) -> list[Sheet]:
    """The sheets of a workbook, hidden ones last.

    Whole numbers lose their `.0` and get the zeros that their format shows, dates are YYYY-MM-DD, every cell of a merged range
    has its value.

    Raises: DataError without openpyxl, for a workbook too large, a formula without a value, an error (#REF!) in a cell.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(
            "reading .xlsx needs openpyxl", where=path, fix='pip install "medcoss[excel]", or save the sheet as .csv'
        ) from error
    with plainly(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
            if size > MAX_UNPACKED:
                raise DataError(
                    f"{size:,} bytes unpacked are more than the limit of {MAX_UNPACKED:,}",
                    where=path,
                    fix="save the sheet as .csv",
                )
            parts = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
            has_formulas = any(re.search(rb"<f[ >]", archive.read(name)) for name in parts)
        book = openpyxl.load_workbook(path, data_only=True)
        formulas = openpyxl.load_workbook(path) if has_formulas else None
        ordered = sorted(book.worksheets, key=lambda sheet: sheet.sheet_state != "visible")
        if not ordered:
            raise DataError("the workbook has no sheet of cells", where=path)
        return [_sheet(path, sheet, formulas[sheet.title] if formulas else None) for sheet in ordered]


def _sheet(path: Path, sheet: Any, formulas: Any) -> Sheet:
    # its own cells: iter_rows makes a cell for every place up to the last that was ever formatted, a million rows or more
    filled: dict[int, dict[int, Any]] = defaultdict(dict)
    for (line, column), cell in sorted(sheet._cells.items()):
        if cell.value is not None:
            filled[line][column] = cell
        elif formulas is not None and formulas.cell(line, column).data_type == "f":
            raise DataError(
                f"cell {cell.coordinate} is a formula without a value",
                where=f"{path}:{line}",
                fix="open the file in Excel and save it",
            )
    width = max((max(cells) for cells in filled.values()), default=0)
    if width * len(filled) > MAX_CELLS:
        raise DataError(
            f"{len(filled):,} rows of {width:,} cells are more than the limit of {MAX_CELLS:,}",
            where=path,
            fix="save the sheet as .csv",
        )
    for area in sheet.merged_cells.ranges:
        # a patient's name beside several rows; a title over several columns stays one cell
        first = filled.get(area.min_row, {}).get(area.min_col)
        for line in range(area.min_row + 1, area.max_row + 1):
            if first is not None and line in filled:
                filled[line][area.min_col] = first
    rows, hidden = [], 0
    for line, cells in filled.items():
        texts = tuple(_text(path, cells[column]) if column in cells else "" for column in range(1, width + 1))
        if any(text.strip() for text in texts):
            rows.append((line, texts))
            hidden += bool(sheet.row_dimensions[line].hidden)
    return Sheet(sheet.title, tuple(rows), (f"{hidden} hidden rows are read",) if hidden else ())


def _text(path: Path, cell: Any) -> str:
    value = cell.value
    if cell.data_type == "e":
        raise DataError(f"cell {cell.coordinate} holds the error {value}", where=f"{path}:{cell.row}", fix="correct it")
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float) and value == int(value):
        zeros = re.fullmatch(r"0+", str(cell.number_format))  # 007 is the number 7 in the format 000
        return str(int(value)).zfill(len(zeros[0]) if zeros else 0)
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)
