"""Text documents, tables of text, and signals through their loaders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medcoss_cli.errors import DataError
from medcoss_cli.kit import SignalFolder, TextFolder
from medcoss_cli.plugin import Record, Skipped

TEXT, SIGNAL = TextFolder(), SignalFolder()


def split(items: Any) -> tuple[list[Record], list[Skipped]]:
    items = list(items)
    return [x for x in items if isinstance(x, Record)], [x for x in items if isinstance(x, Skipped)]


def texts(path: Path, loader: TextFolder = TEXT) -> list[str]:
    return [str(loader.read(record).array) for record in split(loader.find(path))[0]]


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ("Größe normal.".encode(), None),
        (b"\xef\xbb\xbf" + "Größe normal.".encode(), None),
        ("Größe normal.".encode("utf-16"), "UTF-16"),
        ("Größe normal.".encode("cp1252"), "Windows-1252"),
    ],
)
def test_a_document_in_any_usual_encoding(tmp_path: Path, data: bytes, note: str | None) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    (record,) = split(TEXT.find(tmp_path))[0]
    sample = TEXT.read(record)
    assert sample.array == "Größe normal."
    assert (note or "") in " ".join(sample.notes)
    assert bool(sample.notes) == bool(note)


def test_documents_without_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)) * 8)
    records, left = split(TEXT.find(tmp_path))
    assert not records
    assert [(item.reason, item.bad) for item in left] == [("the file is empty", True), ("not text", True)]
    (tmp_path / "late.txt").write_bytes(b"Clear. " * 200 + bytes(range(32)) * 20)  # the first bytes are text
    with pytest.raises(DataError, match="not text"):
        TEXT.read(Record(tmp_path / "late.txt"))
    for content in (" \n\t ", "DDDDDDDD"):
        (tmp_path / "blank.txt").write_text(content)
        with pytest.raises(DataError, match="text"):
            TEXT.read(Record(tmp_path / "blank.txt"))


def test_a_very_long_line_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no finding " * 20_000)
    assert len(texts(tmp_path)[0]) == 220_000


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", "|")])
def test_rows_of_a_table_with_any_separator(tmp_path: Path, name: str, separator: str) -> None:
    rows = [("id", "text"), ("p1", '"Clear, no; effusion."'), ("p1", "Opacity."), ("p2", "  "), ("p2", '"Two\nlines"')]
    (tmp_path / name).write_text("\n".join(separator.join(row) for row in rows) + "\n")
    records, left = split(TEXT.find(tmp_path))
    assert texts(tmp_path) == ["Clear, no; effusion.", "Opacity.", "Two\nlines"]
    assert [(record.part, record.group) for record in records] == [
        (("row", 0), "p1"),
        (("row", 1), "p1"),
        (("row", 3), "p2"),
    ]
    assert [(item.reason, item.bad) for item in left] == [("1 rows without text", False)]


def test_a_missing_column_names_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,report\nx,Clear.\n")
    (tmp_path / "b.jsonl").write_text('{"report": "Clear."}\n')
    records, left = split(TEXT.find(tmp_path))
    assert not records
    assert [item.reason for item in left] == [
        "there is no column 'text'; found: name, report",
        "there is no column 'text'; found: report",
    ]
    assert all(item.bad for item in left)
    assert texts(tmp_path, TextFolder(column="report")) == ["Clear.", "Clear."]


def test_ragged_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\na,Opacity, left, new.\nb\nc,Clear.\n")
    records, left = split(TEXT.find(tmp_path))
    assert not records
    assert left[0].reason == "2 of 3 rows do not match the header (lines 2, 3)"
    good = "".join(f"{n},Clear {n}.\n" for n in range(30))
    (tmp_path / "a.csv").write_text("id,text\n" + good + "x,Opacity, left.\n")
    records, left = split(TEXT.find(tmp_path))
    assert len(records) == 30
    assert [item.reason for item in left] == ["line 32 has 3 fields where the header has 2"]


def test_a_broken_line_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "One."}\n{"text": "Tw\n[1]\n{"text": 5}\n\n{"text": "Five."}\n')
    records, left = split(TEXT.find(tmp_path))
    assert texts(tmp_path) == ["One.", "Five."]
    assert [record.part for record in records] == [("row", 0), ("row", 4)]
    assert [item.reason for item in left] == [
        "line 2 is not JSON",
        "line 3 is not a JSON object",
        "line 4: 'text' is not text",
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))), max_size=6))
def test_json_lines_come_back_as_they_were(tmp_path: Path, rows: list[str]) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in [*rows, "last"]), "utf-8")
    missing = {"NA", "NULL", "null", "None", "NaN", "nan", "NAN", "NaT", "N/A", "n/a"}
    assert texts(tmp_path) == [row for row in [*rows, "last"] if row.strip() and row.strip() not in missing]


def test_a_changed_table_is_read_again(tmp_path: Path) -> None:
    for content in ("first", "second, longer"):
        (tmp_path / "a.jsonl").write_text(json.dumps({"text": content}))
        assert texts(tmp_path) == [content]


def test_columns_of_numbers_are_channels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("lead,I,II\nx,1,-2.5\ny,3,4e1\n")
    (record,) = split(SIGNAL.find(tmp_path))[0]
    sample = SIGNAL.read(record)
    assert sample.array.tolist() == [[1, 3], [-2.5, 40]]
    assert sample.array.dtype == np.float32
    assert sample.notes == ("1 of 3 columns are not numbers and left out",)
    (tmp_path / "a.csv").write_text("1;2\n3;4\n")  # no header
    assert SIGNAL.read(record).array.tolist() == [[1, 3], [2, 4]]


def test_arrays_are_read_without_pickle(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "c.npy", np.zeros((2, 3, 4)))
    a, b, c = split(SIGNAL.find(tmp_path))[0]
    assert SIGNAL.read(a).array.tolist() == [[0, 1, 2], [3, 4, 5]]
    for record in (b, c):
        with pytest.raises(DataError):
            SIGNAL.read(record)


@pytest.mark.parametrize("content", ["", "a\rb,c\n1\n", "a,b\n", "a,b\n1,2\n3\n", "a\nx\ny\n"])
def test_tables_that_are_no_signal(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(DataError):
        SIGNAL.read(Record(tmp_path / "a.csv"))


@pytest.mark.parametrize("word", ["“stable”", "patient’s", "5 mm…", "— no", "€ 5", "œdème"])
def test_windows_characters_are_what_they_were_typed_as(tmp_path: Path, word: str) -> None:
    text = f"The nodule is {word} since March. No effusion. Größe normal."
    (tmp_path / "a.txt").write_bytes(text.encode("cp1252"))
    (tmp_path / "b.csv").write_bytes(f"id,text\np1,{text}\n".encode("cp1252"))
    assert texts(tmp_path) == [text, text]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("shift_jis", "胸部単純写真。異常なし。心拡大なし。"),
        ("gb18030", "心影不大，双肺纹理清晰。"),
        ("euc_kr", "폐에 이상 소견 없음."),
        ("cp1251", "Очаговых изменений не выявлено."),
        ("cp1253", "Χωρίς παθολογικά ευρήματα."),
    ],
)
def test_other_encodings_are_asked_for_instead_of_read_as_nonsense(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    (tmp_path / "b.csv").write_bytes(f"id,text\np1,{text}\n".encode(encoding))
    with pytest.raises(DataError, match="neither UTF-8 nor Windows-1252; save it as UTF-8, or name its encoding"):
        TEXT.read(Record(tmp_path / "a.txt"))
    records, left = split(TEXT.find(tmp_path / "b.csv"))
    assert not records
    assert "name its encoding" in left[0].reason
    assert texts(tmp_path, TextFolder(encoding=encoding)) == [text, text]
    with pytest.raises(DataError, match="the file is not ascii"):
        TextFolder(encoding="ascii").read(Record(tmp_path / "a.txt"))


def test_one_row_pasted_from_elsewhere_is_mended_and_the_others_are_left_alone(tmp_path: Path) -> None:
    rows = [f"p{n},Lungenödem – Ausmaß {n}.".encode() for n in range(30)]
    rows[17] = "p17,Röntgen „unauffällig“".encode("cp1252")
    rows[20] = (
        "p20,Lunge frei, Größe".encode().replace(b"\xc3\x9f", b"\xe2\x80").replace(b"frei, ", b"frei ")
    )  # cut inside a character
    (tmp_path / "a.csv").write_bytes(b"id,text\n" + b"\n".join(rows) + b"\n")
    records, left = split(TEXT.find(tmp_path))
    assert not left
    samples = [TEXT.read(record) for record in records]
    assert [sample.array for sample in samples[:17]] == [f"Lungenödem – Ausmaß {n}." for n in range(17)]
    assert samples[17].array == "Röntgen „unauffällig“"
    assert samples[17].notes == ("not UTF-8, decoded as Windows-1252 (line 19)",)
    assert [n for n, sample in enumerate(samples) if sample.notes] == [17, 20]


def test_a_stray_nul_costs_its_character(tmp_path: Path) -> None:
    rows = [f"p{n},Clear {n}." for n in range(200)]
    rows[150] = "p150,Cle\0ar 150."
    (tmp_path / "a.csv").write_text("id,text\n" + "\n".join(rows))
    (tmp_path / "b.txt").write_text("Heart size normal.\0 No effusion, no pneumothorax.")
    samples = [TEXT.read(record) for record in split(TEXT.find(tmp_path))[0]]
    assert [sample.array for sample in samples[:150]] == [f"Clear {n}." for n in range(150)]
    assert samples[150].array == "Cle\ufffdar 150."
    assert samples[150].notes == ("a NUL byte was replaced by U+FFFD (line 152)",)
    assert samples[-1].array == "Heart size normal.\ufffd No effusion, no pneumothorax."


def test_a_table_whose_lines_end_as_on_an_old_mac(tmp_path: Path) -> None:
    for name, separator in (("a.csv", ","), ("b.csv", ";"), ("c.tsv", "\t")):
        (tmp_path / name).write_bytes(f"id{separator}text\rp1{separator}Clear.\rp2{separator}Opacity.\r".encode())
    (tmp_path / "d.jsonl").write_bytes(b'{"text": "Clear."}\r{"text": "Opacity."}\r')
    assert texts(tmp_path) == ["Clear.", "Opacity."] * 4


@pytest.mark.parametrize(("name", "separator"), [("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", "|")])
def test_quotation_marks_that_are_text_do_not_swallow_rows(tmp_path: Path, name: str, separator: str) -> None:
    reports = [f"Clear {n}." for n in range(40)]
    reports[10], reports[30] = '"Hazy opacity, 5 mm', 'as in the last report"'
    reports[35] = 'He said "better"'
    lines = [separator.join(("id", "text")), *(f"p{n}{separator}{report}" for n, report in enumerate(reports))]
    (tmp_path / name).write_text("\n".join(lines))
    records, _ = split(TEXT.find(tmp_path))
    assert [record.group for record in records] == [f"p{n}" for n in range(40)]
    assert texts(tmp_path) == reports


def test_quoted_fields_of_a_tsv_are_those_of_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('id\ttext\np1\t"He said ""no"""\np2\t"Two\nlines"\np3\tPlain\n')
    assert texts(tmp_path) == ['He said "no"', "Two\nlines", "Plain"]
    (tmp_path / "a.tsv").write_text('id\ttext\np1\t"He said ""no"""\np3\tPlain\n')
    assert texts(tmp_path) == ['He said "no"', "Plain"]


