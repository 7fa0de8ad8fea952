"""Prepared sets: what is stored, what is refused, what makes a new one, and that it goes on where it stopped."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medcoss_cli.console import Screen
from medcoss_cli.data.prepare import prepare
from medcoss_cli.data.prepared import PreparedSet
from medcoss_cli.data.read import find, read_checked, with_vocabulary
from medcoss_cli.errors import DataError, MedcossError, ResourceError
from medcoss_cli.plugin import Modality, Record, Sample, Skipped
from medcoss_cli.registry.complete import complete
from medcoss_cli.registry.discovery import load_modality


@dataclass(frozen=True)
class Arrays:
    """Reads .npy files; a name with "bad" in it is left out as broken."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record | Skipped]:
        for path in sorted(root.iterdir()):
            if "bad" in path.name:
                yield Skipped(path, "broken header", bad=True)
            else:
                yield Record(path, group=path.name.split("_")[0])

    def read(self, record: Record) -> Sample:
        return Sample(np.load(record.source))


@pytest.fixture
def grey() -> Modality:
    return complete(Modality("grey", "Grey", dims=2, size=(8, 8), channels=1, loader=Arrays()))


def fill(root: Path, count: int, start: int = 0) -> None:
    root.mkdir(exist_ok=True)
    for i in range(start, start + count):
        image = np.random.default_rng(i).integers(0, 256, (1, 8, 8)).astype(np.uint8)
        np.save(root / f"p{i // 2:03d}_{i:04d}.npy", image)


def test_rows_hold_the_samples_in_order_and_groups(tmp_path: Path, grey: Modality) -> None:
    fill(tmp_path / "in", 10)
    rows = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    integers, scale, offset = rows.read(np.array([3, 0, 9, 3]))
    for row, i in zip(integers, (3, 0, 9, 3), strict=True):
        assert np.array_equal(row, np.load(tmp_path / "in" / f"p{i // 2:03d}_{i:04d}.npy"))
    assert scale.tolist() == [1.0] * 4
    assert offset.tolist() == [0.0] * 4
    assert rows.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4] or len(set(rows.groups.tolist())) == 5
    assert all(rows.groups[2 * i] == rows.groups[2 * i + 1] for i in range(5))


def test_many_workers_write_what_one_writes(tmp_path: Path) -> None:
    from medcoss_cli.registry.discovery import load_modality

    modality = load_modality("xray").with_size((32, 32))
    assert modality.demo is not None
    modality.demo(tmp_path / "in", 80, 0)
    found = find(modality, tmp_path / "in", "all")
    one = prepare(modality, found, tmp_path / "one", workers=1)
    two = prepare(modality, found, tmp_path / "two", workers=2)
    assert len(one) == 80
    assert one.data_hash == two.data_hash
    everything = np.arange(80)
    assert np.array_equal(one.read(everything)[0], two.read(everything)[0])


def test_a_finished_set_is_taken_as_it_is_and_a_changed_setting_makes_a_new_one(tmp_path: Path, grey: Modality) -> None:
    fill(tmp_path / "in", 6)
    first = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    stamp = (first.folder / "index.json").stat().st_mtime_ns
    again = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    assert again.folder == first.folder
    assert (again.folder / "index.json").stat().st_mtime_ns == stamp
    assert prepare(grey.with_size((16, 16)), find(grey, tmp_path / "in"), tmp_path / "out").folder != first.folder
    fill(tmp_path / "in", 1, start=6)
    assert prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out").folder != first.folder


def test_it_goes_on_where_it_stopped(tmp_path: Path, grey: Modality) -> None:
    fill(tmp_path / "in", 40)
    whole = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    kept, removed = whole.folder / "shard-00000.npy", whole.folder / "shard-00001.npy"
    stamp = kept.stat().st_mtime_ns
    for path in (whole.folder / "index.json", removed, removed.with_suffix(".json")):
        path.unlink()
    again = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    assert again.data_hash == whole.data_hash
    assert kept.stat().st_mtime_ns == stamp


