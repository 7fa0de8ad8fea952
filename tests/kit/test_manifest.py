"""Which files of a folder a manifest lets through."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medcoss_cli.errors import DataError
from medcoss_cli.kit import ImageFolder, TextFolder
from medcoss_cli.kit.manifest import Entry, entries, naming, notes_of
from medcoss_cli.plugin import Record, Skipped


def pictures(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(root / name, "png")


def manifest(root: Path, *lines: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")


def taken(root: Path, split: str = "train", loader: Any = None) -> dict[str, str | None]:
    items = (loader or ImageFolder()).find(root, split)
    return {item.source.relative_to(root).as_posix(): item.group for item in items if isinstance(item, Record)}


def left(root: Path, split: str = "train") -> dict[str, str]:
    items = ImageFolder().find(root, split)
    return {item.source.relative_to(root).as_posix(): item.reason for item in items if isinstance(item, Skipped)}


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    pictures(tmp_path, "images/a.png", "images/b.png", "images/c.png", "images/d.png", "masks/a.png", "extra.png")
    manifest(
        tmp_path,
        "path,split,group,label,mask",
        "images/a.png,train,p1,1,masks/a.png",
        "images/b.png,test,p2,0,",
        "images/c.png,val,p3,0,",
        "images/gone.png,train,p4,0,",
    )
    return tmp_path


def test_rows_of_the_split_are_taken_with_their_group(labelled: Path) -> None:
    assert taken(labelled) == {"images/a.png": "p1"}
    assert taken(labelled, "test") == {"images/b.png": "p2"}
    assert taken(labelled, "all") == {"images/a.png": "p1", "images/b.png": "p2", "images/c.png": "p3"}


def test_what_is_not_taken_is_said_but_for_masks(labelled: Path) -> None:
    assert left(labelled) == {
        "extra.png": "not listed in its manifest.csv",
        "images/b.png": "of split 'test'",
        "images/c.png": "of split 'val'",
        "images/d.png": "not listed in its manifest.csv",
        "images/gone.png": "line 5 of manifest.csv names 'images/gone.png', which is not there",
    }
    bad = [item for item in ImageFolder().find(labelled) if isinstance(item, Skipped) and item.bad]
    assert [item.source.name for item in bad] == ["gone.png"]


def test_a_mask_is_never_a_sample_even_where_it_is_listed(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "m.png", "masks/x.png")
    manifest(tmp_path, "path,mask", "a.png,m.png", "m.png,masks")
    assert taken(tmp_path) == {"a.png": None}
    assert left(tmp_path) == {"m.png": "listed, and a mask in line 2 of manifest.csv: a mask is no sample"}
    manifest(tmp_path, "path,mask", "masks/x.png,masks")
    assert left(tmp_path)["masks/x.png"] == "listed, and a mask in line 2 of manifest.csv: a mask is no sample"


def test_a_manifest_rules_its_own_folder_and_below(tmp_path: Path) -> None:
    pictures(tmp_path, "pool/x.png", "set/a.png", "set/sub/b.png", "set/c.png")
    manifest(tmp_path / "set", "path", "sub/b.png", "a.png")
    assert sorted(taken(tmp_path)) == ["pool/x.png", "set/a.png", "set/sub/b.png"]
    manifest(tmp_path, "path", "set/c.png")  # the outermost rules
    assert sorted(taken(tmp_path)) == ["set/c.png"]


def test_a_listed_folder_gives_its_files_and_its_group(tmp_path: Path) -> None:
    pictures(tmp_path, "p1/a.png", "p1/deep/b.png", "p2/c.png")
    manifest(tmp_path, "path,group", "p1,one", "p2/,two")
    assert taken(tmp_path) == {"p1/a.png": "one", "p1/deep/b.png": "one", "p2/c.png": "two"}


def test_a_manifest_without_a_path_column_is_an_error_that_names_the_likely_one(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    manifest(tmp_path, "what,file", "nothing,b.png")
    with pytest.raises(DataError, match="no column 'path'; found: what, file") as caught:
        taken(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'manifest.csv'}:1: ")
    assert caught.value.fix == "did you mean --columns path=file?"
    with naming({"path": "file"}):
        assert taken(tmp_path) == {"b.png": None}
    manifest(tmp_path, "what,file", "nothing,else")
    with pytest.raises(DataError) as caught:
        taken(tmp_path)
    assert caught.value.fix == "name it, as in --columns path=File"


@pytest.mark.parametrize("path", ["../outside.png", "/etc/hostname", "sub/../../outside.png", "C:/x.png", "..\\x.png"])
@pytest.mark.parametrize("column", ["path", "mask"])
def test_paths_stay_inside(tmp_path: Path, path: str, column: str) -> None:
    pictures(tmp_path, "outside.png", "set/a.png")
    manifest(tmp_path / "set", "path,mask", f"{path}," if column == "path" else f"a.png,{path}")
    with pytest.raises(DataError, match="leaves the folder") as caught:
        taken(tmp_path / "set")
    assert "manifest.csv:2" in str(caught.value)


def test_one_file_in_two_splits_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    for rows in (("a.png,train", "a.png,test"), ("a.png,test", "a.png,train")):
        manifest(tmp_path, "path,split", *rows)
        with pytest.raises(DataError, match="two splits"):
            taken(tmp_path)


def test_an_index_takes_rows_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,text\nq,zero\nq,one\nq,two\nq,three\n")
    (tmp_path / "s.txt").write_text("a document")
    manifest(
        tmp_path, "path,split,group,index", "r.csv,train,p1,1", "r.csv,test,p2,2", "r.csv,train,,3", "s.txt,train,p5,"
    )
    items = list(TextFolder().find(tmp_path))
    assert items == [
        Record(tmp_path / "r.csv", ("row", 1), "p1"),
        Record(tmp_path / "r.csv", ("row", 3), "q"),
        Record(tmp_path / "s.txt", None, "p5"),
    ]
    manifest(tmp_path, "path,index", "r.csv,9")
    (item,) = (item for item in TextFolder().find(tmp_path) if item.source.name == "r.csv")
    assert getattr(item, "reason", "") == "1 rows listed in the manifest do not exist"
    manifest(tmp_path, "path,index", "r.csv,first")
    with pytest.raises(DataError, match="not a row number"):
        list(TextFolder().find(tmp_path))


def test_a_manifest_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"path\n" + bytes(range(256)) * 2)
    with pytest.raises(DataError, match="not text"):
        taken(tmp_path)


@pytest.mark.parametrize(
    ("before", "separator", "end", "encoding"),
    [
        ("", ";", "\r\n", "utf-8"),
        ("sep=;\r\n", ";", "\r\n", "utf-8-sig"),
        ("", "\t", "\n", "utf-16"),
        ("", "|", "\n", "utf-8"),
        ("", ",", "\r", "cp1252"),
        ("Export of 3 March\n", ";", "\n", "cp1252"),
    ],
)
def test_a_manifest_as_spreadsheets_write_it(
    tmp_path: Path, before: str, separator: str, end: str, encoding: str
) -> None:
    """Taken for absent, all files would be trained on, those of the test too."""
    pictures(tmp_path, "Röntgen/a.png", "b.png", "c.png", "masks/a.png")
    rows = [("Path", "Split", "Group"), ("Röntgen\\a.png", "Train", "Müller"), ("b.png", "test", "p2"), ("", "", "")]
    text = before + "".join(separator.join(row) + end for row in rows)
    (tmp_path / "manifest.csv").write_bytes(text.encode(encoding))
    assert taken(tmp_path) == {"Röntgen/a.png": "Müller"}
    assert left(tmp_path)["b.png"] == "of split 'test'"


def test_a_row_with_fields_beyond_the_header_is_an_error_with_its_line(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    manifest(tmp_path, "path,split,age", "a.png,train,61", "b.png,test,61,5")
    with pytest.raises(DataError, match="line 3 has 4 fields where the header has 3") as caught:
        taken(tmp_path)
    assert "manifest.csv:3" in str(caught.value)
    manifest(tmp_path, "path,split,group", "a.png,train,p1", 'b.png,"te"st,p2,x')
    with pytest.raises(DataError, match="line 3 "):
        taken(tmp_path)
    manifest(tmp_path, "path,split,group", "a.png")  # a short row lacks what is empty
    assert taken(tmp_path) == {"a.png": None}


def test_two_manifests_in_one_folder(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    for name in ("manifest.csv", "Manifest.TSV"):
        (tmp_path / name).write_text("path\na.png\n")
    with pytest.raises(DataError, match=r"Manifest.TSV and manifest.csv are manifests of one folder"):
        taken(tmp_path)
    (tmp_path / "manifest.csv").unlink()
    assert taken(tmp_path) == {"a.png": None}
    assert left(tmp_path) == {}


def test_any_table_of_the_folder_is_its_manifest_where_its_columns_are_named(tmp_path: Path) -> None:
    pictures(tmp_path, "scan 1.PNG", "b.png", "c.png", "m.png", "sub/café.png")
    (tmp_path / "Befunde.csv").write_text(
        "PID;Datei;Maske;Satz\n"
        "7;scan 1.png;m.png;train\n"  # another case of the ending
        "8; b ;;train\n"  # spaces, and no ending
        f"9;{tmp_path}/sub/cafe\u0301.png;;train\n"  # absolute, its accent written in two
        "10;D:\\Export\\c.png;;test\n"  # from another machine
        "11;gone.png;;train\n"
    )
    (tmp_path / "Notizen.csv").write_text("PID;Wort\n7;x\n")
    names = {"path": "Datei", "group": "PID", "mask": "Maske", "split": "Satz"}
    with naming(names):
        assert taken(tmp_path) == {"scan 1.PNG": "7", "b.png": "8", "sub/café.png": "9"}
        assert taken(tmp_path, "test") == {"c.png": "10"}
        reasons = left(tmp_path)
        assert reasons["c.png"] == "of split 'test'"
        assert reasons["gone.png"] == "line 6 of Befunde.csv names 'gone.png', which is not there"
        entry = [item for item in ImageFolder().find(tmp_path / "Befunde.csv") if isinstance(item, Record)]
        assert [item.group for item in entry] == ["8", "7", "9"]
    with naming({**names, "split": "Gruppe"}), pytest.raises(DataError, match="no column 'Gruppe'; found: PID, Datei"):
        taken(tmp_path)
    with naming({"path": "File"}), pytest.raises(DataError, match="no table in this folder has the column 'File'"):
        taken(tmp_path)


def test_names_that_stand_for_several_files_stand_for_none(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "A.PNG", "b.png", "b.jpg")
    manifest(tmp_path, "path", "a.PNG", "b", "A.PNG")
    assert taken(tmp_path) == {"A.PNG": None}
    assert [reason for name, reason in left(tmp_path).items() if name in ("a.PNG", "b")] == [
        "line 2 of manifest.csv names 'a.PNG', which is not there",
        "line 3 of manifest.csv names 'b', which is not there",
    ]


def test_whole_numbers_as_spreadsheets_write_them(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,text\nq,zero\nq,one\nq,two\n")
    (tmp_path / "manifest.csv").write_text("path;index;group\nr.csv;1,0;p1\nr.csv;2.0;p2\n")
    records = [item for item in TextFolder().find(tmp_path) if isinstance(item, Record)]
    assert [(record.part, record.group) for record in records] == [(("row", 1), "p1"), (("row", 2), "p2")]


def test_a_report_may_be_called_notice(tmp_path: Path) -> None:
    for name in ("NOTICE_of_findings_0001.txt", "NOTICE", "notice.txt", "README.txt", "LICENSE-data.txt"):
        (tmp_path / name).write_text("No acute finding.")
    assert [item.source.name for item in TextFolder().find(tmp_path)] == ["NOTICE_of_findings_0001.txt"]


def test_a_mark_at_the_beginning_and_windows_separators(tmp_path: Path) -> None:
    pictures(tmp_path, "sub/a.png")
    (tmp_path / "manifest.csv").write_bytes(b"\xef\xbb\xbfpath,group\r\nsub\\a.png,p1\r\n")
    assert taken(tmp_path) == {"sub/a.png": "p1"}


def test_a_name_that_is_not_utf8_is_found_by_what_a_spreadsheet_shows(tmp_path: Path) -> None:
    pictures(tmp_path, os.fsdecode(b"caf\xe9.png"), "b.png")
    manifest(tmp_path, "path,group", "café.png,p1")
    assert list(taken(tmp_path).values()) == ["p1"]


def listed(folder: Path, text: str, split: str = "train") -> list[str]:
    """Names of the files that a manifest lists for a split, in a folder of p1/a.png and p1/b.png."""
    for name in ("a", "b"):
        (folder / "p1").mkdir(exist_ok=True)
        (folder / "p1" / f"{name}.png").write_bytes(b"x")
    (folder / "manifest.csv").write_text(text)
    return [item.path.name for item in entries(folder, split) if isinstance(item, Entry)]


def test_the_row_of_a_file_counts_before_that_of_its_folder(tmp_path: Path) -> None:
    text = "path,split\np1,train\np1/a.png,test\n"
    assert listed(tmp_path, text) == ["b.png"]
    assert listed(tmp_path, text, "test") == ["a.png"]
    assert listed(tmp_path, "path\n.\n") == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path,index,split\nt.csv,0,train\nt.csv,0,test\n", "one row is listed in two splits"),
        ("path,group\np1/a.png,p1\np1/a.png,p2\n", "one file is listed with two groups"),
        (f"path\n{'Befund ' * 60}\n", "no file has a name as long as 'Befund "),
    ],
)
def test_rows_that_contradict_each_other_are_an_error(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        listed(tmp_path, text)


def test_a_row_without_a_split_among_rows_with_one_is_an_error_with_its_line(tmp_path: Path) -> None:
    """It would be trained on and tested on."""
    pictures(tmp_path, "a.png", "b.png", "c.png")
    for word in ("", "nan"):
        manifest(tmp_path, "path,split", "a.png,train", f"b.png,{word}", "c.png,")
        with pytest.raises(
            DataError, match=r"line 3 has no split, where other rows have one \(and 1 rows more\)"
        ) as caught:
            taken(tmp_path)
        assert f"{tmp_path / 'manifest.csv'}:3" in str(caught.value)
    manifest(tmp_path, "path,split", "a.png,", "b.png,")
    assert sorted(taken(tmp_path)) == sorted(taken(tmp_path, "test")) == ["a.png", "b.png"]


def test_short_rows_are_a_note_with_their_lines(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    manifest(tmp_path, "path,group,label", "a.png", "b.png,p1,1", "c.png,p2")
    note = "2 rows have fewer fields than the header (lines 2, 4); what they lack is empty"
    assert notes_of(tmp_path / "manifest.csv") == (note,)


def test_missing_values_as_pandas_writes_them_are_empty_and_whole_numbers_one_name(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png")
    manifest(tmp_path, "path,group,mask", "a.png,nan,nan", "b.png,NaN,None", "c.png,7.0,", "d.png,7,")
    assert taken(tmp_path) == {"a.png": None, "b.png": None, "c.png": "7", "d.png": "7"}


@pytest.mark.parametrize("index", ["1.000", "1,000"])
def test_a_number_that_is_another_in_another_country_is_not_guessed(tmp_path: Path, index: str) -> None:
    (tmp_path / "r.csv").write_text("id,text\nq,zero\nq,one\n")
    (tmp_path / "manifest.csv").write_text(f"path;index\nr.csv;{index}\n")
    with pytest.raises(DataError, match=f"the index '{index}' is not a row number"):
        taken(tmp_path)


FOREIGN = (
    (["p1/scan.png"], ["D:\\x\\p2\\scan.png"], None),  # nothing ends so
    (["scan.png", "p2/b.png"], ["D:\\x\\p2\\scan.png"], "not certain"),  # p2 is here, and has no scan
    (["scan.png", "p1/scan.png"], ["D:\\x\\p2\\scan.png"], "not certain"),  # two of this name
    (["p1/scan.png", "b/p1/scan.png"], ["/mnt/x/p1/scan.png"], "not certain"),
    (["p1/scan.png", "b/x.png"], ["/mnt/b/p1/scan.png"], "not certain"),
    (["scan.png"], ["/mnt/p1/scan.png", "/mnt/p2/scan.png"], "line 3 and line 2 name files in two folders elsewhere"),
    (["p1/scan.png", "p2/scan.png"], ["D:\\x\\p1\\scan.png", "D:\\x\\p2\\scan.png"], ""),
    (["c.png", "d.png"], ["/mnt/export/c.png", "/mnt/export/d.png"], ""),
)


@pytest.mark.parametrize(("files", "listed", "fault"), FOREIGN)
def test_a_path_of_another_machine_means_one_file_or_is_an_error(
    tmp_path: Path, files: list[str], listed: list[str], fault: str | None
) -> None:
    pictures(tmp_path, *files)
    manifest(tmp_path, "path", *listed)
    if fault == "":
        assert sorted(taken(tmp_path)) == files
        return
    with pytest.raises(DataError, match=fault or "leaves the folder") as caught:
        taken(tmp_path)
    assert f"{tmp_path / 'manifest.csv'}:{len(listed) + 1}" in str(caught.value)