def test_a_quotation_mark_that_is_not_closed_costs_its_own_row(tmp_path: Path) -> None:
    good = [f"p{n},Clear {n}." for n in range(30)]
    lines = ["id,text", *good, 'p30,"Hazy, 5 mm', 'p31,"A ""good"" one,\nover two lines."', 'p32,"Stable" he said']
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    records, left = split(TEXT.find(tmp_path))
    assert [record.group for record in records] == [f"p{n}" for n in range(33)]
    assert texts(tmp_path)[30:] == ["Hazy, 5 mm", 'A "good" one,\nover two lines.', "Stable he said"]
    assert not left
    assert TEXT.read(records[30]).notes == ("a quotation mark is not closed (line 32)",)


def test_a_lone_surrogate_is_mended_and_a_pair_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"id": "p\\udc00", "text": "Lung \\ud83e\\udec1 clear."}\n{"text": "Cut \\ud83d here."}\n'
    )
    records, _ = split(TEXT.find(tmp_path))
    assert texts(tmp_path) == ["Lung 🫁 clear.", "Cut \ufffd here."]
    assert records[0].group == "p\ufffd"
    assert TEXT.read(records[1]).notes == ("1 broken characters were replaced by U+FFFD (line 2)",)


def test_numbers_with_a_decimal_comma(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Zeit;mV\n0,1;-2,5\n0,2;3\n")
    array = SIGNAL.read(Record(tmp_path / "a.csv")).array
    assert array == pytest.approx(np.array([[0.1, 0.2], [-2.5, 3]]))