def test_bad_files_go_to_quarantine_and_the_rest_goes_on(tmp_path: Path, grey: Modality) -> None:
    fill(tmp_path / "in", 40)
    (tmp_path / "in" / "p100_zero.npy").write_bytes(b"")
    (tmp_path / "in" / "bad.npy").write_bytes(b"x")
    np.save(tmp_path / "in" / "p101_flat.npy", np.zeros((1, 8, 8), np.uint8))
    found = find(grey, tmp_path / "in")
    rows = prepare(grey, found, tmp_path / "out", bad_share=0.1)
    assert len(rows) == 40
    with rows.quarantine.open() as file:
        table = list(csv.DictReader(file))
    assert {Path(row["file"]).name for row in table} == {"p100_zero.npy", "bad.npy", "p101_flat.npy"}
    assert all(row["bad"] == "yes" and row["reason"] for row in table)
    with pytest.raises(DataError, match=r"7\.0% of the files are bad, 5\.0% are allowed"):
        prepare(grey, found, tmp_path / "out", bad_share=0.05)
    with pytest.raises(DataError, match="allowed") as fresh:
        prepare(grey, found, tmp_path / "elsewhere", bad_share=0.05)
    assert fresh.value.exit_code == 4


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((1, 4, 8, 8), np.uint8), "3D data where 2D is expected"),
        (np.random.default_rng(0).integers(0, 9, (3, 8, 8)), "3 channels where 1 are expected"),
        (np.full((1, 8, 8), np.nan), "every value is NaN"),
        (np.full((1, 8, 8), 7), "every value is the same"),
    ],
)
def test_what_is_not_as_the_modality_says_is_refused(
    tmp_path: Path, grey: Modality, array: np.ndarray, reason: str
) -> None:
    np.save(tmp_path / "a_1.npy", array)
    with pytest.raises(DataError, match=reason):
        read_checked(grey, Record(tmp_path / "a_1.npy"))


def test_some_nan_is_replaced_and_said(tmp_path: Path, grey: Modality) -> None:
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    image[0, 0, 3], image[0, 5, 5] = np.nan, np.inf
    np.save(tmp_path / "a_1.npy", image)
    sample = read_checked(grey, Record(tmp_path / "a_1.npy"))
    assert np.isfinite(sample.array).all()
    assert sample.array[0, 0, 3] == 0
    assert "NaN" in sample.notes[0]


def test_missing_and_empty_folders_are_told(tmp_path: Path, grey: Modality) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find(grey, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="folder is empty"):
        find(grey, tmp_path / "empty")
    (tmp_path / "empty" / "bad.npy").write_bytes(b"")
    with pytest.raises(DataError, match="1 x broken header"):
        find(grey, tmp_path / "empty")


def test_no_permission_to_write(tmp_path: Path, grey: Modality, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "in", 4)

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ResourceError, match="a prepared set cannot be written here"):
        prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")


def test_no_space_is_told_before_it_runs_out(tmp_path: Path, grey: Modality, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "in", 40)
    real = os.statvfs
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100})())
    assert real is os.statvfs
    with pytest.raises(ResourceError, match="are free"):
        prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")


def test_a_folder_without_index_is_no_prepared_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a finished prepared set"):
        PreparedSet.open(tmp_path)


def test_the_index_holds_no_names(tmp_path: Path, grey: Modality) -> None:
    fill(tmp_path / "in", 4)
    rows = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    for path in rows.folder.glob("*.json"):
        assert "p000" not in json.dumps(json.loads(path.read_text()))


def test_fewer_files_than_bad_share_granularity(tmp_path: Path, grey: Modality) -> None:
    fill(tmp_path / "in", 1)
    rows = prepare(replace(grey), find(grey, tmp_path / "in"), tmp_path / "out")
    assert len(rows) == 1


def test_errors_are_of_the_one_kind() -> None:
    assert issubclass(DataError, MedcossError)


