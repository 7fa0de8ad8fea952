"""DICOM slices to volumes: what is one volume, what is another, and that every voxel of it was decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medcoss_cli.errors import DataError
from medcoss_cli.kit import VolumeFolder
from medcoss_cli.kit.readers import dicom, series
from tests.dicom_files import NATIVE, enhanced, found, make, only, reasons, save
from tests.dicom_files import series as write_series

AXIAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]


def group(frame: int, **elements: Any) -> Dataset:
    """A functional-group item: keys are sequence names, values the attributes of their one item."""
    item = Dataset()
    for sequence, attributes in elements.items():
        inner = Dataset()
        for name, value in attributes.items():
            setattr(inner, name, value)
        setattr(item, sequence, Sequence([inner]))
    return item


def frames_of(
    orientations: list[list[float]], positions: list[list[float]], values: np.ndarray[Any, Any], **extra: Any
) -> Dataset:
    """An enhanced MR of (frames, H, W) values with a slope of 2 and an intercept of -5 in each frame's group."""
    data = make(values, "MR")
    data.SharedFunctionalGroupsSequence = Sequence([group(0, PixelMeasuresSequence={"PixelSpacing": [2, 3]})])
    data.PerFrameFunctionalGroupsSequence = Sequence(
        [
            group(
                n,
                PlanePositionSequence={"ImagePositionPatient": positions[n]},
                PlaneOrientationSequence={"ImageOrientationPatient": orientations[n]},
                PixelValueTransformationSequence={"RescaleSlope": 2, "RescaleIntercept": -5, "RescaleType": "US"},
                **{name: value(n) for name, value in extra.items()},
            )
            for n in range(len(values))
        ]
    )
    return data


def test_frames_of_two_orientations_are_two_volumes_without_unwritten_voxels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(10, 1000, (9, 12, 12)).astype(np.uint16)
    turns = [AXIAL] * 5 + [SAGITTAL] * 4
    places = [[0, 0, 4 * n] for n in range(5)] + [[3 * n, 0, 50] for n in range(4)]
    save(frames_of(turns, places, values), tmp_path / "a")
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float, **_: np.full(shape, 77, dtype))  # a canary
    records, left = found(NATIVE, tmp_path)
    assert not left
    assert ["split by orientation" in record.notes[0] for record in records] == [True, True]
    volumes = sorted((NATIVE.read(record).array for record in records), key=np.size)
    assert sorted(volumes[1].ravel()) == sorted((values[:5].astype(float) * 2 - 5).ravel())
    assert sorted(volumes[0].ravel()) == sorted((values[5:].astype(float) * 2 - 5).ravel())


def test_cosines_that_differ_in_their_last_digit_are_one_volume(tmp_path: Path) -> None:
    values = np.stack([np.full((12, 12), n, np.uint16) for n in range(4)])
    turns = [[1, 0, 1e-7 * n, 0, 1, 0] for n in range(4)]
    save(frames_of(turns, [[0, 0, -2 * n] for n in range(4)], values), tmp_path / "a")
    assert only(NATIVE, tmp_path).array[0, :, 0, 0].tolist() == [1, -1, -3, -5]


def test_one_frame_a_file_is_rescaled_as_one_frame_of_many(tmp_path: Path) -> None:
    data = enhanced(4)
    many = only(NATIVE, save(data, tmp_path / "many"))
    whole = data.pixel_array
    for n in range(4):
        part = pydicom.dcmread(tmp_path / "many")
        part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        part.NumberOfFrames, part.PixelData = 1, whole[n].tobytes()
        part.PerFrameFunctionalGroupsSequence = Sequence([data.PerFrameFunctionalGroupsSequence[n]])
        save(part, tmp_path / "one" / str(n))
    single = only(NATIVE, tmp_path / "one")
    assert np.array_equal(single.array, many.array)
    assert (single.spacing, single.origin) == (many.spacing, many.origin)


