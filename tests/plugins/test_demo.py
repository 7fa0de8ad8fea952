"""The demo sets of the five standard plugins: read back with readers that did not write them."""

from __future__ import annotations

import csv
import importlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image
from pydicom.uid import UID, ExplicitVRLittleEndian

from medcoss_cli.kit.phantoms import blur, cases, noise, write_manifest
from medcoss_cli.plugin import Modality

NAMES = ("report", "xray", "ct", "mri", "pathology")


def modality(name: str) -> Modality:
    (found,) = importlib.import_module(f"medcoss_{name}").medcoss_modalities()
    assert isinstance(found, Modality)
    return found


def demo(name: str, root: Path, count: int, seed: int = 0) -> list[dict[str, str]]:
    """Write a demo set and return the rows of its manifest."""
    make = modality(name).demo
    assert make is not None
    make(root, count, seed)
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def series(folder: Path) -> Any:
    """An image in HU, its slices put in order by ITK's own reader."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    root = tmp_path_factory.mktemp("ct")
    return root, demo("ct", root, 4)


@pytest.fixture(scope="module")
def mri(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    root = tmp_path_factory.mktemp("mri")
    return root, demo("mri", root, 4)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(name: str, tmp_path: Path) -> None:
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        demo(name, tmp_path / folder, 2, seed)
    a, b, c = (contents(tmp_path / folder) for folder in "abc")
    assert a == b
    samples = [path for path in a if not path.startswith("masks/") and path != "manifest.csv"]
    assert samples
    assert all(a[path] != c.get(path) for path in samples)


@pytest.mark.parametrize("name", NAMES)
def test_one_sample_is_a_whole_set_to_train_on(name: str, tmp_path: Path) -> None:
    (only,) = demo(name, tmp_path / "new" / "folder", 1)
    assert only["split"] == "train"
    assert (tmp_path / "new" / "folder" / only["path"]).exists()


@pytest.mark.parametrize("name", NAMES)
def test_every_path_of_the_manifest_exists_and_every_image_is_in_it(name: str, tmp_path: Path) -> None:
    rows = demo(name, tmp_path, 5)
    assert len(rows) == 5
    assert {"path", "split", "group", "label"} <= set(rows[0])
    assert all((tmp_path / row["path"]).exists() for row in rows)
    if name != "report":
        assert {row["path"] for row in rows} == {f"images/{p.name}" for p in (tmp_path / "images").iterdir()}
        assert all((tmp_path / row["mask"]).is_file() for row in rows)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_no_group_is_in_two_splits_and_every_split_has_every_class(classes: int) -> None:
    drawn = list(cases(96, 0, [f"class{n}" for n in range(classes)]))
    splits = {case.group: case.split for case in drawn}
    assert all(splits[case.group] == case.split for case in drawn)
    assert set(Counter(case.group for case in drawn).values()) == {2}
    assert {(case.split, case.label) for case in drawn} == {
        (split, f"class{n}") for split in ("train", "val", "test") for n in range(classes)
    }


def test_a_sample_does_not_depend_on_how_many_are_written(tmp_path: Path) -> None:
    demo("pathology", tmp_path / "few", 2)
    demo("pathology", tmp_path / "many", 5)
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    del few["manifest.csv"]
    assert few.items() <= many.items()


@pytest.mark.parametrize("count", [0, -1])
def test_a_set_of_nothing_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        list(cases(count, 0, ["a"]))


def test_reports_are_rows_and_files_with_a_vocabulary_of_some_hundred_words(tmp_path: Path) -> None:
    rows = demo("report", tmp_path, 300)
    words: Counter[str] = Counter()
    for row in rows:
        if row["path"].endswith(".csv"):
            with (tmp_path / row["path"]).open(newline="", encoding="utf-8") as file:
                record = list(csv.DictReader(file))[int(row["index"])]
            assert record["id"] == row["group"]
            text = record["text"]
        else:
            text = (tmp_path / row["path"]).read_text(encoding="utf-8")
        assert "{" not in text
        assert text.index("FINDINGS:") < text.index("IMPRESSION:")
        words.update(set(re.findall(r"[a-z]+", text.lower())))
    assert {Path(row["path"]).suffix for row in rows} == {".csv", ".txt"}
    assert sum(count >= 5 for count in words.values()) > 200
    assert {(row["split"], row["path"]) for row in rows if row["path"].endswith(".csv")} == {
        ("train", "reports.csv"),
        ("val", "reports_val.csv"),
        ("test", "reports_test.csv"),
    }


def test_radiographs_are_png_and_12_bit_dicom_with_dark_lungs(tmp_path: Path) -> None:
    rows = demo("xray", tmp_path, 8)
    kinds = []
    for row in rows:
        lungs = np.asarray(Image.open(tmp_path / row["mask"])) > 0
        if row["path"].endswith(".dcm"):
            data = pydicom.dcmread(tmp_path / row["path"])
            image = data.pixel_array.astype(float)
            assert (data.Modality, data.BitsStored, data.HighBit, data.BitsAllocated) == ("DX", 12, 11, 16)
            assert data.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
            assert 3000 < image.max() <= 4095
            assert image.min() >= 0
            assert str(data.PatientName) == "Phantom^Demo"
            kinds.append(data.PhotometricInterpretation)
            image = 4095 - image if data.PhotometricInterpretation == "MONOCHROME1" else image
        else:
            picture = Image.open(tmp_path / row["path"])
            assert (picture.mode, picture.format) == ("L", "PNG")
            image = np.asarray(picture, float)
            kinds.append("PNG")
        assert image.shape == lungs.shape
        assert 0.08 < lungs.mean() < 0.5
        middle = image[image.shape[0] // 4 : 3 * image.shape[0] // 4]
        assert image[lungs].mean() < 0.6 * np.percentile(middle, 90)
    assert Counter(kinds) == {"PNG": 6, "MONOCHROME1": 1, "MONOCHROME2": 1}


def test_every_dicom_file_has_valid_uids_of_its_own(ct: tuple[Path, list[dict[str, str]]]) -> None:
    root, rows = ct
    files = [
        pydicom.dcmread(path, stop_before_pixels=True)
        for row in rows
        for path in sorted((root / row["path"]).iterdir())
    ]
    assert len({data.SOPInstanceUID for data in files}) == len(files)
    assert len({data.SeriesInstanceUID for data in files}) == len(rows)
    assert len({data.StudyInstanceUID for data in files}) == len({row["group"] for row in rows})
    assert all(UID(data.SOPInstanceUID).is_valid and UID(data.StudyInstanceUID).is_valid for data in files)
    assert all(data.SOPInstanceUID == data.file_meta.MediaStorageSOPInstanceUID for data in files)
    assert {str(data.PatientName) for data in files} == {"Phantom^Demo"}


def test_ct_series_are_in_hounsfield_units_with_air_bone_and_dark_lesions(
    ct: tuple[Path, list[dict[str, str]]],
) -> None:
    root, rows = ct
    for row in rows:
        image, mask = series(root / row["path"]), SimpleITK.ReadImage(str(root / row["mask"]))
        assert image.GetSize() == mask.GetSize()
        assert np.allclose(image.GetSpacing(), mask.GetSpacing())
        assert np.allclose(image.GetOrigin(), mask.GetOrigin(), atol=1e-3)
        hu, lesion = SimpleITK.GetArrayFromImage(image), SimpleITK.GetArrayFromImage(mask) > 0
        assert hu.min() >= -1024
        assert abs(np.median(hu[:, :8, :8]) + 1000) < 15
        assert hu.max() > 400
        assert len(hu) * image.GetSpacing()[2] >= 24 + 12 + 1  # two windows of 24 slices of 1 mm, 12 apart
        assert lesion.any() == (row["label"] == "lesion")
        if lesion.any():
            assert 20 < np.median(hu[lesion]) < 85


def test_ct_slices_are_not_in_order_of_their_names(ct: tuple[Path, list[dict[str, str]]]) -> None:
    root, rows = ct
    files = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted((root / rows[0]["path"]).iterdir())]
    heights = [float(data.ImagePositionPatient[2]) for data in files]
    assert heights != sorted(heights)
    assert np.allclose(np.diff(sorted(heights)), 2.5)


def test_mri_is_a_magnitude_image_of_a_head_long_enough_for_windows(mri: tuple[Path, list[dict[str, str]]]) -> None:
    root, rows = mri
    for row in rows:
        image, mask = (SimpleITK.ReadImage(str(root / row[key])) for key in ("path", "mask"))
        assert image.GetPixelIDValue() == SimpleITK.sitkInt16
        assert image.GetSize() == mask.GetSize()
        assert image.GetSpacing() == pytest.approx((1.8, 1.8, 3.6))
        signal, tumour = SimpleITK.GetArrayFromImage(image).astype(float), SimpleITK.GetArrayFromImage(mask) > 0
        assert 0.8 * len(signal) >= 24
        assert signal.min() >= 0
        air = signal[:, :6, :6]  # Rayleigh: the mean is 1.91 deviations, not 0
        assert air.mean() / air.std() == pytest.approx(1.91, abs=0.15)
        assert np.median(signal[20, 50:80, 50:80]) > 8 * air.mean()
        assert tumour.any() == (row["label"] == "tumour")
        brain = signal[27, 36:96, 44:84] / np.percentile(signal[27, 36:96, 44:84], 85)  # white matter is 1
        assert 0.22 < ((brain > 0.55) & (brain < 0.82)).mean() < 0.6  # the grey ribbon of the cortex


def test_tiles_are_colour_in_three_formats_and_nuclei_ring_the_lumen(tmp_path: Path) -> None:
    rows = demo("pathology", tmp_path, 6)
    formats = []
    for row in rows:
        picture = Image.open(tmp_path / row["path"])
        formats.append(picture.format)
        assert picture.mode == "RGB"
        red, green, blue = np.moveaxis(np.asarray(picture, float), 2, 0)
        glands = np.asarray(Image.open(tmp_path / row["mask"])) > 0
        assert 0.05 < glands.mean() < 0.95
        assert green.mean() < blue.mean()  # purple and pink: green is what both dyes take away
        assert green.mean() < red.mean()
        nuclei = red < 120
        assert nuclei[glands].mean() > nuclei[~glands].mean()
    assert Counter(formats) == {"PNG": 2, "JPEG": 2, "TIFF": 2}


def test_noise_and_blur_have_the_width_they_are_asked_for() -> None:
    point = np.zeros((101, 101))
    point[50, 50] = 1
    offset = np.arange(101) - 50
    for sigma in (0.7, 1.9, 2.1, 6.0):
        spread = blur(point, sigma)
        assert spread.sum() == pytest.approx(1, abs=1e-3)
        assert np.sqrt((spread.sum(0) * offset**2).sum()) == pytest.approx(sigma, rel=0.03)
        field = noise(np.random.default_rng(0), (300, 300), sigma)
        assert field.shape == (300, 300)
        assert field.std() == pytest.approx(1, abs=0.12)
        gradient = np.diff(field, axis=1).std()  # of a field blurred with sigma: 1 / (sigma sqrt 2), for smooth ones
        assert gradient == pytest.approx(np.sqrt(2 - 2 * np.exp(-1 / (4 * sigma**2))), rel=0.12)
    assert np.ptp(blur(np.ones((30, 40)), 7)) < 1e-5


def test_the_manifest_has_the_columns_of_its_first_row(tmp_path: Path) -> None:
    write_manifest(tmp_path, [{"path": "a, b.png", "split": "train"}, {"path": "c.png", "split": "val"}])
    assert (tmp_path / "manifest.csv").read_text() == 'path,split\n"a, b.png",train\nc.png,val\n'


def test_importing_the_plugins_imports_neither_torch_nor_numpy() -> None:
    imports = "; ".join(f"import medcoss_{name}; medcoss_{name}.medcoss_modalities()" for name in NAMES)
    check = "import sys; print(sorted({'torch', 'numpy', 'pydicom', 'SimpleITK', 'PIL'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", f"{imports}; {check}"], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_modalities_that_share_a_tokenizer_agree_on_it() -> None:
    specs: dict[str, Any] = {}
    for name in NAMES:
        found = modality(name)
        assert found.name == name
        assert len(found.size) == found.dims
        assert found.tokenizer is not None
        assert specs.setdefault(found.tokenizer.key, found.tokenizer.spec) == found.tokenizer.spec
    assert set(specs) == {"words", "patch2d-16", "patch3d-16"}