def test_a_row_that_cannot_be_read_is_a_part_of_its_table(tmp_path: Path) -> None:
    """One of 200 rows is half a percent, not one file of two."""
    (tmp_path / "in").mkdir()
    rows = "".join(f"p{n},Clear {n}.\n" for n in range(199))
    (tmp_path / "in" / "a.csv").write_text("id,text\n" + rows + "p199,Opacity, left.\n")
    report = load_modality("report")
    listing = find(report, tmp_path / "in")
    report = with_vocabulary(report, listing, Screen())
    prepared = prepare(report, listing, tmp_path / "out")
    assert (len(prepared), prepared.index["bad"]) == (199, pytest.approx(1 / 200))
    with pytest.raises(DataError, match=r"0\.5% of the files are bad"):
        prepare(report, listing, tmp_path / "strict", bad_share=0.004)


def test_names_that_are_not_utf8_and_texts_with_half_a_character(tmp_path: Path, grey: Modality) -> None:
    fill(tmp_path / "in", 3)
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / "in" / "p000_0000.npy").rename(tmp_path / "in" / f"{name}.npy")
    assert len(prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")) == 3
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / f"{name}.jsonl").write_text('{"text": "Cut \\ud83d here."}\n{"text": "No effusion."}\n')
    report = load_modality("report")
    listing = find(report, tmp_path / "texts")
    report = with_vocabulary(report, listing, Screen())
    assert len(prepare(report, listing, tmp_path / "out")) == 2


