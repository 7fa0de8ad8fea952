"""The plugin passes the suite that every modality passes, and its demo looks like ultrasound."""

from __future__ import annotations

import csv
from importlib.metadata import entry_points
from pathlib import Path

import medcoss_ultrasound
import numpy as np
import pydicom
import pytest
from PIL import Image


def pixels(path: Path) -> np.ndarray:
    if path.suffix == ".dcm":
        return pydicom.dcmread(path).pixel_array.astype(float)
    return np.asarray(Image.open(path), float)


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    root = tmp_path_factory.mktemp("ultrasound")
    medcoss_ultrasound.write_demo(root, 12, 0)
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return root, list(csv.DictReader(file))


def test_it_passes_the_conformance_suite(tmp_path: Path) -> None:
    conformance = pytest.importorskip("medcoss_cli.conformance", reason="this medcoss has no conformance suite")
    (modality,) = medcoss_ultrasound.medcoss_modalities()
    assert conformance.check(modality, tmp_path) == []


def test_medcoss_finds_it_by_its_entry_point() -> None:
    plugins = {entry.name: entry.value for entry in entry_points(group="medcoss")}
    if "ultrasound" not in plugins:
        pytest.skip("medcoss-ultrasound is not installed (pip install -e plugins/medcoss-ultrasound)")
    assert plugins["ultrasound"] == "medcoss_ultrasound"


def test_the_same_seed_draws_the_same_stills(tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        medcoss_ultrasound.write_demo(tmp_path / folder, 2, seed)
    a, b, c = ({p.name: p.read_bytes() for p in (tmp_path / f / "images").iterdir()} for f in "abc")
    assert a == b
    assert all(a[name] != c.get(name) for name in a)


def test_one_still_is_a_whole_set_to_train_on(tmp_path: Path) -> None:
    medcoss_ultrasound.write_demo(tmp_path, 1, 0)
    assert (tmp_path / "manifest.csv").read_text().splitlines()[1].split(",")[1] == "train"
    assert len(list((tmp_path / "images").iterdir())) == 1


def test_stills_come_as_png_jpeg_and_8_bit_dicom(stills: tuple[Path, list[dict[str, str]]]) -> None:
    root, rows = stills
    assert {Path(row["path"]).suffix for row in rows} == {".png", ".jpg", ".dcm"}
    assert len({row["group"] for row in rows}) == 6
    for row in rows:
        if row["path"].endswith(".dcm"):
            data = pydicom.dcmread(root / row["path"])
            assert (data.Modality, data.BitsStored, str(data.PatientName)) == ("US", 8, "Phantom^Demo")


def test_a_fan_on_black_with_speckle_inside(stills: tuple[Path, list[dict[str, str]]]) -> None:
    root, rows = stills
    for row in rows:
        image = pixels(root / row["path"])
        height, width = image.shape
        assert image[: height // 4, 20 : width // 6].mean() < 8  # the fan's edge may reach in
        assert image[height // 2 :, :5].mean() < 8  # neither side nor bottom cuts the fan
        assert image[-4:].mean() < 8
        tissue = image[60:120, width // 2 - 40 : width // 2 + 40]
        assert tissue.mean() > 40
        neighbours = np.abs(np.diff(tissue, axis=0)).mean()
        assert neighbours > 8  # grains, not a smooth surface


def test_a_cyst_is_black_and_what_lies_behind_it_is_bright(stills: tuple[Path, list[dict[str, str]]]) -> None:
    root, rows = stills
    assert {row["label"] for row in rows} == {"normal", "cyst", "mass"}
    for row in rows:
        image, mask = pixels(root / row["path"]), np.asarray(Image.open(root / row["mask"])) > 0
        assert mask.any() == (row["label"] != "normal")
        if row["label"] == "cyst":
            lines, columns = np.nonzero(mask)
            below = slice(lines.max() + 4, lines.max() + 18)
            behind = image[below, int(columns.mean()) - 6 : int(columns.mean()) + 7]
            beside = np.concatenate(
                [
                    image[below, columns.min() - 30 : columns.min() - 12],
                    image[below, columns.max() + 12 : columns.max() + 30],
                ],
                axis=1,
            )
            assert np.median(image[mask]) < 0.4 * beside.mean()
            assert behind.mean() > 1.1 * beside.mean()
