"""Forty identifiers planted in data: none in what is shareable, and no name or path in the checkpoint either."""

from __future__ import annotations

import csv
import socket
from pathlib import Path

import pydicom
import pytest

from medcoss_cli.importers.shareable import strip
from medcoss_cli.store import checkpoint
from tests.pretraining_runs import train, write_demo

FIELDS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientAddress",
    "OtherPatientIDs",
    "InstitutionName",
    "ReferringPhysicianName",
    "OperatorsName",
    "StationName",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "PatientComments",
    "DeviceSerialNumber",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run on data with identifiers in names, DICOM fields, manifests and one report; and the identifiers."""
    folder = tmp_path_factory.mktemp("private-Zuckerbrodt")
    data = write_demo(folder / "Krankenhaus_Quellenhof", report=60, xray=40)
    planted = ["Zuckerbrodt", "Krankenhaus_Quellenhof"]
    images = data / "xray" / "images"
    with (data / "xray" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows[:12]):
        old = data / "xray" / row["path"]
        name, group = f"Wiesengrund_{number:04d}_1962", f"PID-88{number:04d}X"
        new = images / f"{name}{old.suffix}"
        old.rename(new)
        row["path"], row["group"] = f"images/{new.name}", group
        planted += [name, group]
    for number, path in enumerate(sorted(images.glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        for field in FIELDS:
            value = f"19620{number % 9 + 1}17" if field == "PatientBirthDate" else f"QX{field[:9]}{number}"
            setattr(dataset, field, value)
            planted.append(value)
        dataset.save_as(path)
    with (data / "xray" / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    report = next((data / "report").rglob("*.txt"))
    report.write_text(report.read_text() + " Seen by Dr Hasselbrinkmann, phone 0491726355.\n")
    planted += ["Hasselbrinkmann", "0491726355"]
    train(folder, data, f"data.root={data}", "title=Zuckerbrodt", "data.split=all")
    return folder / "runs" / "run", planted


def found(path: Path, planted: list[str]) -> list[str]:
    content = path.read_bytes().lower()
    return [name for name in planted if name.lower().encode() in content or name.lower().encode("utf-16-le") in content]


def test_nothing_shareable_holds_an_identifier(run: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, planted = run
    assert len(set(planted)) >= 40
    out = tmp_path / "encoder.safetensors"
    strip(folder / "ckpt.pt", out)
    shareable = [out, folder / "retention.json", folder / "retention.png", *folder.glob("stages/*/encoder.safetensors")]
    assert len(shareable) == 5
    for path in shareable:
        assert found(path, planted) == [], path.name
        assert found(path, [str(folder.parents[1])]) == []


def test_the_checkpoint_holds_samples_but_no_name_and_no_path(run: tuple[Path, list[str]]) -> None:
    folder, planted = run
    assert found(folder / "ckpt.pt", planted) == []
    assert "hasselbrinkmann" not in checkpoint.load(folder / "ckpt.pt").vocabularies["words"]


def test_the_search_would_find_them(run: tuple[Path, list[str]]) -> None:
    """The same search finds names where they are allowed: in the private files beside."""
    folder, planted = run
    assert "Krankenhaus_Quellenhof" in found(folder / "log.txt", planted)


def test_nothing_phones_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    train(tmp_path, write_demo(tmp_path / "data", report=20, xray=10), "train.epochs=1", "train.warmup=0")