class Listening(Screen):
    """Keeps what is printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(f"note: {text}")


def patients_said(folder: Path) -> list[str]:
    screen = Listening()
    find(load_modality("xray"), folder, screen=screen)
    return [line for line in screen.lines if "patient" in line]


def test_how_patients_are_told_is_said_before_anything_is_split(tmp_path: Path) -> None:
    def pictures(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / name)
        return tmp_path / names[0].partition("/")[0]

    bids = pictures("a/sub-1/x.png", "a/sub-1/y.png", "a/sub-2/x.png")
    assert patients_said(bids) == ["xray: patients: 2, by sub-* (BIDS)"]
    (bids / "manifest.csv").write_text("path,group\nsub-1/x.png,anna\nsub-2/x.png,\n")
    assert patients_said(bids) == ["xray: patients: 2, by the column group of manifest.csv"]
    (line,) = patients_said(pictures("b/x.png", "b/y.png"))
    assert "no patient can be told from a manifest, a header or a name, so each of 2 recordings counts as a" in line
    assert patients_said(pictures("c/x.png")) == []


def test_rows_without_a_file_are_named_one_by_one(tmp_path: Path) -> None:
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "x.png")
    lines = ["path", "x.png", *(f"gone{n}.png" for n in range(25))]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    screen = Listening()
    find(load_modality("xray"), tmp_path, screen=screen)
    missing = [line for line in screen.lines if "is not there" in line or "are not there" in line]
    assert missing[0] == "note: line 3 of manifest.csv names 'gone0.png', which is not there"
    assert len(missing) == 21
    assert missing[-1] == "note: and 5 rows more that name files which are not there"


OBJECTS = b"\x93NUMPY\x01\x00\x37\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
HARM = {
    "no index": ("index.json", b"\x00"),
    "a list": ("index.json", b"[]"),
    "rows of objects": ("rows.npz", OBJECTS),
    "no zip": ("rows.npz", b"PK\x03\x04"),
    "an empty shard": ("shard-00000.npy", b""),
    "half of a shard": ("shard-00000.npy", None),
    "a shard of objects": ("shard-00000.npy", OBJECTS),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_set_is_a_sentence(tmp_path: Path, grey: Modality, harm: str) -> None:
    fill(tmp_path / "in", 10)
    rows = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    name, content = HARM[harm]
    path = rows.folder / name
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(DataError, match="damaged") as refused:
        prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out").read(np.arange(10))
    assert refused.value.where == str(path)
    assert refused.value.fix == f"delete {path.parent} and prepare again"


def test_a_shard_of_another_size_is_a_sentence(tmp_path: Path, grey: Modality) -> None:
    fill(tmp_path / "in", 10)
    rows = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    np.save(rows.folder / "shard-00000.npy", np.zeros((10, 1, 8, 9), np.uint8))
    with pytest.raises(DataError, match="it holds uint8 of 10 x 1 x 8 x 9"):
        PreparedSet.open(rows.folder).read(np.arange(10))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 2**63, "shards": [{"file": "shard-00000.npy", "rows": 2**63}]},
        {"rows": 0, "shards": [{"file": "shard-00000.npy", "rows": 0}]},
        {"refused": {"x": 10**15}},  # were they counted one by one, for days
        {"refused": {"x": -1}},
        {"notes": {"\ud800": 1}},
        {"data_hash": "\ud800"},
    ],
    ids=str,
)
def test_an_index_of_what_cannot_be_is_a_sentence(tmp_path: Path, grey: Modality, wrong: dict[str, object]) -> None:
    fill(tmp_path / "in", 10)
    path = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out").folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(DataError, match="damaged") as refused:
        prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    assert refused.value.where == str(path)


def test_what_was_refused_is_told_at_once_however_much_it_is(tmp_path: Path, grey: Modality) -> None:
    fill(tmp_path / "in", 10)
    path = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out").folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"refused": {"x": 2**40}}))
    screen = Listening()
    prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out", screen=screen)
    assert any(f"{2**40} x x" in line for line in screen.lines)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("records", np.arange(1, 11)),
        ("records", np.arange(-1, 9)),
        ("scale", np.ones(10, ">f4")),
        ("offset", np.ones(10, np.longdouble)),
    ],
)
def test_rows_of_what_cannot_be_are_a_sentence(
    tmp_path: Path, grey: Modality, name: str, values: np.ndarray[Any, Any]
) -> None:
    fill(tmp_path / "in", 10)
    path = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out").folder / "rows.npz"
    with np.load(path) as rows:
        arrays = dict(rows)
    np.savez(path, **(arrays | {name: values}))
    with pytest.raises(DataError, match=f"damaged .{name}") as refused:
        prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    assert refused.value.where == str(path)


@pytest.mark.parametrize(
    "other", [np.zeros((16, 3, 8, 8), np.uint8), np.zeros((16, 1, 8, 8), ">i2")], ids=["channels", "order"]
)
def test_a_shard_unlike_the_others_is_a_sentence(tmp_path: Path, grey: Modality, other: np.ndarray[Any, Any]) -> None:
    fill(tmp_path / "in", 32)
    rows = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out", workers=1)
    path = rows.folder / "shard-00001.npy"
    np.save(path, other)
    with pytest.raises(DataError, match=r"it holds .* of 16 x") as refused:
        PreparedSet.open(rows.folder).read(np.arange(32))
    assert refused.value.where == str(path)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "null",
        '{"rows": 10}',
        "[" * 100_000,
        '{"refused": [[99, "x", true]]}',
        '{"refused": [[0, "\\ud800", true]]}',
        json.dumps({"refused": [], "records": [*range(9), 2**63]}),
        json.dumps({"refused": [], "bytes": 10**400}),
        json.dumps({"refused": [], "hash": "\ud800"}),
        json.dumps({"refused": [], "groups": ["\ud800"] * 10}),
    ],
    ids=range(10),
)
def test_what_was_noted_of_a_shard_is_checked_before_it_goes_on(tmp_path: Path, grey: Modality, wrong: str) -> None:
    fill(tmp_path / "in", 10)
    rows = prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    (rows.folder / "index.json").unlink()
    facts = rows.folder / "shard-00000.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | json.loads(wrong)) if "refused" in wrong else wrong)
    with pytest.raises(DataError, match="damaged") as refused:
        prepare(grey, find(grey, tmp_path / "in"), tmp_path / "out")
    assert refused.value.where == str(facts)
