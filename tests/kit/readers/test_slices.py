"""Series of thousands of folders or orientations: the work stays in proportion to the files."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from medcoss_cli.kit.readers.dicom import DicomHeader, Frame
from medcoss_cli.kit.readers.slices import Slice, by_folders
from tests.dicom_files import NATIVE, enhanced, reasons, save


def test_thousands_of_folders_of_one_slice_are_one_stack_in_seconds() -> None:
    slices = []
    for n in range(5000):
        frame = Frame(0, (1.0, 0, 0, 0, 1, 0), (0.0, 0, float(n)), (1.0, 1), 1.0, (), (), ())
        path = Path(f"/series/{n}/image")
        slices.append(
            Slice(DicomHeader(path, None, "CT", True, 8, 8, 1, (frame,), None, "", "s", "", n, None, 0), frame)
        )
    begin = time.monotonic()
    groups = by_folders(slices)
    assert [len(group) for group in groups] == [5000]
    assert time.monotonic() - begin < 10  # seconds; pair by pair it takes 18 s


def test_frames_that_each_have_an_orientation_of_their_own_are_refused(tmp_path: Path) -> None:
    data = enhanced(600)
    del data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for n, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        turn = type(group)()
        angle = n * np.pi / 150
        turn.ImageOrientationPatient = [round(float(x), 6) for x in (np.cos(angle), np.sin(angle), 0, 0, 0, -1)]
        group.PlaneOrientationSequence = [turn]
        group.PixelMeasuresSequence = [type(group)()]
        group.PixelMeasuresSequence[0].PixelSpacing = [1 + 0.03 * (n // 300), 1]
    path = save(data, tmp_path / "a")
    assert reasons(NATIVE, path) == "series of 600 slices: they have more than 500 orientations or pixel spacings"
