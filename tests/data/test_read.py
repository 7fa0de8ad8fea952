"""Files beside a record's source: part of it, fingerprinted with it, missed by name."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its users' name for it
from PIL import Image

from medcoss_cli.console import Screen
from medcoss_cli.data.check import check_content, check_modality
from medcoss_cli.data.inputs import list_records, names_of
from medcoss_cli.data.prepare import prepare
from medcoss_cli.data.read import find, read_checked
from medcoss_cli.errors import DataError, ResourceError
from medcoss_cli.kit import Patches, VolumeFolder, entries
from medcoss_cli.plugin import CompleteModality, Modality, Record, Sample, Skipped
from medcoss_cli.registry import validate
from medcoss_cli.registry.discovery import load_modality


@dataclass(frozen=True)
class Pairs:
    """A header (.hea) and its samples (.dat), as WFDB has them."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record | Skipped]:
        for entry in entries(root, split):
            if isinstance(entry, Skipped):
                yield entry
            elif entry.path.suffix == ".hea":
                yield Record(entry.path, None, entry.group, files=(entry.path.with_suffix(".dat"),))
            else:
                yield Skipped(entry.path, "no header")

    def read(self, record: Record) -> Sample:
        return Sample(np.fromfile(record.files[0], np.int16).reshape(1, -1))


WAVES = validate.check(Modality("waves", "Waves", dims=1, size=(64,), channels=1, loader=Pairs()))
VOLUMES = validate.check(
    Modality("vol", "Vol", 3, (8, 16, 16), 1, VolumeFolder(spacing=None), tokenizer=Patches("patch3d-8"))
)


def waves(root: Path, count: int = 3) -> Path:
    root.mkdir()
    for i in range(count):
        (root / f"{i}.hea").write_text("1 lead")
        np.random.default_rng(i).integers(-90, 90, 64).astype(np.int16).tofile(root / f"{i}.dat")
    return root


def volumes(root: Path, ending: str) -> Path:
    root.mkdir()
    for i in range(2):
        image = sitk.GetImageFromArray(np.random.default_rng(i).integers(0, 99, (8, 16, 16)).astype(np.int16))
        sitk.WriteImage(image, str(root / f"{i}{ending}"))
    return root


class Heard(Screen):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)

    warn = say


def prepared_key(modality: CompleteModality, root: Path, where: Path) -> str:
    return prepare(modality, find(modality, root), where, workers=1, screen=Screen()).key


@pytest.mark.parametrize("ending", ["waves", ".mhd", ".nhdr"])
def test_sidecars_are_not_left_out_and_belong_to_the_prepared_set(tmp_path: Path, ending: str) -> None:
    modality = WAVES if ending == "waves" else VOLUMES
    root = waves(tmp_path / "data") if ending == "waves" else volumes(tmp_path / "data", ending)
    screen = Heard()
    found = find(modality, root, screen=screen)
    assert found.skipped == []
    assert not any("left out" in line for line in screen.heard)
    assert {verdict.verdict for verdict in check_modality(modality, root, "train", Screen()).verdicts} == {"read"}
    assert {record.files[0].suffix for record in found.records} <= {".dat", ".raw", ".gz"}
    before = prepared_key(modality, root, tmp_path / "prepared")
    assert prepared_key(modality, root, tmp_path / "prepared") == before
    sidecar = found.records[0].files[0]
    os.utime(sidecar, (1, 1))
    assert prepared_key(modality, root, tmp_path / "prepared") != before
    sidecar.unlink()
    [left] = find(modality, root).skipped
    assert left.bad
    assert sidecar.name in left.reason
    assert "is not there" in left.reason
    if ending != "waves":
        with pytest.raises(DataError, match=rf"{sidecar.name}, which holds its voxels, is not there"):
            modality.loader.read(found.records[0])


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_a_survey_reads_headers_with_their_voxels(tmp_path: Path, ending: str) -> None:
    verdicts = check_content(volumes(tmp_path / "data", ending), Screen()).verdicts
    assert [(verdict.file, verdict.verdict) for verdict in verdicts] == [(f"{i}{ending}", "read") for i in range(2)]


