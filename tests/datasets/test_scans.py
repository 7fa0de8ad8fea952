"""DeepLesion and ADNI in their published layouts, and that the plugins cut them into the windows that are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from medcoss_cli.data import read
from medcoss_cli.datasets import build, scans
from medcoss_cli.errors import DataError
from medcoss_cli.registry.discovery import load_modality
from tests.datasets.layouts import volume
from tests.datasets.test_published import Listening, rows

INFO = "File_name,Patient_index,Study_index,Series_ID,Key_slice_index,Slice_range,Spacing_mm_px_,Train_Val_Test\n"
ADNI = "Image Data ID,Subject,Group,Sex,Age,Visit,Modality,Description,Type,Acq Date,Format,Downloaded\n"


def lesions(root: Path, spacing: str = "0.8, 0.8, 5") -> Path:
    """Two patients, three studies; one series has two runs of slices, each slice brighter than the one before."""
    lines = []
    for series, numbers in {"000001_01_01": (*range(8, 20), *range(40, 46)), "000001_02_01": (5, 6, 7)}.items():
        folder = root / "Images_png" / series
        folder.mkdir(parents=True)
        for number in numbers:
            pixels = np.full((24, 20), 32_768 - 1000, np.uint16)
            pixels[8:16, 4:12] = 32_768 + number
            Image.fromarray(pixels).save(folder / f"{number:03d}.png")
        lines.append(f'{series}_{numbers[1]:03d}.png,1,1,1,9,"8, 19","{spacing}",3\n')
    (root / "DL_info.csv").write_text(INFO + "".join(lines))
    return root


def test_runs_of_slices_become_volumes_from_feet_to_head(tmp_path: Path) -> None:
    screen = Listening()
    listed = rows(build("deeplesion", lesions(tmp_path), screen=screen))
    assert [row["path"] for row in listed] == [
        "nifti/000001_01_01_008-019.nii.gz",
        "nifti/000001_01_01_040-045.nii.gz",
        "nifti/000001_02_01_005-007.nii.gz",
    ]
    assert {(row["split"], row["group"]) for row in listed} == {("train", "000001")}
    image = SimpleITK.ReadImage(tmp_path / listed[0]["path"])
    assert image.GetSpacing() == pytest.approx((0.8, 0.8, 5.0))
    array = SimpleITK.GetArrayFromImage(image)
    assert array[:, 10, 8].tolist() == list(range(19, 7, -1))  # numbers grow towards the feet
    assert (array[0, 0, 0], array.shape) == (-1000, (12, 24, 20))
    assert any("2 scans where the full set has 10,594" in line for line in screen.said)


def test_windows_are_those_of_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "DEEPLESION", {"scans": 2, "patients": 4_427, "windows": 125_070})
    root, screen = lesions(tmp_path), Listening()
    build("deeplesion", root, screen=screen)
    ct = load_modality("ct")
    records = read.find(ct, root).records
    assert len(records) == 4 + 2 + 1  # 60 mm, 30 mm and 15 mm in windows of 24, every 12
    line = f"1 patients where the paper has 4,427, {len(records)} windows where the paper has 125,070"
    assert any(line in said for said in screen.said)
    assert read.read_checked(ct, records[0]).array.shape == (1, 24, 19, 16)
    assert ct.loader.__class__(**{**vars(ct.loader), "dicom": (), "hounsfield": False}) == scans.LESIONS


def test_volumes_that_the_releases_script_wrote_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "DL_info.csv").write_text(INFO)
    for name in ("000003_02_01_001-030", "000004_01_01_010-030"):
        volume(tmp_path / "Images_nifti" / f"{name}.nii.gz", np.zeros((4, 8, 8), np.int16))
    listed = rows(build("deeplesion", tmp_path, screen=Listening()))
    assert [row["group"] for row in listed] == ["000003", "000004"]
    assert not (tmp_path / "nifti").exists()


def test_deeplesion_is_refused_without_its_table_or_its_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="deeplesion is not in its published layout"):
        build("deeplesion", tmp_path)
    (lesions(tmp_path / "set") / "DL_info.csv").unlink()
    with pytest.raises(DataError, match=r"DL_info\.csv, which tells patients and voxel spacings, is not here"):
        build("deeplesion", tmp_path / "set")
    with pytest.raises(DataError, match="no volume is in Images_png"):
        build("deeplesion", lesions(tmp_path / "flat", spacing="0.8, 0.8, 0"), screen=Listening())
    root = lesions(tmp_path / "eight")
    Image.new("L", (20, 24)).save(root / "Images_png/000001_02_01/006.png")
    with pytest.raises(DataError, match="no 16-bit grey image"):
        build("deeplesion", root, screen=Listening())


def heads(root: Path) -> Path:
    """Four scans of three people, one without the table's diagnosis, one PET."""
    lines = []
    for subject, image, group, kind in (
        ("002_S_0295", "I13722", "CN", "MRI"),
        ("002_S_0295", "I45108", "CN", "MRI"),
        ("002_S_0413", "I13893", "SMC", "MRI"),
        ("002_S_0729", "I13900", "LMCI", "MRI"),
        ("002_S_0729", "I13901", "LMCI", "PET"),
    ):
        array = np.random.default_rng(0).normal(100, 20, (30, 16, 12)).astype(np.int16)
        volume(root / "ADNI" / subject / "MP-RAGE" / "2006-04-18_08_20_30.0" / image / f"ADNI_{image}.nii", array)
        lines.append(f"{image},{subject},{group},M,84,1,{kind},MP-RAGE,Original,4/18/2006,NiFTI,\n")
    (root / "ADNI1_3_01_2023.csv").write_text(ADNI + "".join(lines))
    return root


def test_scans_of_the_papers_diagnoses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "ADNI", {"scans": 3, "windows": 59_205})
    root, screen = heads(tmp_path), Listening()
    listed = rows(build("adni", root, screen=screen))
    assert [Path(row["path"]).name for row in listed] == ["I13722", "I45108", "I13900"]
    assert [row["group"] for row in listed] == ["002_S_0295", "002_S_0295", "002_S_0729"]
    mri = load_modality("mri")
    records = read.find(mri, root).records
    assert len(records) == 6  # 24 of 30 slices are left, in windows of 16, every 8: two each
    assert any(f"{len(records)} windows where the paper has 59,205" in line for line in screen.said)
    assert any("2 scans are no MRI of AD, MCI, EMCI, LMCI, CN (LMCI, SMC)" in line for line in screen.said)
    assert mri.loader == scans.HEADS


def test_adni_is_refused_without_a_table_a_scan_or_a_diagnosis(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the collection's table .* is not here"):
        build("adni", tmp_path)
    (tmp_path / "collection.csv").write_text(ADNI)
    with pytest.raises(DataError, match="is not here"):
        build("adni", tmp_path)
    (tmp_path / "collection.csv").write_text(f"{ADNI}I1,002_S_0295,AD,M,84,1,MRI,MP-RAGE,Original,4/18/2006,DCM,\n")
    with pytest.raises(DataError, match="adni is not in its published layout"):
        build("adni", tmp_path)
    (tmp_path / "ADNI/002_S_0295/MP-RAGE/2006/I2").mkdir(parents=True)
    (tmp_path / "ADNI/002_S_0295/MP-RAGE/2006/I2/a.dcm").write_bytes(b"x")
    with pytest.raises(DataError, match="none of 1 scans is an MRI of AD"):
        build("adni", tmp_path, screen=Listening())
