"""Prediction: every input's own grid, broken files aside, the others done; evaluation on new data and a newer encoder."""

from __future__ import annotations

import csv
import json
import math
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its users' name for it
import torch
from PIL import Image

from medcoss_cli import load
from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, DataError, NonFiniteError, ResourceError, UsageError
from medcoss_cli.evaluate import evaluate
from medcoss_cli.finetuning.checkpoints import trained_seeds
from medcoss_cli.model.finetuned import FinetunedNetwork
from medcoss_cli.predict import predict
from tests.conftest import CommandLine
from tests.finetuning_runs import CLASSES, MASKS, tune
from tests.pretraining_runs import options, train, write_demo


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), report=80, xray=60, ct=16)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return tune(tmp_path_factory.mktemp("classes"), data, CLASSES, seeds=(0, 10))[1]


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return tune(tmp_path_factory.mktemp("masks"), data, MASKS)[1]


def test_classes_come_with_probabilities_and_broken_files_aside(
    tmp_path: Path, data: Path, classes: Path, command_line: CommandLine
) -> None:
    scans = tmp_path / "scans"
    (scans / "ward 3").mkdir(parents=True)
    good = sorted((data / "xray").rglob("*.png"))[:3]
    for i, path in enumerate(good):
        (scans / "ward 3" / f"{i}.png").symlink_to(path)
    (scans / "broken.png").write_bytes(good[0].read_bytes()[:200])
    answer = command_line("predict", str(classes), str(scans), "-o", str(tmp_path / "out"))
    assert answer.code == 4
    assert "quarantine.csv; all others are done" in answer.err
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["input"] for row in rows] == ["ward 3/0", "ward 3/1", "ward 3/2"]
    for row in rows:
        shares = {key[2:]: float(value) for key, value in row.items() if key.startswith("p_")}
        assert math.isclose(sum(shares.values()), 1, abs_tol=1e-4)
        assert row["predicted"] == max(shares, key=lambda key: shares[key])
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())[0]["input"] == "ward 3/0"
    with (tmp_path / "out" / "quarantine.csv").open() as file:
        assert [Path(row["file"]).name for row in csv.DictReader(file)] == ["broken.png"]


def test_a_case_gets_the_class_it_got_in_the_test(tmp_path: Path, data: Path, classes: Path) -> None:
    with (classes / "seed-0" / "cases.csv").open() as file:
        tested = list(csv.DictReader(file))
    lines = (data / "xray" / "manifest.csv").read_text().splitlines()
    column = lines[0].split(",").index("path")
    for case in tested[:3]:
        path = data / "xray" / lines[int(case["where"].rpartition(":")[2]) - 1].split(",")[column]
        out = tmp_path / path.stem
        predict(classes, [path], out, seed=0, overlays=0, screen=Screen())
        with (out / "predictions.csv").open() as file:
            [row] = csv.DictReader(file)
        assert float(row[f"p_{case['predicted']}"]) == pytest.approx(float(case[f"p_{case['predicted']}"]), abs=1e-4)


def test_no_class_where_the_network_gives_no_numbers(
    tmp_path: Path, data: Path, classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FinetunedNetwork, "forward", lambda self, inputs: torch.full((len(inputs), 2), math.nan))
    path = next((data / "xray").rglob("*.png"))
    with pytest.raises(NonFiniteError, match="not finite"):
        predict(classes, [path], tmp_path / "out", seed=0, overlays=0, screen=Screen())


def test_a_mask_lies_on_the_grid_of_its_volume(tmp_path: Path, masks: Path) -> None:
    generator = np.random.default_rng(0)
    image = sitk.GetImageFromArray(generator.integers(-1000, 400, (9, 20, 30)).astype(np.int16))
    image.SetSpacing((3.0, 2.5, 7.0))
    image.SetOrigin((-11.0, 5.0, 77.0))
    turn = np.array([[0.0, -1, 0], [0.8, 0, -0.6], [0.6, 0, 0.8]])
    image.SetDirection(turn.flatten().tolist())
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))
    written = predict(masks, [tmp_path / "scan.nii.gz"], tmp_path / "out", seed=None, overlays=1, screen=Screen())
    mask = sitk.ReadImage(str(tmp_path / "out" / "scan.nii.gz"))
    assert mask.GetSize() == image.GetSize()
    for name in ("Spacing", "Origin", "Direction"):
        assert getattr(mask, f"Get{name}")() == pytest.approx(getattr(image, f"Get{name}")(), abs=1e-5)
    assert {path.name for path in written.files} == {"scan.nii.gz", "scan-overlay.png"}