@pytest.mark.parametrize("enhanced_file", [True, False])
def test_b_values_are_volumes_of_their_own(tmp_path: Path, enhanced_file: bool) -> None:
    if enhanced_file:
        values = np.stack([np.full((12, 12), 10 * n + 1, np.uint16) for n in range(8)])
        places = [[0, 0, 4 * (n % 4)] for n in range(8)]
        weights = {"MRDiffusionSequence": lambda n: {"DiffusionBValue": 0.0 if n < 4 else 1000.0}}
        save(frames_of([AXIAL] * 8, places, values, **weights), tmp_path / "a")
    else:
        write_series(tmp_path, [0.0, 4.0, 8.0, 12.0], DiffusionBValue=0.0)
        write_series(tmp_path, [0.0, 4.0, 8.0, 12.0], step=30, DiffusionBValue=1000.0)
    records, left = found(NATIVE, tmp_path)
    assert not left
    assert [record.notes for record in records] == [("one of 2 volumes of its series, split by b-value",)] * 2
    columns = sorted(NATIVE.read(record).array[0, :, 0, 0].tolist() for record in records)
    steps = [sorted(set(np.diff(column))) for column in columns]
    assert steps == ([[20.0], [20.0]] if enhanced_file else [[40.0], [120.0]])


@pytest.mark.parametrize("before", [0, 1])
def test_a_b_value_of_a_scanner_of_before_the_attribute(tmp_path: Path, before: int) -> None:
    """In the first private block, or behind one of somebody else."""
    for number, factor in ((0, 10.0), (1000, 30.0)):
        write_series(tmp_path / str(number), [0.0, 4.0, 8.0, 12.0], step=factor)
        for path in (tmp_path / str(number)).iterdir():
            data = pydicom.dcmread(path)
            for _ in range(before):
                data.private_block(0x0043, "OTHERS", create=True).add_new(0x39, "IS", 7)
            data.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(
                0x39, "IS", [1_000_000_000 + number, 8, 0, 0]
            )
            save(data, tmp_path / f"{number}-{path.name}")
            path.unlink()
    records, _ = found(NATIVE, tmp_path)
    assert [record.notes[0][-7:] for record in records] == ["b-value", "b-value"]


def test_magnitude_and_phase_are_volumes_of_their_own(tmp_path: Path) -> None:
    write_series(tmp_path, [0.0, 4.0, 8.0], ImageType=["ORIGINAL", "PRIMARY", "M", "ND"])
    write_series(tmp_path, [0.0, 4.0, 8.0], step=30, ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])
    assert [r.notes for r in found(NATIVE, tmp_path)[0]] == [
        ("one of 2 volumes of its series, split by image type",)
    ] * 2


def test_two_images_at_every_place_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    """As an anonymiser leaves them that gives every file one instance UID."""
    uid = generate_uid()
    write_series(tmp_path, [0.0, 4.0, 8.0], SOPInstanceUID=uid)
    write_series(tmp_path, [0.0, 4.0, 8.0], step=30, SOPInstanceUID=uid)
    assert "several different images at one position" in reasons(NATIVE, tmp_path)


def test_acquisitions_between_each_other_are_volumes_of_their_own(tmp_path: Path) -> None:
    write_series(tmp_path, [0.0, 4.0, 8.0, 12.0], AcquisitionNumber=1, SliceThickness=4)
    write_series(tmp_path, [2.0, 6.0, 10.0, 14.0], step=60, AcquisitionNumber=2, SliceThickness=4)
    records, _ = found(NATIVE, tmp_path)
    assert [record.notes[0][-11:] for record in records] == ["acquisition", "acquisition"]
    assert sorted(np.diff(NATIVE.read(r).array[0, :, 0, 0])[0] for r in records) == [40, 240]
    assert {NATIVE.read(record).spacing for record in records} == {(4.0, 0.5, 0.75)}


