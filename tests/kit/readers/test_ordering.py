"""DICOM slices of one volume in their order: rounded, missing and odd positions, and slices that are there twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from medcoss_cli.kit.readers import ordering, series
from tests.dicom_files import NATIVE, found, only, reasons, save
from tests.dicom_files import series as write_series


def test_a_copy_of_a_series_in_another_folder_is_noted(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "a", [0.0, 3.0, 6.0]).iterdir():
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    records, _ = found(NATIVE, tmp_path)
    assert [record.notes for record in records] == [(), (series.COPIED,)]


def test_positions_without_an_orientation_give_the_order(tmp_path: Path) -> None:
    for path in write_series(tmp_path, [0.0, 2.0, 4.0]).iterdir():
        data = pydicom.dcmread(path)
        data.InstanceNumber = 100 - int(data.ImagePositionPatient[2])  # from the head down
        del data.ImageOrientationPatient
        save(data, path)
    sample = only(NATIVE, tmp_path)
    assert sample.array[0, :, 0, 0].tolist() == [0, 20, 40]
    assert sample.spacing == (2.0, 0.5, 0.75)
    assert "no orientation: slices ordered by position" in sample.notes


def test_slices_of_which_some_have_no_position_are_refused(tmp_path: Path) -> None:
    path = next(write_series(tmp_path, [0.0, 2.0, 4.0], InstanceNumber=1).iterdir())
    data = pydicom.dcmread(path)
    del data.ImagePositionPatient
    save(data, path)
    assert "some of the slices have no position" in reasons(NATIVE, tmp_path)


def test_a_tenth_of_a_step_apart_is_a_copy_or_an_error(tmp_path: Path) -> None:
    write_series(tmp_path, [0.0, 2.0, 4.0, 6.0])
    path = next(p for p in tmp_path.iterdir() if pydicom.dcmread(p).ImagePositionPatient[2] == 2)
    data = pydicom.dcmread(path)
    data.ImagePositionPatient = [-3, -4, 2.05]
    save(data, tmp_path / "rounded")
    records, left = found(NATIVE, tmp_path)
    assert [item.reason for item in left] == [series.REPEATED]
    assert records[0].notes == ("1 duplicate slices were used once",)
    assert NATIVE.read(records[0]).array.shape[1] == 4
    data.PixelData = bytes(len(data.PixelData))
    save(data, tmp_path / "rounded")
    assert "several different images at one position" in reasons(NATIVE, tmp_path)


def test_the_same_instance_in_another_compression_is_a_copy(tmp_path: Path) -> None:
    path = next(write_series(tmp_path, [0.0, 2.0, 4.0]).iterdir())
    data = pydicom.dcmread(path)
    data.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    data.save_as(tmp_path / "compressed", enforce_file_format=True)
    records, left = found(NATIVE, tmp_path)
    assert (len(records), [item.reason for item in left]) == (1, [series.REPEATED])


@pytest.mark.parametrize(("step", "digits"), [(0.625, 2), (1.25, 1)])
def test_rounded_positions_do_not_add_up(tmp_path: Path, step: float, digits: int) -> None:
    write_series(tmp_path, [round(step * n, digits) for n in range(130)], step=1)
    sample = only(NATIVE.whole(), tmp_path)
    assert sample.spacing is not None
    assert sample.spacing[0] == pytest.approx(step, rel=1e-3)
    assert not any("uneven" in note for note in sample.notes)


def test_slices_that_move_aside_and_back_are_not_on_a_grid(tmp_path: Path) -> None:
    for path in write_series(tmp_path, [5.0 * n for n in range(7)]).iterdir():
        data = pydicom.dcmread(path)
        data.ImagePositionPatient = [
            20 * (round(float(data.ImagePositionPatient[2])) % 2),
            0,
            data.ImagePositionPatient[2],
        ]
        save(data, path)
    assert ordering.TILTED in only(NATIVE, tmp_path).notes


@pytest.mark.parametrize("other", [False, True])
def test_one_instance_uid_for_all_makes_no_copies_of_other_pixels(tmp_path: Path, other: bool) -> None:
    uid = generate_uid()
    for folder, step in (("a", 10), ("b", 30 if other else 10)):
        write_series(tmp_path / folder, [0.0, 3.0, 6.0], step=step, SOPInstanceUID=uid)
    records, _ = found(NATIVE, tmp_path)
    assert [record.notes for record in records] == [(), () if other else (series.COPIED,)]


@pytest.mark.parametrize("exports", [2, 3])
@pytest.mark.parametrize("off", [0.004, 0.03, 0.15])
def test_exports_whose_positions_were_rounded_otherwise_are_read_once(tmp_path: Path, exports: int, off: float) -> None:
    places = [2.0 * n for n in range(9)]
    write_series(tmp_path, places)
    for number in range(1, exports):
        for path in list(tmp_path.glob("[0-9a-f]*")):
            data = pydicom.dcmread(path)
            data.SOPInstanceUID = generate_uid()
            data.ImagePositionPatient[2] = float(data.ImagePositionPatient[2]) + off / number
            save(data, tmp_path / f"x{number}{path.name}")
    (record,), left = found(NATIVE, tmp_path)
    assert [item.reason for item in left] == [series.REPEATED] * 9 * (exports - 1)
    assert record.notes == (f"{9 * (exports - 1)} duplicate slices were used once",)
    sample = NATIVE.read(record)
    assert np.array_equal(sample.array[0, :, 0, 0], np.array(places) * 10)
    assert sample.spacing is not None
    assert abs(sample.spacing[0] - 2) < 1e-9