def test_a_dicom_series_gets_a_dicom_segmentation(tmp_path: Path, data: Path, masks: Path) -> None:
    import pydicom

    series = next(path.parent for path in sorted((data / "ct").rglob("*.dcm")))
    written = predict(masks, [series], tmp_path / "out", seed=None, overlays=0, screen=Screen())
    [nifti] = [path for path in written.files if path.name.endswith(".nii.gz")]
    [segmentation] = [path for path in written.files if path.suffix == ".dcm"]
    assert pydicom.dcmread(segmentation).Modality == "SEG"
    slices = len(list(series.glob("*.dcm")))
    assert sitk.ReadImage(str(nifti)).GetSize()[2] == slices


@pytest.mark.parametrize("spacing", [1e-6, 1e-310])
def test_a_grid_that_no_memory_holds_is_refused_at_every_door(
    tmp_path: Path, data: Path, masks: Path, command_line: CommandLine, spacing: float
) -> None:
    run = shutil.copytree(masks, tmp_path / "runs" / "run")
    stored = torch.load(run / "seed-0" / "model.pt", weights_only=True)
    stored["task"]["spacing"] = [spacing] * 3
    torch.save(stored, run / "seed-0" / "model.pt")
    series = next(path.parent for path in sorted((data / "ct").rglob("*.dcm")))
    volume = np.random.default_rng(0).integers(-1000, 400, (16, 20, 30)).astype(np.int16)
    for call in (
        lambda: predict(run, [series], tmp_path / "out", seed=None, overlays=0, screen=Screen()),
        lambda: evaluate(run, None, None, None, options(tmp_path, data), Screen()),
        lambda: load(run).predict(volume, spacing=(3, 2, 2)),
    ):
        with pytest.raises(ResourceError, match=r"GiB of memory, .* are free; close other programs"):
            call()  # type: ignore[no-untyped-call]  # each returns something else
    answer = command_line("predict", str(run), str(series), "-o", str(tmp_path / "out"))
    assert (answer.code, f"{series}" in answer.err) == (6, True)


def test_windows_that_never_end_are_refused(tmp_path: Path, masks: Path) -> None:
    run = shutil.copytree(masks, tmp_path / "run")
    stored = torch.load(run / "seed-0" / "model.pt", weights_only=True)
    stored["task"]["predict"]["overlap"] = 0.999
    torch.save(stored, run / "seed-0" / "model.pt")
    with pytest.raises(CheckpointError, match="overlap"):
        load(run)