@pytest.mark.parametrize("second", [[2.0, 6.0, 10.0, 14.0], [16.0, 20.0, 24.0, 28.0]])
def test_one_scan_acquired_in_pieces_is_one_volume(tmp_path: Path, second: list[float]) -> None:
    """In turns (odd and even slices, which do not overlap), or piece by piece as a head on a step-and-shoot scanner."""
    write_series(tmp_path, [0.0, 4.0, 8.0, 12.0], AcquisitionNumber=1, SliceThickness=second[0] % 8 or 4)
    write_series(tmp_path, second, AcquisitionNumber=2, SliceThickness=second[0] % 8 or 4)
    sample = only(NATIVE, tmp_path)
    assert sample.array.shape[1] == 8
    assert len(set(np.diff(sample.array[0, :, 0, 0]))) == 1


def test_phases_are_told_apart_by_their_times(tmp_path: Path) -> None:
    for phase in range(3):
        for n in range(4):
            write_series(tmp_path, [4.0 * n], step=10 + 20 * phase, TriggerTime=f"{100 * phase + 7 * n}")
    records, _ = found(NATIVE, tmp_path)
    assert [record.notes for record in records] == [("one of 3 volumes of its series, split by time",)] * 3
    assert sorted(np.diff(NATIVE.read(record).array[0, :, 0, 0]).tolist() for record in records) == [
        [40] * 3,
        [120] * 3,
        [200] * 3,
    ]


@pytest.mark.parametrize("folders", [2, 8])
def test_a_series_dealt_out_over_folders_is_one_volume(tmp_path: Path, folders: int) -> None:
    for n in range(8):
        write_series(tmp_path / f"DIR{n % folders}", [3.0 * n], SliceThickness=3)
    sample = only(NATIVE, tmp_path)
    assert sample.array[0, :, 0, 0].tolist() == [30.0 * n for n in range(8)]
    assert sample.spacing == (3.0, 0.5, 0.75)


def test_slices_of_two_patients_with_one_series_uid_are_two_volumes(tmp_path: Path) -> None:
    write_series(tmp_path, [0.0, 4.0, 8.0], PatientID="Somerville")
    write_series(tmp_path, [2.0, 6.0, 10.0], PatientID="Herschel")
    assert len(found(NATIVE, tmp_path)[0]) == 2


def patched(folder: Path, old: bytes, new: bytes) -> Path:
    for path in folder.iterdir():
        content = path.read_bytes()
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))
    return folder


def test_an_instance_number_with_a_letter_is_none(tmp_path: Path) -> None:
    patched(write_series(tmp_path, [0.0, 2.0, 4.0], InstanceNumber="77"), b"IS\x02\x0077", b"IS\x02\x007a")
    assert only(NATIVE, tmp_path).array[0, :, 0, 0].tolist() == [0, 20, 40]


@pytest.mark.parametrize("written", [b"0,50\\0,75", b"0.50,0.75"])
def test_a_comma_in_a_spacing_is_read_and_noted(tmp_path: Path, written: bytes) -> None:
    folder = write_series(tmp_path, [0.0, 2.0, 4.0])
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.PixelSpacing = ["0.50", "0.75"]
        save(data, path)
    sample = only(NATIVE, patched(folder, b"0.50\\0.75", written))
    assert sample.spacing == (2.0, 0.5, 0.75)
    assert "commas in PixelSpacing are read as decimal points or separators" in sample.notes


def test_a_number_behind_a_nul_is_damaged(tmp_path: Path) -> None:
    """Taken for what is left of it, all values would be wrong."""
    folder = write_series(tmp_path, [0.0, 2.0, 4.0])
    assert only(NATIVE, folder).array.min() == 0
    patched(folder, b"-1000.0", b"\x00\x00000.0")
    with pytest.raises(DataError, match=r"RescaleIntercept '\\x00\\x00000.0' is not 1 number"):
        only(NATIVE, folder)


def test_a_position_that_cannot_be_read_is_not_taken_for_absent(tmp_path: Path) -> None:
    folder = patched(write_series(tmp_path, [2.0, 4.0, 6.0], InstanceNumber=1), b"-3.0\\-4.0\\", b"-3.0\\-4.x\\")
    assert "ImagePositionPatient '-3.0\\\\-4.x\\\\2.0' is not 3 numbers" in reasons(NATIVE, folder)


