"""Manifests of labelled data: what is read, and every way one can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import MASK, classes_of, read_manifest
from medcoss_cli.data.segmented import labels_of, levels_of, targets_of
from medcoss_cli.errors import DataError

OUTSIDE = (
    "../a.png",
    "../../etc/passwd",
    "/etc/passwd",
    "//server/share/a.png",
    "a/../../b.png",
    "./../a.png",
    "a/b/../../../c.png",
    "..",
    "../",
    "/",
    "//",
    "..\\a.png",
    "..\\..\\a.png",
    "a\\..\\..\\b.png",
    "C:\\a.png",
    "C:/a.png",
    "c:a.png",
    "\\\\server\\share\\a.png",
    "\\a.png",
    "/..",
    "./a/../..",
    "a/../..//b.png",
    "../a/../../b.png",
    "/tmp/../etc/passwd",
    ".././a.png",
)


class Listening(Screen):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


def manifest(root: Path, *lines: str, header: str = "path,split,group,label") -> Path:
    for line in lines:
        name = line.split(",")[0]
        if name and "/" not in name and "\\" not in name:
            (root / name).touch()
    (root / "manifest.csv").write_text("\n".join([header, *lines]) + "\n")
    return root


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("column", ["path", "mask"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str, column: str) -> None:
    root = tmp_path / "a" / "b"
    root.mkdir(parents=True)
    (root / "x.png").touch()
    row = f'"{path}",train,p1,m.png' if column == "path" else f'x.png,train,p1,"{path}"'
    manifest(root, row, header="path,split,group,mask")
    with pytest.raises(DataError) as told:
        read_manifest(root, MASK)
    assert "manifest.csv:2" in str(told.value)


def test_a_link_that_leads_out_of_the_folder_is_the_users_own_doing(tmp_path: Path) -> None:
    (tmp_path / "out.png").touch()
    root = tmp_path / "set"
    root.mkdir()
    (root / "in.png").symlink_to(tmp_path / "out.png")
    (root / "manifest.csv").write_text("path,split,group,label\nin.png,train,p1,a\n")
    assert len(read_manifest(root)) == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("a.png,train,p1,x", "b.png,test,p1,x"), "in two splits, the first is 'p1' in train"),
        (("a.png,train,p1,",), "no label in this row"),
        (("a.png,later,p1,x",), "split 'later' is not one of"),
    ],
)
def test_rows_that_cannot_be(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_manifest(manifest(tmp_path, *lines))


def test_no_manifest_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="medcoss data manifest folder"):
        read_manifest(tmp_path)


def test_groups_not_cases_are_set_aside_and_every_class_gives_some(tmp_path: Path) -> None:
    lines = [f"{label}{i}{n}.png,train,{label}{i},{label}" for label in "ab" for i in range(10) for n in range(3)]
    root = manifest(tmp_path, *lines)
    cases = read_manifest(root, validation=0.2)
    val = {case.group for case in cases if case.split == "val"}
    assert len(val) == 4
    assert {group[0] for group in val} == {"a", "b"}
    assert not val & {case.group for case in cases if case.split == "train"}
    assert cases == read_manifest(root, validation=0.2)
    assert cases != read_manifest(root, validation=0.2, seed=1)


def test_a_fold_validates(tmp_path: Path) -> None:
    lines = [f"{i}.png,{'test' if i == 9 else 'train'},p{i},x,{i % 3 + 1}" for i in range(10)]
    root = manifest(tmp_path, *lines, header="path,split,group,label,fold")
    cases = read_manifest(root, fold=2)
    assert [case.group for case in cases if case.split == "val"] == ["p1", "p4", "p7"]
    assert [case.group for case in cases if case.split == "test"] == ["p9"]


def test_classes_thin_empty_and_unknown(tmp_path: Path) -> None:
    def classes(*lines: str, asked: list[str] | None = None) -> tuple[list[str], list[str]]:
        screen = Listening()
        return classes_of(read_manifest(manifest(tmp_path, *lines)), asked, screen), screen.said

    good = ["a.png,train,1,x", "b.png,train,2,y", "c.png,train,3,y", "d.png,test,4,y", "e.png,test,5,y"]
    known, said = classes(*good)
    assert known == ["x", "y"]
    assert any("'x' has only one training case" in line for line in said)
    assert any("'x' has no case in test" in line for line in said)
    with pytest.raises(DataError, match="label 'y' is none of x"):
        classes(*good, asked=["x"])
    with pytest.raises(DataError, match="'z' has no training case"):
        classes(*good, asked=["x", "y", "z"])
    with pytest.raises(DataError, match="at least two classes"):
        classes("a.png,train,1,x", "b.png,test,2,x")


@pytest.mark.parametrize("values", [{"organ": [1, 2], "tumour": [2]}, {"tumour": [2], "organ": [1, 2]}])
def test_a_tumour_is_not_lost_in_its_organ(values: dict[str, list[int]]) -> None:
    mask = np.array([[0, 1, 2]])
    found = dict(zip(values, targets_of(labels_of(mask, values, "a.nii"), values), strict=True))
    assert np.array_equal(found["organ"], mask > 0)
    assert np.array_equal(found["tumour"], mask == 2)
    assert dict(zip(values, levels_of(values), strict=True)) == {"organ": 0, "tumour": 1}
    assert levels_of({"left": [1], "right": [2]}) == [0, 0]


def test_one_file_is_one_case_and_cannot_be_two_things(tmp_path: Path) -> None:
    root = manifest(tmp_path, "a.png,train,p,sick", "a.png,train,p,sick", "b.png,train,q,well")
    assert [case.path.name for case in read_manifest(root)] == ["a.png", "b.png"]
    for second in ("a.png,train,p,well", "a.png,test,r,sick"):
        root = manifest(tmp_path, "a.png,train,p,sick", second)
        with pytest.raises(DataError, match=r"a.png is listed in line 2, too, with another target, split or group"):
            read_manifest(root)


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "<NA>", ""])
def test_a_missing_label_is_an_error_with_its_line(tmp_path: Path, word: str) -> None:
    root = manifest(tmp_path, "a.png,train,p,sick", f"b.png,train,q,{word}")
    with pytest.raises(DataError, match="no label in this row") as caught:
        read_manifest(root)
    assert "manifest.csv:3" in str(caught.value)
    assert (f"({word!r} stands for a missing value)" in str(caught.value)) == bool(word)


def test_one_class_is_one_whether_it_is_written_1_or_1_0(tmp_path: Path) -> None:
    cases = read_manifest(
        manifest(tmp_path, "a.png,train,p,1", "b.png,train,q,1.0", "c.png,train,r,0", "d.png,train,s,0")
    )
    assert classes_of(cases, None, Listening()) == ["0", "1"]
    assert classes_of(cases, ["1.0", "0.0"], Listening()) == ["1", "0"]


def test_an_image_is_not_its_own_mask(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.png is listed as its own mask"):
        read_manifest(manifest(tmp_path, "a.png,train,p,a.png", header="path,split,group,mask"), MASK)


def test_folders_called_as_their_labels_are_classes_and_no_patients(tmp_path: Path) -> None:
    lines = [f"{name}/{n}.png,{name}" for name in ("1001", "1002", "1003") for n in range(5)]
    for line in lines:
        path = tmp_path / line.split(",")[0]
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "manifest.csv").write_text("\n".join(["path,label", *lines]))
    assert len({case.group for case in read_manifest(tmp_path, validation=0.2)}) == 15
    (tmp_path / "manifest.csv").write_text("\n".join(["path,label", *(line.replace(",", ",x") for line in lines)]))
    assert len({case.group for case in read_manifest(tmp_path)}) == 3