def test_nothing_to_predict_and_no_such_seed(tmp_path: Path, classes: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no readable data"):
        predict(classes, [tmp_path / "empty"], tmp_path / "out", seed=None, overlays=0, screen=Screen())
    with pytest.raises(UsageError, match="there is no seed 7"):
        predict(classes, [tmp_path / "empty"], tmp_path / "out", seed=7, overlays=0, screen=Screen())
    with pytest.raises(UsageError, match="no fine-tuned model"):
        list(trained_seeds(tmp_path, Screen()))


def test_evaluation_gives_what_the_run_gave(tmp_path: Path, data: Path, classes: Path, masks: Path) -> None:
    for run in (classes, masks):
        known = json.loads((run / "results.json").read_text())
        again = evaluate(run, None, None, tmp_path / run.parent.name, options(tmp_path, data), Screen())
        for seed, own in zip(known["seeds"], again["seeds"], strict=True):
            assert json.dumps(own["test"]) == json.dumps(seed["test"])
        assert (tmp_path / run.parent.name / "results.json").exists()


def test_a_newer_encoder_under_an_old_head(tmp_path: Path, data: Path, classes: Path) -> None:
    train(tmp_path, data)
    old = tmp_path / "runs" / "run" / "ckpt.pt"
    _, run = tune(tmp_path, data, CLASSES, "head.probe=true", start=str(old), name="probe")
    same = evaluate(run, None, old, None, options(tmp_path, data), Screen())
    first, second = same["seeds"]
    assert json.dumps(first["test"]) == json.dumps(second["test"])
    train(tmp_path, data, "seed=1", name="other")
    other = evaluate(run, None, tmp_path / "runs" / "other" / "ckpt.pt", None, options(tmp_path, data), Screen())
    assert other["seeds"][0]["test"] == first["test"]
    networks = [torch.tensor(e["test"]["confusion"]) for e in other["seeds"]]
    assert networks[0].sum() == networks[1].sum()
    with pytest.raises(UsageError, match="trained together with its encoder"):
        evaluate(classes, None, old, None, options(tmp_path, data), Screen())


def test_labels_the_head_does_not_know_are_refused(tmp_path: Path, data: Path, classes: Path) -> None:
    root = tmp_path / "new"
    root.mkdir()
    source = next((data / "xray").rglob("*.png"))
    (root / "a.png").symlink_to(source)
    (root / "manifest.csv").write_text("path,split,group,label\na.png,test,p1,unheard\n")
    with pytest.raises(DataError, match="the label 'unheard' is none of"):
        evaluate(classes, root, None, None, options(tmp_path, data), Screen())


def test_the_command_line_from_recipe_to_report(
    tmp_path: Path, data: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "task.yaml").write_text(CLASSES)
    place = ["--data-root", str(data), "--prepared", str(data / "prepared")]
    run = tmp_path / "runs" / "task"
    monkeypatch.chdir(tmp_path)
    dry = command_line("finetune", "task.yaml", "--dry-run", *place)
    assert (dry.code, run.exists()) == (0, False)
    assert "8 steps of 8" in dry.out + dry.err
    done = command_line("finetune", "task.yaml", "--seeds", "0,1", "--json", *place)
    assert done.code == 0
    assert [seed["seed"] for seed in json.loads(done.out)["seeds"]] == [0, 1]
    assert command_line("finetune", "task.yaml", "--seeds", "0,x", *place).code == 2
    tested = command_line("evaluate", str(run), "--json")
    assert tested.code == 0
    assert json.loads(tested.out)["summary"].keys() == {"as trained"}
    assert command_line("report", str(run)).code == 0
    assert (run / "report.html").exists()
    stored = torch.load(run / "seed-1" / "model.pt", weights_only=True)
    del stored["facts"]["validation"]["accuracy"]
    torch.save(stored, run / "seed-1" / "model.pt")
    several = command_line("predict", str(run), str(data / "xray"), "-o", str(tmp_path / "out"))
    assert (several.code, "the validation scores of seed 1 are damaged" in several.err) == (5, True)
    kept = run / "seed-0" / "result.json"
    content = json.loads(kept.read_text())
    content["test"]["intervals"]["accuracy"] = [0.5]
    kept.write_text(json.dumps(content))
    resumed = command_line("finetune", "--resume", str(run))
    assert (resumed.code, "the seed's result is damaged" in resumed.err) == (5, True)


def test_a_spreadsheet_with_columns_of_its_own_is_trained_and_tested_on(
    tmp_path: Path, data: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same cases as from the manifest.csv that it replaces, with the same result to the last digit."""
    openpyxl = pytest.importorskip("openpyxl")
    root = tmp_path / "Studie"
    shutil.copytree(data / "xray", root)
    with (root / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (root / "manifest.csv").unlink()
    book = openpyxl.Workbook()
    book.active.append(("Befundliste",))
    book.active.append(("PID", "Datei", "Befund", "Satz"))
    for number, row in enumerate(rows):
        path = str(root / row["path"]) if number % 2 else row["path"].replace("/", "\\").upper()
        book.active.append((row["group"], path, row["label"], row["split"].capitalize()))
    book.save(root / "Befunde.xlsx")
    (tmp_path / "task.yaml").write_text(CLASSES)
    monkeypatch.chdir(tmp_path)
    columns = ["--columns", "path=Datei,label=Befund,group=PID,split=Satz"]
    place = ["--data-root", str(tmp_path), "--prepared", str(tmp_path / "prepared"), "--json"]
    there = command_line("finetune", "task.yaml", "data.folder=Studie", *columns, *place)
    assert there.code == 0
    assert f"patients: {len({row['group'] for row in rows})}, by the column group of Befunde.xlsx" in there.err
    plain = command_line("finetune", "task.yaml", "--name", "b", "--data-root", str(data), *place[2:])
    first, second = (json.loads(answer.out)["seeds"][0]["test"]["metrics"] for answer in (there, plain))
    assert first == second
    # a run knows its own columns; other data is named with its own
    assert json.loads(command_line("evaluate", "runs/task", "--json").out)["summary"]
    table = str(root / "Befunde.xlsx")
    tested = command_line("evaluate", "runs/task", "--data", table, "--allow-overlap", "--json", *columns)
    assert json.loads(tested.out)["data"]["test"]["samples"] == len(rows)
    refused = command_line("evaluate", "runs/task", "--data", str(root), *columns[:1], "path=File,label=Befund")
    assert refused.code == 4
    assert "no table in this folder has the column 'File'" in refused.err
    assert command_line("evaluate", "runs/task", "--data", table, "--columns", "Datei").code == 2


def test_every_row_without_its_file_is_named(tmp_path: Path, data: Path, classes: Path) -> None:
    root = tmp_path / "new"
    root.mkdir()
    lines = ["path;split;group;label", *(f"gone{n}.png;test;p{n};0" for n in range(3))]
    (root / "manifest.csv").write_text("\n".join(lines))
    with pytest.raises(
        DataError, match=r"names 3 files that are not there \(line 2: 'gone0.png', line 3: 'gone1.png', l"
    ):
        evaluate(classes, root, None, None, options(tmp_path, data), Screen())


def test_archives_urls_and_arrays_are_predicted_and_tested_as_folders_are(
    tmp_path: Path, data: Path, classes: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("MEDCOSS_CACHE", str(tmp_path / "cache"))
    with (data / "xray" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["path"].endswith(".png")][:4]
    pictures = [np.asarray(Image.open(data / "xray" / row["path"]).convert("L")) for row in rows]
    np.savez(tmp_path / "set.npz", images=np.stack(pictures), label=[row["label"] for row in rows])
    memory = fsspec.filesystem("memory")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for n, row in enumerate(rows):
            archive.write(data / "xray" / row["path"], f"{n}.png")
            memory.pipe(f"/predicted/{n}.png", (data / "xray" / row["path"]).read_bytes())
    found = {}
    for name in ("set.npz", "set.zip", "memory://predicted"):
        out = tmp_path / f"out-{name[-3:]}"
        answer = command_line("predict", str(classes), name if "//" in name else str(tmp_path / name), "-o", str(out))
        assert answer.code == 0, answer.err
        with (out / "predictions.csv").open() as file:
            found[name] = [(row["input"], row["predicted"]) for row in csv.DictReader(file)]
    assert [name for name, _ in found["set.npz"]] == [f"set-images-{n}" for n in range(4)]
    assert [name for name, _ in found["set.zip"]] == [str(n) for n in range(4)]
    assert len({tuple(predicted for _, predicted in answers) for answers in found.values()}) == 1
    evaluated = ["evaluate", str(classes), "--data", str(tmp_path / "set.npz"), "--allow-overlap"]
    answer = command_line(*evaluated, "--columns", "label=label", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["seeds"][0]["test"]["samples"] == 4
    answer = command_line(*evaluated)
    assert answer.code == 4
    assert "name it: --columns label=KEY" in answer.err


def test_a_classifier_is_trained_on_an_array_with_a_label_key(tmp_path: Path, data: Path) -> None:
    with (data / "xray" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["path"].endswith(".png")]
    arrays = {"images": np.stack([np.asarray(Image.open(data / "xray" / row["path"]).convert("L")) for row in rows])}
    names = {"finding": [row["label"] for row in rows], "pid": [row["group"] for row in rows]}
    np.savez(tmp_path / "set.npz", **arrays, **names, split=[row["split"] for row in rows])
    columns = "data.columns={label: finding, split: split}"
    results, _ = tune(tmp_path, tmp_path, CLASSES, "data.folder=set.npz", columns)
    for split, facts in results["data"].items():
        members = [row for row in rows if row["split"] == split]
        assert facts["samples"] == len(members)
        assert facts["groups"] == len({row["group"] for row in members})
        assert facts["classes"] == Counter(row["label"] for row in members)
