"""DICOM Segmentations of series whose headers are not as the standard has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medcoss_cli.data.masks import files_of, read_placed, write_segmentation
from medcoss_cli.kit import VolumeFolder
from medcoss_cli.plugin import Record
from tests.dicom_files import save, series

WHOLE = VolumeFolder(dicom=("CT",)).whole()


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (b"Not Supplied", "Doe^Jan"),
        (b"ISO 2022 IR 100 ", "M\xfcller^A"),
        (b"ISO_2022_IR_6 ", "Roe^Ric"),
        (b"ISO_IR 192", "M\xfcl\xfe^A"),
    ],
)
def test_a_mask_does_not_depend_on_the_characters_of_a_name(tmp_path: Path, charset: bytes, name: str) -> None:
    pytest.importorskip("highdicom.seg")
    encoded = name.encode("utf-8" if charset == b"ISO_IR 192" else "latin-1")
    stand_in = "N" * len(encoded)
    for path in series(tmp_path / "ct", [0.0, 2.0, 4.0], StudyInstanceUID="1.2.5").iterdir():
        data = pydicom.dcmread(path)
        data.SpecificCharacterSet, data.PatientName = "ISO_IR 100"[: len(charset)].ljust(len(charset), "X"), stand_in
        content = save(data, path).read_bytes()
        old = data.SpecificCharacterSet.encode()
        assert content.count(old) == content.count(stand_in.encode()) == 1
        path.write_bytes(content.replace(old, charset[: len(old)]).replace(stand_in.encode(), encoded))
    (record,) = (item for item in WHOLE.find(tmp_path / "ct") if isinstance(item, Record))
    sample = WHOLE.read(record)
    assert sample.stored is not None
    labels = np.zeros(sample.array.shape[1:], np.uint8)
    labels[1, 3:6, 4:9] = 1
    write_segmentation(labels, sample.stored, files_of(record), ["lesion"], tmp_path / "seg.dcm")
    assert np.array_equal(read_placed(tmp_path / "seg.dcm", sample), labels)
    assert str(pydicom.dcmread(tmp_path / "seg.dcm").PatientName) == name
