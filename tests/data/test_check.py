"""The screen of `data check`: folders, reasons, patients, and what to type next; and its bar."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcoss_cli.console import Bar, Screen
from medcoss_cli.data.check import Checked, check_content, check_modality, show
from medcoss_cli.registry.discovery import load_modality
from tests.conftest import CommandLine
from tests.pretraining_runs import write_demo


class Recorded(Screen):
    """Keeps tables, lines and how far the bar went."""

    def __init__(self) -> None:
        self.tables: dict[str, list[list[str]]] = {}
        self.lines: list[str] = []
        self.bars: list[tuple[int, int]] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        assert all(len(row) == len(columns) for row in rows)
        self.tables[title] = [list(row) for row in rows]

    @contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Bar]:
        bar = Counted()
        yield bar
        self.bars.append((bar.done, total))


class Counted(Bar):
    """How far it went."""

    done = 0

    def advance(self, steps: int = 1, **facts: str) -> None:
        self.done += steps


def pictures(root: Path, *names: str) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32)).astype(np.uint8)).save(root / name, "png")
    return root


def shown(checked: Checked) -> Recorded:
    screen = Recorded()
    show(checked, screen)
    return screen


def test_files_of_one_kind_are_one_line_and_masks_are_none_of_them(tmp_path: Path) -> None:
    root = pictures(tmp_path, "images/a.png", "images/b.png", "images/c.png", "masks/a.png", "masks/b.png")
    (root / "images" / "d.png").write_bytes((root / "images" / "a.png").read_bytes()[:60])
    (root / "images" / "e.png").write_bytes(b"")
    (root / "notes.json").write_text("{}")
    modalities = [load_modality(name) for name in ("xray", "pathology", "ct")]
    screen = Recorded()
    checked = check_content(root, screen, modalities)
    assert screen.bars == [(8, 8)]
    show(checked, screen)
    assert screen.tables["What lies here"] == [
        [".", "text", "1", "", "1", "", ""],
        ["images", "image (2D, PNG)", "4", "3", "", "1", "1 x 32 x 32"],
        ["images", "other files", "1", "", "", "1", ""],
        ["masks", "mask", "2", "", "2", "", ""],
    ]
    assert screen.tables["Not read"][0] == ["2", "left out: a mask", "masks/a.png, masks/b.png"]
    assert screen.lines[0] == "files and series: 3 read, 3 left out, 2 refused"
    assert screen.lines[-1] == f"next: medcoss data prepare {root} --modality xray"


def test_many_folders_alike_are_one_line(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"p{n:02d}/s{k}.png" for n in range(25) for k in range(2)), "other/x.png")
    screen = shown(check_content(tmp_path, Screen(), [load_modality("xray")]))
    assert screen.tables["What lies here"] == [
        ["other", "image (2D, PNG)", "1", "1", "", "", "1 x 32 x 32"],
        ["p* (25 folders)", "image (2D, PNG)", "50", "50", "", "", "1 x 32 x 32"],
    ]
    assert "patients: 26" in screen.lines  # a folder among patients is one as well: rather too few groups than a leak


def test_a_recording_is_one_line_whatever_its_parts(tmp_path: Path) -> None:
    write_demo(tmp_path, ct=1)
    modality = load_modality("ct")
    checked = check_modality(modality, tmp_path / "ct", "all", Screen())
    read = [verdict for verdict in checked.verdicts if verdict.verdict == "read"]
    assert len(read) == 1
    windows = [item for item in modality.loader.find(tmp_path / "ct", "all") if hasattr(item, "part")]
    assert read[0].parts == len(windows) > 1
    pages = [Image.fromarray(np.arange(n, n + 100, dtype=np.uint8).reshape(10, 10)) for n in range(30)]
    (tmp_path / "clip").mkdir()
    pages[0].save(tmp_path / "clip" / "a.tif", save_all=True, append_images=pages[1:])
    screen = shown(check_modality(load_modality("xray"), tmp_path / "clip", "all", Screen()))
    assert len(screen.tables["What lies here"]) == 1
    assert screen.lines[-1].endswith("--modality xray")


def test_a_series_is_one_line_and_its_files_move_the_bar(tmp_path: Path) -> None:
    write_demo(tmp_path, ct=2)
    screen = Recorded()
    checked = check_content(tmp_path / "ct", screen, [load_modality("ct"), load_modality("mri")])
    ((done, total),) = screen.bars
    assert done == total == sum(verdict.files for verdict in checked.verdicts) > 20
    assert [verdict.what for verdict in checked.verdicts if verdict.files > 1] == ["CT"] * sum(
        verdict.files > 1 for verdict in checked.verdicts
    )


def test_a_manifest_with_a_fault_is_a_line_not_the_end(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    (tmp_path / "manifest.csv").write_text("name,label\na.png,x\n")
    checked = check_content(tmp_path, Screen())
    verdicts = {verdict.file: verdict.verdict for verdict in checked.verdicts}
    assert verdicts == {"a.png": "read", "manifest.csv:1": "quarantine"}


@pytest.mark.parametrize("name", ["a b", "a'b"])
def test_the_next_command_can_be_pasted(tmp_path: Path, name: str) -> None:
    root = pictures(tmp_path / name, "a.png")
    line = shown(check_content(root, Screen(), [load_modality("xray")])).lines[-1]
    assert shlex.split(line.removeprefix("next: "))[3] == str(root)


def test_the_next_command_has_the_options_of_this_one(tmp_path: Path, command_line: CommandLine) -> None:
    """Without the column of patients it would group the files otherwise."""
    for n in range(4):
        picture = np.random.default_rng(n).integers(0, 250, (40, 40)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{n}.png")
    (tmp_path / "list.csv").write_text("Datei;PID\n0.png;1\n1.png;1\n2.png;2\n3.png;2\n")
    given = ["--columns", "path=Datei,group=PID", "--allow", "burned-in"]
    checked = command_line("data", "check", str(tmp_path), "--modality", "xray", *given)
    line = next(line for line in (checked.out + checked.err).splitlines() if line.startswith("next: medcoss "))
    words = shlex.split(line.removeprefix("next: medcoss "))
    assert set(given) <= set(words)
    prepared = command_line(*words, "--prepared", str(tmp_path / "prepared"), "--size", "32x32")
    assert prepared.code == 0, prepared.err
    assert "patients: 2, by the column group of list.csv" in prepared.out + prepared.err


def test_an_empty_folder_is_told_as_such(tmp_path: Path, command_line: CommandLine) -> None:
    for given, fix in (((), "data check FOLDER"), (("--modality", "ct"), "read from DICOM, NIfTI, NRRD and MetaImage")):
        checked = command_line("data", "check", str(tmp_path), *given)
        assert checked.code == 4
        assert "no data files were found here" in checked.err
        assert fix in checked.err
        assert "table" not in checked.err
