"""MIMIC-CXR as PhysioNet publishes it: which images and reports are listed, and that two modalities read one manifest."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from medcoss_cli.data import read
from medcoss_cli.datasets import build
from medcoss_cli.datasets.chest import wording
from medcoss_cli.errors import DataError
from medcoss_cli.registry.discovery import load_modality
from tests.datasets.layouts import picture, save
from tests.datasets.test_published import Listening, rows

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with new onset ascites  // eval for infection

 FINDINGS:

 There is no focal consolidation, pleural effusion or pneumothorax.  Clear.
 Heart {n} is normal.

 IMPRESSION:

 1. No acute process.
 2. Stable.
"""
IMAGES = (  # subject, study, image, view, split
    ("10000032", "50414267", "a1", "PA", "train"),
    ("10000032", "50414267", "a2", "LATERAL", "train"),
    ("10000032", "53189527", "b1", "AP", "train"),
    ("10000032", "53189527", "b2", "PA", "train"),
    ("11000764", "56457218", "c1", "AP", "validate"),
    ("11000764", "57798888", "d1", "LL", "validate"),
    ("12000980", "58000001", "e1", "", "test"),
    ("12000980", "58000002", "f1", "PA", "test"),
)


def release(root: Path, *, packed: bool = False, views: dict[str, str] | None = None) -> Path:
    """Images, reports, and the tables, perhaps compressed as they are published."""
    rng = np.random.default_rng(0)
    metadata = [["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows"]]
    splits = [["dicom_id", "study_id", "subject_id", "split"]]
    for subject, study, image, view, split in IMAGES:
        patient = root / "files" / f"p{subject[:2]}" / f"p{subject}"
        save(patient / f"s{study}" / f"{image}.jpg", picture(rng, (40, 32), 1))
        (patient / f"s{study}.txt").write_text(REPORT.format(n=f"size of {image[0]}"))
        metadata.append([image, subject, study, "CHEST (PA AND LAT)", (views or {}).get(image, view), "40"])
        splits.append([image, study, subject, split])
    for name, table in (("metadata", metadata), ("split", splits)):
        path = root / f"mimic-cxr-2.0.0-{name}.csv{'.gz' if packed else ''}"
        with gzip.open(path, "wt", newline="") if packed else path.open("w", newline="") as file:
            csv.writer(file).writerows(table)
    return root


@pytest.mark.parametrize("packed", [False, True])
def test_frontal_views_and_the_report_of_each_study_once(tmp_path: Path, packed: bool) -> None:
    listed = rows(build("mimic-cxr", release(tmp_path, packed=packed), screen=Listening()))
    images = {Path(row["path"]).stem: row for row in listed if row["path"].endswith(".jpg")}
    reports = [row for row in listed if row["path"] == "reports.csv"]
    assert set(images) == {"a1", "b1", "b2", "c1", "f1"}
    assert (images["c1"]["split"], images["f1"]["split"]) == ("val", "test")
    assert [row["study"] for row in reports] == ["s50414267", "s53189527", "s56457218", "s58000002"][: len(reports)]
    assert len(reports) == 4  # a study without a frontal view has none
    assert images["a1"]["group"] == "p10000032"
    with (tmp_path / "reports.csv").open(newline="") as file:
        texts = list(csv.DictReader(file))
    for row in reports:
        assert (texts[int(row["index"])]["id"], texts[int(row["index"])]["study"]) == (row["group"], row["study"])


def test_the_official_profile_takes_every_image_and_a_training_report_for_each_frontal_one(tmp_path: Path) -> None:
    listed = rows(build("mimic-cxr", release(tmp_path), "official", screen=Listening()))
    assert sum(row["path"].endswith(".jpg") for row in listed) == len(IMAGES)
    assert {row["split"] for row in listed} == {"train"}
    assert [row["study"] for row in listed if row["path"] == "reports.csv"] == ["s50414267", "s53189527", "s53189527"]


def test_images_and_reports_are_read_from_one_manifest(tmp_path: Path) -> None:
    root = release(tmp_path)
    build("mimic-cxr", root)
    images, texts = (read.find(load_modality(name), root) for name in ("xray", "report"))
    assert len(images.records) == 3
    assert {record.group for record in images.records} == {"p10000032"}
    samples = [read.read_checked(load_modality("report"), record).array for record in texts.records]
    assert samples == [
        f"no acute process there is no focal consolidation pleural effusion or pneumothorax heart size of {n} is normal"
        for n in "ab"
    ]


def test_a_part_of_the_set_is_said_to_be_one_and_reports_may_lie_apart(tmp_path: Path) -> None:
    root, screen = release(tmp_path / "set"), Listening()
    for path in sorted(root.glob("files/p*/p*/s*.txt")):
        target = root / "mimic-cxr-reports" / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    (root / "files/p10/p10000032/s50414267/a1.jpg").unlink()
    listed = rows(build("mimic-cxr", root, screen=screen))
    assert sum(row["path"] == "reports.csv" for row in listed) == 4
    assert any("1 images of the metadata are not here" in line for line in screen.said)
    assert any("7 images where the full set has 377,110" in line for line in screen.said)


def test_counts_of_the_whole_set_are_compared_with_the_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcoss_cli.datasets.chest.IMAGES", len(IMAGES))
    screen = Listening()
    build("mimic-cxr", release(tmp_path), screen=screen)
    assert any("5 images where the paper has 356,309, 4 reports where the paper has 227,323" in s for s in screen.said)


def test_images_alone_are_enough(tmp_path: Path) -> None:
    root, screen = release(tmp_path), Listening()
    for path in root.glob("files/p*/p*/s*.txt"):
        path.unlink()
    assert len(rows(build("mimic-cxr", root, screen=screen))) == 5
    assert any("no report lies here" in line for line in screen.said)


def test_what_is_not_there_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not in its published layout"):
        build("mimic-cxr", tmp_path)
    root = release(tmp_path / "views", views={image: "LATERAL" for _, _, image, _, _ in IMAGES})
    with pytest.raises(DataError, match=r"no frontal view \(PA or AP\) is in the metadata: LATERAL"):
        build("mimic-cxr", root)
    root = release(tmp_path / "metadata")
    (root / "mimic-cxr-2.0.0-metadata.csv").write_text("dicom_id,subject_id,study_id\n")
    with pytest.raises(DataError, match="there is no column ViewPosition"):
        build("mimic-cxr", root)
    (root / "mimic-cxr-2.0.0-metadata.csv").unlink()
    with pytest.raises(DataError, match=r"mimic-cxr-2\.0\.0-metadata\.csv, which tells the views, is not here"):
        build("mimic-cxr", root)


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (" IMPRESSION: Small effusion.  Café au lait 2.5 cm.\n", "small effusion caf au lait 5 cm"),
        (" FINDINGS AND IMPRESSION:\n Lines are in place.\n COMPARISON: None at all here.", "lines are in place"),
        (" INDICATION: Cough and fever for days.\n", ""),
        (" IMPRESSION: Normal chest.\n", ""),
    ],
)
def test_words_of_impression_and_findings(report: str, text: str) -> None:
    assert wording(report) == text
