"""Spreadsheets as tables: a manifest and reports in .xlsx, with what people do to cells."""

from __future__ import annotations

import datetime
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from PIL import Image

from medcoss_cli.errors import DataError
from medcoss_cli.kit import ImageFolder, TextFolder
from medcoss_cli.kit.manifest import naming
from medcoss_cli.kit.readers.rows import read_rows
from medcoss_cli.plugin import Record


def book(path: Path, *rows: tuple[Any, ...]) -> Any:
    """A workbook of one sheet; the sheet, to be changed and saved again."""
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    for row in rows:
        sheet.append(row)
    workbook.save(path)
    return sheet


def cells(path: Path, column: str = "path") -> list[tuple[str, ...]]:
    return [row.fields for row in read_rows(path, column).rows]


def test_cells_are_what_a_person_sees(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    sheet = book(
        path,
        ("path", "id", "when", "share", "yes"),
        ("a.png", 1.0, datetime.datetime(2026, 3, 1), 0.5, True),
        ("b.png", 2, datetime.datetime(2026, 3, 1, 8, 30), 1e20, None),
        (" c.png ", 7, datetime.date(2026, 3, 2), -3.0, "x"),
        (None, None, "  ", None, None),
    )
    sheet["B4"].number_format = "000"
    sheet["A900"].number_format = "0"  # a cell that was touched, and is empty
    sheet.parent.save(path)
    assert cells(path) == [
        ("a.png", "1", "2026-03-01", "0.5", "TRUE"),
        ("b.png", "2", "2026-03-01T08:30:00", "100000000000000000000", ""),
        (" c.png ", "007", "2026-03-02", "-3", "x"),
    ]


def test_merged_cells_below_a_title_and_hidden_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    sheet = book(
        path,
        ("Findings of ward 3", None, None),
        (None, None, None),
        ("Patient", "Datei", "Befund"),
        ("p1", "a.png", "x"),
        (None, "b.png", "y"),
        ("p2", "c.png", "x"),
    )
    sheet.merge_cells("A1:C1")
    sheet.merge_cells("A4:A5")
    sheet.row_dimensions[6].hidden = True
    sheet.parent.save(path)
    table = read_rows(path, "Datei")
    assert table.columns == ("Patient", "Datei", "Befund")
    assert table.line == 3
    assert [(row.line, *row.fields) for row in table.rows] == [
        (4, "p1", "a.png", "x"),
        (5, "p1", "b.png", "y"),
        (6, "p2", "c.png", "x"),
    ]
    assert table.notes == ("1 hidden rows are read",)


def test_the_sheet_is_the_one_with_the_column(tmp_path: Path) -> None:
    sheet = book(tmp_path / "a.xlsx", ("legend",), ("x is y",))
    second = sheet.parent.create_sheet("Liste")
    for row in (("path", "label"), ("a.png", "x")):
        second.append(row)
    sheet.parent.save(tmp_path / "a.xlsx")
    table = read_rows(tmp_path / "a.xlsx", "path")
    assert [row.fields for row in table.rows] == [("a.png", "x")]
    assert table.notes == ("of 2 sheets 'Liste' is read",)


@pytest.mark.parametrize(
    ("value", "reason"),
    [("=A1&B1", "cell B2 is a formula without a value"), ("#REF!", "cell B2 holds the error #REF!")],
)
def test_cells_whose_value_is_not_known_are_an_error_with_their_place(tmp_path: Path, value: str, reason: str) -> None:
    sheet = book(tmp_path / "a.xlsx", ("path", "group"), ("a.png", value))
    if value.startswith("#"):
        sheet["B2"].data_type = "e"
        sheet.parent.save(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match=reason) as caught:
        read_rows(tmp_path / "a.xlsx", "path")
    assert str(caught.value).startswith(f"{tmp_path / 'a.xlsx'}:2: ")


def test_other_spreadsheets_and_a_missing_package_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.xls").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    with pytest.raises(DataError, match=r"a spreadsheet of the kind \.xls is not read"):
        read_rows(tmp_path / "a.xls", "path")
    (tmp_path / "b.xlsx").write_text("path;label\na.png;x\n")  # a CSV by its content
    assert cells(tmp_path / "b.xlsx") == [("a.png", "x")]
    book(tmp_path / "c.xlsx", ("path",), ("a.png",))
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"reading \.xlsx needs openpyxl") as caught:
        read_rows(tmp_path / "c.xlsx", "path")
    assert caught.value.fix == 'pip install "medcoss[excel]", or save the sheet as .csv'


