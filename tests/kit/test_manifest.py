"""Which files of a folder a manifest lets through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medcoss_cli.errors import DataError
from medcoss_cli.kit import ImageFolder, TextFolder
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
        "images/c.png,,p3,0,",
        "images/gone.png,train,p4,0,",
    )
    return tmp_path


def test_rows_of_the_split_or_of_none_are_taken_with_their_group(labelled: Path) -> None:
    assert taken(labelled) == {"images/a.png": "p1", "images/c.png": "p3"}
    assert taken(labelled, "test") == {"images/b.png": "p2", "images/c.png": "p3"}
    assert taken(labelled, "all") == {"images/a.png": "p1", "images/b.png": "p2", "images/c.png": "p3"}


def test_what_is_not_taken_is_said_but_for_masks(labelled: Path) -> None:
    assert left(labelled) == {
        "extra.png": "not listed in its manifest.csv",
        "images/b.png": "of split 'test'",
        "images/d.png": "not listed in its manifest.csv",
        "images/gone.png": "listed in manifest.csv, but missing",
    }
    bad = [item for item in ImageFolder().find(labelled) if isinstance(item, Skipped) and item.bad]
    assert [item.source.name for item in bad] == ["gone.png"]


def test_a_mask_is_never_a_sample_even_where_it_is_listed(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "m.png", "masks/x.png")
    manifest(tmp_path, "path,mask", "a.png,m.png", "m.png,masks")
    assert taken(tmp_path) == {"a.png": None}


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


def test_a_table_without_a_path_column_is_no_manifest(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    manifest(tmp_path, "file,what", "b.png,nothing")
    assert taken(tmp_path) == {"a.png": None}
    assert left(tmp_path) == {}


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
    manifest(tmp_path, "path,split,group,index", "r.csv,train,p1,1", "r.csv,test,p2,2", "r.csv,train,,3", "s.txt,,p5,")
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


def test_a_manifest_that_is_not_csv(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"path\n\xff\xfe\xfa.png\n")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        taken(tmp_path)


def test_a_mark_at_the_beginning_and_windows_separators(tmp_path: Path) -> None:
    pictures(tmp_path, "sub/a.png")
    (tmp_path / "manifest.csv").write_bytes(b"\xef\xbb\xbfpath,group\r\nsub\\a.png,p1\r\n")
    assert taken(tmp_path) == {"sub/a.png": "p1"}
