"""DICOM as users of other programs have reported it, each built here; names are of the public threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless

from medcoss_cli.errors import DataError
from tests.dicom_files import NATIVE, STILLS, found, make, only, reasons, save, series

PLACES = [0.0, 3.0, 6.0, 9.0]


def edited(folder: Path, change: Callable[[pydicom.Dataset, int], Any]) -> Path:
    """A series of four slices, each changed by `change(data, slice)`."""
    for path in list(series(folder, PLACES, SliceThickness=3).iterdir()):
        data = pydicom.dcmread(path)
        change(data, round(float(data.ImagePositionPatient[2]) / 3))
        save(data, path)
    return folder


def column(folder: Path) -> list[float]:
    values: list[float] = only(NATIVE, folder).array[0, :, 0, 0].tolist()
    return values


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda d, n: setattr(d, "SpacingBetweenSlices", -3), id="negative spacing (Slicer 7937, ITK 5357)"
        ),
        pytest.param(lambda d, n: setattr(d, "InstanceNumber", 9 - n), id="numbers against positions (dwv 560)"),
        pytest.param(lambda d, n: setattr(d, "SliceLocation", -n), id="slice location against positions (dwv 560)"),
        pytest.param(lambda d, n: setattr(d, "StudyTime", f"10294{n}.5"), id="study time varies (dcm2niix 667)"),
        pytest.param(
            lambda d, n: setattr(d, "SeriesDescription", f"CBF 09-05-1{n}"), id="description varies (dcm2niix 382)"
        ),
        pytest.param(lambda d, n: setattr(d, "Exposure", 20 - n), id="exposure varies (dcm2niix 143)"),
        pytest.param(lambda d, n: setattr(d, "AcquisitionNumber", n), id="an acquisition for each slice (dcm2niix 48)"),
        pytest.param(lambda d, n: setattr(d, "AcquisitionTime", f"10294{n}.5"), id="each slice its time"),
        pytest.param(lambda d, n: setattr(d, "InstanceNumber", n // 2), id="numbers twice"),
        pytest.param(lambda d, n: setattr(d, "PixelData", d.PixelData + bytes(64)), id="excess padding (pydicom 796)"),
        pytest.param(lambda d, n: setattr(d, "NumberOfFrames", 1), id="one frame said (Slicer 6091)"),
    ],
)
def test_a_series_is_one_volume_in_the_order_of_its_positions(tmp_path: Path, change: Any) -> None:
    assert column(edited(tmp_path, change)) == [0, 30, 60, 90]


def test_contrast_phases_of_unlike_length(tmp_path: Path) -> None:
    """dcm2niix 721: 469 slices of three phases, which no count of repeats divides."""
    for phase, places in enumerate(([0.0, 3, 6, 9], [0.0, 3, 6, 9, 12], [3.0, 6, 9])):
        series(tmp_path, [float(p) for p in places], step=10 + 20 * phase, AcquisitionNumber=phase, SliceThickness=3)
    records, _ = found(NATIVE, tmp_path)
    assert sorted(np.diff(NATIVE.read(r).array[0, :, 0, 0]).tolist() for r in records) == [
        [30] * 3,
        [90] * 4,
        [150] * 2,
    ]


def test_time_points_of_a_perfusion_scan(tmp_path: Path) -> None:
    """dcm2niix 463: time points dealt out wrongly; here each is a volume of its own."""
    for point in range(3):
        series(tmp_path, PLACES, step=10 * (point + 1), TemporalPositionIdentifier=point + 1)
    records, _ = found(NATIVE, tmp_path)
    assert [r.notes for r in records] == [("one of 3 volumes of its series, split by time point",)] * 3
    assert sorted(NATIVE.read(r).array[0, 1, 0, 0] for r in records) == [30, 60, 90]


def test_two_tube_voltages_in_one_series(tmp_path: Path) -> None:
    for voltage, step in ((80, 10), (140, 30)):
        series(tmp_path, PLACES, step=step, KVP=voltage)
    records, _ = found(NATIVE, tmp_path)
    assert [r.notes[0][-12:] for r in records] == ["tube voltage"] * 2


def test_frames_in_an_object_for_one_frame(tmp_path: Path) -> None:
    """Slicer 7496: CT Image Storage with frames and no positions: no order is invented, no spacing of 1 mm."""
    data = make(np.arange(5 * 64, dtype=np.uint16).reshape(5, 8, 8), "CT", SliceThickness=2, SpacingBetweenSlices=2)
    assert "several frames without positions" in reasons(NATIVE, save(data, tmp_path / "a"))


@pytest.mark.parametrize("padded", [True, False])
def test_an_odd_number_of_bytes(tmp_path: Path, padded: bool) -> None:
    """pydicom 599 and 866: 8 bits and an odd number of pixels, with and without the byte that makes it even."""
    pixels = np.arange(9 * 11, dtype=np.uint8).reshape(9, 11)
    path = save(make(pixels, "CR", PixelData=pixels.tobytes() + b"\0"), tmp_path / "a")
    if not padded:
        content = path.read_bytes()
        at = content.rindex(b"\xe0\x7f\x10\x00OB") + 8
        path.write_bytes(content[:at] + (99).to_bytes(4, "little") + content[at + 4 : -1])
    assert np.array_equal(only(STILLS, path).array[0], pixels)


PICTURE = (np.add.outer(np.arange(32) * 7, np.arange(40) * 3) % 250).astype(np.uint8)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("has_offsets", [True, False])
def test_one_frame_in_many_fragments(tmp_path: Path, syntax: Any, has_offsets: bool) -> None:
    """dcm4chee 752, fo-dicom 992: a frame split into small fragments, with and without a table of offsets."""
    data = make(PICTURE, "CR")
    data.compress(syntax)
    (frame,) = pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1)
    data.PixelData = encapsulate([bytes(frame)], fragments_per_frame=4, has_bot=has_offsets)
    assert np.array_equal(only(STILLS, save(data, tmp_path / "a")).array[0], PICTURE)


@pytest.mark.parametrize("has_offsets", [True, False])
def test_more_frames_are_declared_than_there_are(tmp_path: Path, has_offsets: bool) -> None:
    """pydicom 1666: the frames that are there are read, each of the others is refused."""
    data = make(np.stack([PICTURE, PICTURE[::-1], PICTURE[:, ::-1]]), "US")
    data.compress(RLELossless)
    frames = [bytes(frame) for frame in pydicom.encaps.generate_frames(data.PixelData, number_of_frames=3)]
    data.PixelData, data.NumberOfFrames = encapsulate(frames, has_bot=has_offsets), 5
    records, _ = found(STILLS, save(data, tmp_path / "a"))
    outcomes = []
    for record in records:
        try:
            outcomes.append(
                np.array_equal(STILLS.read(record).array[0], [PICTURE, PICTURE[::-1], PICTURE[:, ::-1]][len(outcomes)])
            )
        except DataError:
            outcomes.append(False)
    assert outcomes == [True, True, True, False, False]
