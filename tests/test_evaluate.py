"""Testing a fine-tuned run on data it never saw: whole, without its training patients, by the training's baseline."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.evaluate import evaluate
from tests.conftest import CommandLine
from tests.finetuning_runs import CLASSES, tune
from tests.pretraining_runs import StopAfter, options


def write(root: Path, rows: list[tuple[str, str, str]], seed: int) -> Path:
    """Noise images 0.png, 1.png, ... with (split, group, label)."""
    root.mkdir(parents=True)
    draws = torch.Generator().manual_seed(seed)
    lines = ["path,split,group,label"]
    for i, (split, group, label) in enumerate(rows):
        pixels = torch.randint(0, 255, (32, 32), generator=draws, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(root / f"{i}.png")
        lines.append(f"{i}.png,{split},{group},{label}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained on 12 samples of class a and 4 of b, and other folders beside its data."""
    place = tmp_path_factory.mktemp("place")
    splits = ["train"] * 16 + ["val"] * 4 + ["test"] * 4
    rows = [(split, f"Smith{i // 2}", "b" if i % 4 == 3 else "a") for i, split in enumerate(splits)]
    write(place / "data" / "ours", rows, 0)
    theirs = [(("train", "val", "test")[i % 3], f"Jones{i}", "a" if i % 3 == 0 else "b") for i in range(12)]
    write(place / "data" / "theirs", theirs, 1)
    tune(place, place / "data", CLASSES, "data.folder=ours", "train.steps=2", seeds=(0, 1))
    return place


def scores_on(place: Path, data: Path | None, *, screen: StopAfter | None = None, **more: Any) -> dict[str, Any]:
    """What `evaluate` returns for the run on a folder."""
    choices = options(place, place / "data")
    return evaluate(place / "runs" / "run", data, None, None, choices, screen or StopAfter(0), **more)


def test_the_trivial_baseline_is_the_trainings_whatever_is_tested(place: Path) -> None:
    trained = json.loads((place / "runs" / "run" / "results.json").read_text())["seeds"][0]["test"]["baseline"]
    assert trained["accuracy"] == 0.75
    assert scores_on(place, None)["seeds"][0]["test"]["baseline"] == trained
    theirs = scores_on(place, place / "data" / "theirs")["seeds"][0]["test"]["baseline"]
    assert theirs["accuracy"] == pytest.approx(4 / 12)  # a is more frequent where it was trained, b is here


def test_training_patients_under_another_file_are_refused(place: Path, tmp_path: Path) -> None:
    root = write(tmp_path / "new", [("test", "Smith0", "a"), ("test", "Smith1", "b"), ("test", "Jones0", "b")], 2)
    with pytest.raises(DataError, match=r"trained on or chosen by 2 of these 3 patients and 0 of these 3 samples"):
        scores_on(place, root)
    screen = StopAfter(0)
    results = scores_on(place, root, screen=screen, allow_overlap=True)
    assert results["overlap"] == {"groups": 2, "samples": 0, "allowed": True}
    assert any("2 of these 3 patients" in line for line in screen.said), screen.said


def test_training_samples_under_another_name_are_refused(place: Path, tmp_path: Path) -> None:
    root = write(tmp_path / "new", [("test", f"Doe{i}", "ab"[i % 2]) for i in range(4)], 3)
    (root / "1.png").write_bytes((place / "data" / "ours" / "5.png").read_bytes())
    with pytest.raises(DataError, match=r"0 of these 4 patients and 1 of these 4 samples") as error:
        scores_on(place, root)
    assert "--allow-overlap" in str(error.value)


def test_no_run_and_no_data_is_written_over(place: Path, tmp_path: Path) -> None:
    run, theirs, choices = place / "runs" / "run", place / "data" / "theirs", options(place, place / "data")
    before = (run / "results.json").read_bytes()
    for out, words in ((run, "this is the folder of a run"), (theirs, "this is the folder of data")):
        with pytest.raises(UsageError, match=words):
            evaluate(run, theirs, None, out, choices, StopAfter(0))
    assert (run / "results.json").read_bytes() == before
    with pytest.raises(DataError, match="there is no such folder"):
        evaluate(run, tmp_path / "nowhere", None, None, choices, StopAfter(0))


def test_no_path_is_in_what_it_writes(place: Path, tmp_path: Path) -> None:
    absolute = f"data.folder={place / 'data' / 'ours'}"
    tune(place, place / "data", CLASSES, absolute, "train.steps=2", name="absolute")
    run, theirs = place / "runs" / "absolute", place / "data" / "theirs"
    evaluate(run, theirs, None, tmp_path / "out", options(place, place / "data"), StopAfter(0))
    told = (tmp_path / "out" / "results.json").read_text()
    for word in (str(place), "Jones", "Smith", ".png"):
        assert word not in told


def test_equal_names_of_files_are_no_equal_patients(place: Path, tmp_path: Path) -> None:
    root = write(tmp_path / "new", [("test", "", "ab"[i % 2]) for i in range(4)], 4)
    assert scores_on(place, root)["overlap"] == {"groups": 0, "samples": 0, "allowed": False}


def test_no_patient_can_be_read_from_what_the_run_keeps(place: Path) -> None:
    import hashlib

    text = (place / "runs" / "run" / "training-data.json").read_text()
    assert len(json.loads(text)["groups"]) == 10
    sample = (place / "data" / "ours" / "0.png").read_bytes()
    for name in (b"Smith0", sample):
        for kind in ("sha256", "sha1", "md5"):
            assert hashlib.new(kind, name).hexdigest() not in text
        assert hashlib.blake2b(name, digest_size=16).hexdigest() not in text
    assert "Smith" not in text


def test_data_of_others_is_tested_whole_and_what_is_left_out_is_counted(place: Path, tmp_path: Path) -> None:
    results = scores_on(place, place / "data" / "theirs")
    assert results["data"]["test"]["samples"] == 12
    assert all(seed["test"]["samples"] == 12 for seed in results["seeds"])
    assert results["left_out"] == {"unreadable": 0, "without a target": 0}
    root = write(tmp_path / "new", [("train", f"Roe{i}", "ab"[i % 2]) for i in range(40)], 5)
    (root / "7.png").write_bytes(b"broken")
    results = scores_on(place, root)
    assert (results["seeds"][0]["test"]["samples"], results["left_out"]["unreadable"]) == (39, 1)


def test_a_test_on_other_data_is_told_with_intervals_and_has_a_page(
    place: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    run, theirs, out = place / "runs" / "run", place / "data" / "theirs", tmp_path / "out"
    answer = command_line("evaluate", str(run), "--data", str(theirs), "-o", str(out))
    assert answer.code == 0
    assert "all 12 cases are tested, whatever their split (4 train, 4 val, 4 test)" in answer.err
    [line] = [line for line in answer.out.splitlines() if line.startswith("Accuracy")]
    assert len(re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", line)) == 2  # both seeds
    assert command_line("report", str(out)).code == 0
    page = (out / "report.html").read_text()
    assert "scratch, other data" in page
    assert str(place) not in page