def test_no_two_results_are_called_the_same(tmp_path: Path) -> None:
    for name in ("a/x.hea", "a/x.rec.gz", "b/x.hea", "a/t.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    a, b = tmp_path / "a", tmp_path / "b"

    def names(*records: Any) -> list[tuple[str, str]]:
        return [(whole.as_posix(), own.as_posix()) for whole, own in names_of(records)]

    cut = [(a, Record(a / "x.hea", ("window", i, i + 8))) for i in (0, 8)]
    assert names(*cut) == [("x", "x-window-0-8"), ("x", "x-window-8-16")]
    assert names(cut[0]) == [("x", "x")]
    assert names((a, Record(a / "x.hea")), (a, Record(a / "x.rec.gz"))) == [("x.hea",) * 2, ("x.rec.gz",) * 2]
    assert names((a, Record(a / "x.hea")), (b, Record(b / "x.hea"))) == [("a/x.hea",) * 2, ("b/x.hea",) * 2]
    rows = [(a, Record(a / "t.csv", ("row", i))) for i in (3, 4)]
    assert names(*rows) == [("t-3", "t-3"), ("t-4", "t-4")]
    series = [(tmp_path, Record(a, ("series", uid, "window", 0, 8))) for uid in ("1.2", "1.3")]
    assert names(*series) == [("a/1.2", "a/1.2"), ("a/1.3", "a/1.3")]
    (tmp_path / "c" / "a").mkdir(parents=True)
    (tmp_path / "c" / "a" / "x.hea").write_text("1")
    other = tmp_path / "c" / "a"
    two = names((a, Record(a / "x.hea")), (other, Record(other / "x.hea")))
    assert two == [("a/x.hea",) * 2, ("c/a/x.hea",) * 2]


def test_a_folder_and_a_file_in_it_are_one_input_each(tmp_path: Path) -> None:
    root = waves(tmp_path / "data")
    records, bad = list_records(WAVES, [root, root / "1.hea"], Screen())
    assert [record.source.name for _, record in records] == ["0.hea", "1.hea", "2.hea"]
    assert bad == []


def test_files_that_links_lead_to_outside_of_the_folder_are_counted_without_their_names(tmp_path: Path) -> None:
    root = volumes(tmp_path / "in", ".nii")
    volumes(tmp_path / "out", ".nii")
    (root / "linked").symlink_to(tmp_path / "out")
    (root / "one.nii").symlink_to(tmp_path / "out" / "0.nii")
    (root / "own.nii").symlink_to(root / "0.nii")
    line = "3 files lie outside of the folder: links lead to them"
    screen = Heard()
    assert len({record.source for record in find(VOLUMES, root, screen=screen).records}) == 6
    assert screen.heard.count(line) == 1
    for verb in (
        lambda heard: check_modality(VOLUMES, root, "train", heard),
        lambda heard: check_content(root, heard),
        lambda heard: list_records(VOLUMES, [root], heard),
    ):
        screen = Heard()
        verb(screen)
        assert screen.heard.count(line) == 1
    screen = Heard()
    find(VOLUMES, tmp_path / "out", screen=screen)
    (tmp_path / "all").symlink_to(tmp_path / "out")
    find(VOLUMES, tmp_path / "all", screen=screen)
    assert not any("outside" in text for text in screen.heard)


SHORT = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC]


@pytest.mark.parametrize(
    ("code", "kind"), [*((code, ResourceError) for code in SHORT), (errno.EACCES, DataError), (errno.EIO, DataError)]
)
def test_a_file_that_cannot_be_read_now_is_not_taken_for_a_bad_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    """Else the set that is being prepared would lack it for ever."""
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png")
    modality = load_modality("xray")
    (record,) = find(modality, tmp_path).records
    assert isinstance(record, Record)
    assert read_checked(modality, record).array.size == 64
    path_open = Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.suffix == ".png":
            raise OSError(code, os.strerror(code), str(self))
        return path_open(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(kind, match=os.strerror(code) if kind is DataError else "not enough|too many|no space"):
        read_checked(modality, record)