def test_each_header_of_a_flat_folder_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        write_series(tmp_path, [0.0, 2.0, 4.0], uid=f"1.2.{number}")
    count = 0
    read = pydicom.dcmread

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += bool(kwargs.get("stop_before_pixels"))
        return read(*args, **kwargs)

    monkeypatch.setattr(dicom.pydicom, "dcmread", counted)
    loader = VolumeFolder(dicom=("CT",), window=2, stride=1, spacing=None)
    records, _ = found(loader, tmp_path)
    assert all(loader.read(record).array.size for record in records)
    assert (len(records), count) == (12, 18)


def test_an_unknown_transfer_syntax_is_named(tmp_path: Path) -> None:
    data = make(np.ones((8, 8), np.uint16), TransferSyntaxUID=None)
    del data[0x00020010]
    path = save(data, tmp_path / "a")
    content = path.read_bytes()
    uid = ExplicitVRLittleEndian.encode() + b"\0"
    assert content.count(uid) == 1
    path.write_bytes(content.replace(uid, b"1.2.840.113619.5.2"[:20].ljust(len(uid), b"\0")))
    assert "its transfer syntax 1.2.840.113619.5.2 is not of the DICOM standard" in reasons(NATIVE, tmp_path)


def test_two_studies_with_one_series_uid_are_two_volumes(tmp_path: Path) -> None:
    write_series(tmp_path / "p1", [5.0 * n for n in range(6)], StudyInstanceUID="1.2.1")
    write_series(tmp_path / "p2", [5.0 * n for n in range(6, 12)], StudyInstanceUID="1.2.2")
    assert sorted(NATIVE.read(record).array.shape[1] for record in found(NATIVE, tmp_path)[0]) == [6, 6]


def test_phases_of_a_heart_are_not_mixed_by_the_order_they_came_in(tmp_path: Path) -> None:
    for n in range(6):
        for phase, step in ((40, 10), (70, 30)):
            seconds = 2 * n + (phase == 70) ^ (n % 2)
            times = {"AcquisitionTime": f"1029{seconds:02d}", "NominalPercentageOfCardiacPhase": phase}
            write_series(tmp_path, [5.0 * n], step=step, **times)
    records, _ = found(NATIVE, tmp_path)
    assert sorted(np.diff(NATIVE.read(record).array[0, :, 0, 0]).tolist() for record in records) == [
        [50] * 5,
        [150] * 5,
    ]


def test_time_points_without_positions_are_volumes_of_their_own(tmp_path: Path) -> None:
    for point in (1, 2):
        for number in range(4):
            pixels = np.full((8, 8), 10 * point + number, np.uint16)
            data = make(pixels, "MR", InstanceNumber=4 * point + number, TemporalPositionIdentifier=point)
            save(data, tmp_path / f"{point}{number}")
    columns = [NATIVE.read(record).array[0, :, 0, 0].tolist() for record in found(NATIVE, tmp_path)[0]]
    assert sorted(columns) == [[10, 11, 12, 13], [20, 21, 22, 23]]


@pytest.mark.parametrize("dated", [False, True])
def test_phases_of_a_scan_over_midnight_are_not_mixed(tmp_path: Path, dated: bool) -> None:
    """Phase 2 begins before midnight at the first places, after it at the others."""
    for phase in range(2):
        for n in range(6):
            seconds = 86_400 - 9 + 6 * phase + n
            clock = f"{seconds // 3600 % 24:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"
            date = {"AcquisitionDate": "20240131" if seconds < 86_400 else "20240201"} if dated else {}
            write_series(tmp_path, [5.0 * n], step=10 + 20 * phase, AcquisitionTime=clock, **date)
    records, left = found(NATIVE, tmp_path)
    assert not left
    assert sorted(np.diff(NATIVE.read(record).array[0, :, 0, 0]).tolist() for record in records) == [
        [50] * 5,
        [150] * 5,
    ]