def test_a_workbook_is_a_manifest_and_a_table_of_reports(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / name)
    book(tmp_path / "manifest.xlsx", ("Path", "Group", "Split"), ("a.png", 12.0, "Test"), ("b.png", 13, "Train"))
    records = [item for item in ImageFolder().find(tmp_path) if isinstance(item, Record)]
    assert [(record.source.name, record.group) for record in records] == [("b.png", "13")]
    (tmp_path / "manifest.xlsx").rename(tmp_path / "Liste.xlsx")
    with naming({"path": "path", "group": "group"}):
        records = [item for item in ImageFolder().find(tmp_path, "all") if isinstance(item, Record)]
    assert [(record.source.name, record.group) for record in records] == [("a.png", "12"), ("b.png", "13")]
    book(tmp_path / "reports.xlsx", ("ID", "Text"), (1.0, "No acute disease."), (2.0, None), (3.0, "Opacity."))
    loader = TextFolder()
    items = list(loader.find(tmp_path / "reports.xlsx"))
    texts = [(item.group, loader.read(item).array) for item in items if isinstance(item, Record)]
    assert texts == [("1", "No acute disease."), ("3", "Opacity.")]


def test_a_cell_far_away_that_was_only_formatted_costs_nothing(tmp_path: Path) -> None:
    sheet = book(tmp_path / "a.xlsx", ("path",), ("a.png",))
    sheet["XFD1048576"].number_format = "0"
    sheet.parent.save(tmp_path / "a.xlsx")
    assert cells(tmp_path / "a.xlsx") == [("a.png",)]


def test_a_workbook_larger_than_it_looks_is_refused(tmp_path: Path) -> None:
    book(tmp_path / "a.xlsx", ("path",), ("a.png",))
    with zipfile.ZipFile(tmp_path / "a.xlsx", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/bomb.bin", bytes(2**27))
    with pytest.raises(DataError, match="bytes unpacked are more than the limit of"):
        read_rows(tmp_path / "a.xlsx", "path")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('id,text\n1,"starts a quote\n2,fine\n3,also fine\n4,he said "" hm"\n5,last\n', 3),
        ('id,text\n0,x\n1,"cut\n2,ok\n3,ends with quote"\n4,ok\n', 4),
        ('name,a,b\nMeier,"x,1\nMaier,y,2\nHuber,z,3\nMoser,v""",4\n', 3),
    ],
)
def test_a_quotation_mark_that_takes_in_rows_is_found(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "a.csv").write_text(text)
    column = text.partition(",")[0]
    broken = [row.broken for row in read_rows(tmp_path / "a.csv", column).rows if row.broken]
    assert len(broken) == 1
    assert f"takes in line {line}, which looks like a row" in broken[0]


def test_line_breaks_and_commas_of_reports_are_text(tmp_path: Path) -> None:
    report = "Findings: none, as before.\nNo effusion, no oedema.\nImpression: normal, see above."
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(f'{n},"{report}"\n' for n in range(5)))
    assert cells(tmp_path / "a.csv", "text") == [(str(n), report) for n in range(5)]


def test_a_title_above_the_header_and_a_table_of_one_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Export of 2024\nDatei;Befund\na.png;1,5\n")
    assert read_rows(path, "path").columns == ("Datei", "Befund")  # which a message then names
    assert read_rows(path, "Datei").rows[0].fields == ("a.png", "1,5")
    path.write_text("List\n\npath\na.png\nb.png\n")
    assert cells(path) == [("a.png",), ("b.png",)]
    path.write_text('text\nHeart, lungs, and pleura\nNothing\n"so, it is"\n')
    assert cells(path, "text") == [("Heart, lungs, and pleura",), ("Nothing",), ("so, it is",)]
    path.write_text("text\nNothing,7\nSomething,8\n")  # a header that lacks a name
    table = read_rows(path, "text")
    assert [table.fault(row) for row in table.rows] == [f"line {n} has 2 fields where the header has 1" for n in (2, 3)]
