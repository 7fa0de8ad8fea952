"""Tilted gantry and uneven slices: an even grid where it is asked for, and masks carried back to the slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medcoss_cli.data.masks import files_of, read_placed, write_segmentation
from medcoss_cli.kit import VolumeFolder
from medcoss_cli.plugin import Record, Sample
from tests.dicom_files import found, make, only, save

WHOLE = VolumeFolder(dicom=("CT",), tilt="correct").whole()
SIZE, SPACING = (9, 24, 20), (1.5, 1.25)  # slices, rows, columns; mm between rows and columns
NORMAL = 4.0


def value(points: Any) -> Any:
    """A known function of the place in mm."""
    return 4 * points[..., 0] + 6 * points[..., 1] + 9 * points[..., 2] - 300


def scan(folder: Path, shear: float, steps: list[float] | None = None) -> Path:
    """Axial slices that move `shear` mm to the back for each mm upward."""
    for n in range(SIZE[0]):
        z = (steps or [NORMAL * k for k in range(SIZE[0])])[n]
        origin = np.array([-12.0, -16 + shear * z, -20 + z])
        rows, columns = np.mgrid[: SIZE[1], : SIZE[2]]
        points = origin + np.stack([columns * SPACING[1], rows * SPACING[0], 0.0 * rows], -1)
        data = make(
            np.rint((value(points) + 1500) * 8).astype(np.uint16),
            RescaleSlope=0.125,
            RescaleIntercept=-1500,
            PixelSpacing=list(SPACING),
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[f"{x:.6f}" for x in origin],
            StudyInstanceUID="1.2.7",
            FrameOfReferenceUID="1.2.8",
            InstanceNumber=n + 1,
        )
        save(data, folder / f"{(5 * n) % SIZE[0]}")
    return folder


def scan_of_frames(folder: Path, shear: float) -> Path:
    """The same slices as the frames of one file, not in order."""
    scan(folder / "slices", shear)
    slices = [pydicom.dcmread(path) for path in sorted((folder / "slices").iterdir())]
    data = make(np.stack([part.pixel_array for part in slices]), StudyInstanceUID="1.2.7", FrameOfReferenceUID="1.2.8")
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"  # Enhanced CT
    shared, measures, turn, rule = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, turn.ImageOrientationPatient = list(SPACING), [1, 0, 0, 0, 1, 0]
    rule.RescaleSlope, rule.RescaleIntercept, rule.RescaleType = 0.125, -1500, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([turn])
    shared.PixelValueTransformationSequence = Sequence([rule])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for part in slices:
        group, place = Dataset(), Dataset()
        place.ImagePositionPatient = part.ImagePositionPatient
        group.PlanePositionSequence = Sequence([place])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    save(data, folder / "frames" / "scan")
    return folder / "frames"


def places(sample: Sample) -> Any:
    """mm of every voxel (D, H, W, 3) of a sample whose axes are the patient's."""
    assert sample.origin is not None
    assert sample.spacing is not None
    depth, height, width = sample.array.shape[1:]
    z, y, x = np.meshgrid(np.arange(depth), np.arange(height), np.arange(width), indexing="ij")
    return np.array(sample.origin) + np.stack([x, y, z], -1) * np.array(sample.spacing[::-1])


@pytest.mark.parametrize(
    ("shear", "steps"),
    [
        (0.2, None),
        (-0.13, None),
        (0.0, [0, 4, 8, 12.9, 16.9, 20.9, 25.8, 29.8, 33.8]),
        (0.2, [0, 4, 8, 12.9, 17, 21, 25, 29, 33]),
    ],
)
def test_values_lie_where_the_even_grid_says(tmp_path: Path, shear: float, steps: list[float] | None) -> None:
    sample = only(WHOLE, scan(tmp_path, shear, steps))
    inside = (slice(None), slice(6, -6), slice(2, -2))
    assert np.abs(sample.array[0][inside] - value(places(sample))[inside]).max() < 0.1
    assert sample.spacing == (NORMAL, *SPACING)
    assert any("resampled to an even grid" in note for note in sample.notes)
    assert not any("not corrected" in note for note in sample.notes)


def test_without_being_asked_it_is_refused_for_masks_and_noted_for_windows(tmp_path: Path) -> None:
    scan(tmp_path, 0.2)
    records, left = found(VolumeFolder(dicom=("CT",)).whole(), tmp_path)
    assert not records
    assert (
        left[0].reason
        == "slices are shifted sideways (tilted gantry): data.tilt=correct (--tilt correct) resamples it to an even grid"
    )
    assert "tilted gantry" in only(VolumeFolder(dicom=("CT",), spacing=None), tmp_path).notes[-1]


def test_an_even_series_is_the_same_with_and_without(tmp_path: Path) -> None:
    scan(tmp_path, 0.0)
    plain, corrected = only(VolumeFolder(dicom=("CT",)).whole(), tmp_path), only(WHOLE, tmp_path)
    assert np.array_equal(plain.array, corrected.array)
    assert plain.notes == corrected.notes


@pytest.mark.parametrize("make_scan", [scan, scan_of_frames])
def test_a_mask_goes_back_to_the_tilted_slices_and_comes_again(tmp_path: Path, make_scan: Any) -> None:
    pytest.importorskip("highdicom")
    records, _ = found(WHOLE, make_scan(tmp_path / "ct", 0.2))
    record = next(item for item in records if isinstance(item, Record))
    sample = WHOLE.read(record)
    ball = (np.abs(places(sample) - np.array([0, 3, -4])) ** 2).sum(-1) < 9**2  # mm in the patient
    assert sample.stored is not None
    path = tmp_path / "seg.dcm"
    write_segmentation(ball.astype(np.uint8), sample.stored, files_of(record), ["ball"], path)
    data = pydicom.dcmread(path)
    frames = data.pixel_array
    positions = [
        np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        for group in data.PerFrameFunctionalGroupsSequence
    ]
    sources = [np.array([-12.0, -16 + 0.2 * NORMAL * n, -20 + NORMAL * n]) for n in range(SIZE[0])]
    rows, columns = np.mgrid[: SIZE[1], : SIZE[2]]
    for frame, position in zip(frames, positions, strict=True):
        assert min(np.abs(position - source).max() for source in sources) < 1e-3  # a slice of the scanner's
        points = position + np.stack([columns * SPACING[1], rows * SPACING[0], 0.0 * rows], -1)
        truth = (np.abs(points - np.array([0, 3, -4])) ** 2).sum(-1)
        assert not frame[truth > 10**2].any()  # half a pixel of .75 mm at most
        assert frame[truth < 8**2].all()
    assert np.array_equal(read_placed(path, sample, files_of(record)[0]) > 0, ball)