def test_magnitude_and_phase_of_a_private_element_are_volumes_of_their_own(tmp_path: Path) -> None:
    for component in (0, 1):
        write_series(tmp_path / str(component), [0.0, 4.0, 8.0], step=10 + 20 * component)
        for path in (tmp_path / str(component)).iterdir():
            data = pydicom.dcmread(path)
            data.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", component)
            save(data, tmp_path / f"{component}-{path.name}")
            path.unlink()
    assert [record.notes[0][-9:] for record in found(NATIVE, tmp_path)[0]] == ["component"] * 2


def test_frames_that_are_declared_but_not_described_are_refused_before_any_is_read(tmp_path: Path) -> None:
    data = enhanced(4)
    data.compress("1.2.840.10008.1.2.5")
    data.NumberOfFrames = 50
    path = save(data, tmp_path / "a")
    assert dicom.read_header(path).places == ()
    assert "50 frames are declared, and places of 4" in reasons(NATIVE, path)


@pytest.mark.parametrize(
    ("elements", "place", "difference"),
    [
        ({"AcquisitionNumber": 2}, 2.7, "acquisition"),
        ({"AcquisitionNumber": 2}, 90.0, "acquisition"),
        ({"AcquisitionNumber": 2}, 4.0, "acquisition"),
        ({"ConvolutionKernel": "sharp"}, 4.0, "kernel"),
        ({"DiffusionBValue": 800.0}, 4.0, "b-value"),
        ({"ImageOrientationPatient": SAGITTAL}, 4.0, "orientation or spacing"),
        ({"Rows": 8, "Columns": 8, "PixelData": bytes(128)}, 4.0, "size"),
    ],
)
def test_a_stray_slice_is_left_out_and_counted(
    tmp_path: Path, elements: dict[str, Any], place: float, difference: str
) -> None:
    write_series(tmp_path, [2.0 * n for n in range(8)], AcquisitionNumber=1, ConvolutionKernel="soft")
    data = pydicom.dcmread(next(tmp_path.iterdir()))
    data.PixelData = b"\7" * len(data.PixelData)
    for name, value in {"ImagePositionPatient": [-3, -4, place], **elements}.items():
        setattr(data, name, value)
    stray = save(data, tmp_path / "stray")
    records, left = found(NATIVE, tmp_path)
    assert [item.source for item in left] == [stray]
    assert [record.notes for record in records] == [(f"1 slice of another {difference} left out",)]
    assert np.array_equal(NATIVE.read(records[0]).array[0, :, 0, 0], [20.0 * n for n in range(8)])


@pytest.mark.parametrize(("first", "second"), [(8, 8), (8, 2), (3, 1)])
def test_what_may_be_either_of_two_volumes_is_refused(tmp_path: Path, first: int, second: int) -> None:
    write_series(tmp_path, [2.0 * n for n in range(first)], AcquisitionNumber=1)
    write_series(tmp_path, [2.0 * n + 100 for n in range(second)], AcquisitionNumber=2)
    assert "slices are missing" in reasons(NATIVE, tmp_path)


def test_a_b_value_of_another_scanner_s_private_header(tmp_path: Path) -> None:
    for number, factor in ((0, 10.0), (1000, 30.0)):
        write_series(tmp_path / str(number), [0.0, 4.0, 8.0, 12.0], step=factor)
        for path in (tmp_path / str(number)).iterdir():
            data = pydicom.dcmread(path)
            block = data.private_block(0x0065, "Image Private Header", create=True)
            block.add_new(0x09, "FD", float(number))
            save(data, tmp_path / f"{number}-{path.name}")
            path.unlink()
    records, _ = found(NATIVE, tmp_path)
    assert [record.notes for record in records] == [("one of 2 volumes of its series, split by b-value",)] * 2


def test_a_file_that_is_deleted_while_its_series_is_put_together_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_together = series.put_together

    def deleting(slices: Any, source: Path) -> Any:
        result = put_together(slices, source)
        slices[1].header.path.unlink()
        return result

    monkeypatch.setattr(series, "put_together", deleting)
    write_series(tmp_path, [0.0, 2.0, 4.0])
    assert reasons(NATIVE, tmp_path) == "series of 3 slices: a file was deleted meanwhile"
