"""`data manifest folder` on folders as others hand them on: masks beside images, a folder per patient, derived files."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medcoss_cli.data.labelled import MASK, read_manifest
from medcoss_cli.datasets import build
from medcoss_cli.errors import DataError
from tests.datasets.layouts import save


def volume(path: Path, *, mask: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(9 * 10 * 11, dtype=np.int16).reshape(9, 10, 11)
    image: Any = nib.Nifti1Image
    nib.save(image((values > 700).astype(np.uint8) if mask else values, np.eye(4)), path)


def listed(root: Path, **options: str) -> list[dict[str, str]]:
    with build("folder", root, **options).open(newline="", encoding="utf-8") as file:  # type: ignore[arg-type]
        return list(csv.DictReader(file))


def splits_of_patients(rows: list[dict[str, str]]) -> dict[str, set[str]]:
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["group"], set()).add(row["split"])
    return splits


def test_an_image_and_its_mask_lie_in_one_folder(tmp_path: Path) -> None:
    for n in range(6):
        volume(tmp_path / f"volume-{n}.nii")
        volume(tmp_path / f"segmentation-{n}.nii", mask=True)
    rows = listed(tmp_path)
    assert {row["path"]: row["mask"] for row in rows} == {f"volume-{n}.nii": f"segmentation-{n}.nii" for n in range(6)}
    assert {row["split"] for row in rows} == {"train", "val", "test"}


@pytest.mark.parametrize("mask", ["{}_seg", "{}-seg", "mask", "tumour_mask"])
@pytest.mark.parametrize("split", ["", "train/"])
def test_a_folder_per_patient_is_no_class(tmp_path: Path, mask: str, split: str) -> None:
    """Taken for classes, the sequences of one patient would be in all three splits."""
    for n in range(6):
        case = f"Case_{n:03}"
        for sequence in ("flair", "t1", "t2"):
            volume(tmp_path / f"{split}{case}/{case}_{sequence}.nii.gz")
        volume(tmp_path / f"{split}{case}/{mask.format(case)}.nii.gz", mask=True)
    rows = listed(tmp_path)
    assert len(rows) == 18
    assert "label" not in rows[0]
    for row in rows:
        assert row["group"] == Path(row["path"]).parent.name
        assert row["mask"] == f"{split}{row['group']}/{mask.format(row['group'])}.nii.gz"
    assert all(len(of) == 1 for of in splits_of_patients(rows).values())


def test_a_folder_per_patient_without_masks_has_nothing_to_learn(tmp_path: Path) -> None:
    for n in range(6):
        for image in range(3):
            save(tmp_path / f"Patient {n}/{image}.png", np.arange(256).reshape(16, 16))
    with pytest.raises(
        DataError, match=r"the folders are patients, by folder \(Patient 0, Patient 1, …\), not classes"
    ):
        build("folder", tmp_path)
    rows = listed(tmp_path, pattern=r"(\d)\.png")  # now it is said what a patient is
    assert {row["label"] for row in rows} == {f"Patient {n}" for n in range(6)}


def test_derived_files_of_bids_are_no_class(tmp_path: Path) -> None:
    for n in range(1, 7):
        name = f"sub-{n:02}/anat/sub-{n:02}"
        volume(tmp_path / f"rawdata/{name}_T1w.nii.gz")
        volume(tmp_path / f"rawdata/{name}_label-lesion_mask.nii.gz", mask=True)
        volume(tmp_path / f"derivatives/prep/{name}_desc-preproc_T1w.nii.gz")
    rows = listed(tmp_path)
    assert {row["path"] for row in rows} == {f"rawdata/sub-{n:02}/anat/sub-{n:02}_T1w.nii.gz" for n in range(1, 7)}
    assert all(row["mask"] == row["path"].replace("_T1w", "_label-lesion_mask") for row in rows)
    for path in tmp_path.glob("rawdata/*/*/*mask*"):
        path.unlink()
    (tmp_path / "manifest.csv").unlink()
    with pytest.raises(DataError, match="1 class folders, where two or more are needed"):
        build("folder", tmp_path)


def test_names_that_are_not_utf8_are_listed_and_found_again(tmp_path: Path) -> None:
    for n in range(6):
        name = os.fsdecode(b"f\xfc_%d.png" % n)
        try:
            save(tmp_path / "images" / name, np.arange(256).reshape(16, 16))
        except OSError:
            pytest.skip("this file system has names in UTF-8 alone")
        save(tmp_path / "masks" / name, np.eye(16) * 255)
    build("folder", tmp_path)
    cases = read_manifest(tmp_path, MASK)
    assert sorted(os.fsencode(case.path.name) for case in cases) == [b"f\xfc_%d.png" % n for n in range(6)]
    assert all(case.mask is not None and case.mask.is_file() for case in cases)
