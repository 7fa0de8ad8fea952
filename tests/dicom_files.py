"""DICOM files of tests, and what loaders make of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medcoss_cli.kit import ImageFolder, VolumeFolder
from medcoss_cli.plugin import Record, Sample, Skipped

CT = "1.2.840.10008.5.1.4.1.1.2"
CR = "1.2.840.10008.5.1.4.1.1.1"
US = "1.2.840.10008.5.1.4.1.1.6.1"
MR = "1.2.840.10008.5.1.4.1.1.4"
NATIVE = VolumeFolder(dicom=("CT", "MR"), window=64, stride=64, spacing=None)
STILLS = ImageFolder(dicom=("CR", "US"))


def make(pixels: np.ndarray[Any, Any], modality: str = "CT", **elements: Any) -> Dataset:
    """A data set of the given pixels (H, W), (H, W, 3) or (frames, H, W)."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = {"CT": CT, "MR": MR, "US": US}.get(modality, CR)
    data.SOPInstanceUID = generate_uid()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.Modality, data.PatientID, data.SeriesInstanceUID = modality, "Lovelace-1815", "1.2.3"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for name, value in elements.items():
        setattr(data, name, value)
    return data


def save(data: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def series(folder: Path, positions: list[float], *, uid: str = "1.2.3", step: float = 10, **elements: Any) -> Path:
    """Axial slices whose every pixel is its position, in files whose names say nothing of it."""
    for position in positions:
        pixels = np.full((12, 16), round(position * step) + 1000, np.uint16)
        data = make(
            pixels,
            RescaleSlope=1,
            RescaleIntercept=-1000,
            PixelSpacing=[0.5, 0.75],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[-3, -4, position],
            SeriesInstanceUID=uid,
            **elements,
        )
        name = hashlib.md5(f"{uid}{position}{step}{elements}".encode(), usedforsecurity=False).hexdigest()
        save(data, folder / name)
    return folder


def found(loader: Any, root: Path) -> tuple[list[Record], list[Skipped]]:
    items = list(loader.find(root))
    return [x for x in items if isinstance(x, Record)], [x for x in items if isinstance(x, Skipped)]


def only(loader: Any, root: Path) -> Sample:
    records, left = found(loader, root)
    assert len(records) == 1, left
    sample = loader.read(records[0])
    assert isinstance(sample, Sample)
    return sample


def reasons(loader: Any, root: Path) -> str:
    records, left = found(loader, root)
    assert not records
    return " | ".join(item.reason for item in left)


def enhanced(frames: int = 4) -> Dataset:
    pixels = np.stack([np.full((8, 8), n, np.uint16) for n in range(frames)])
    data = make(pixels, "MR")
    shared, measures, turn = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, turn.ImageOrientationPatient = [2, 2], [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([turn])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for n in range(frames):
        group, place, rule = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, -5 * n]  # stored from the head down
        rule.RescaleSlope, rule.RescaleIntercept, rule.RescaleType = n + 1, 100, "US"
        group.PlanePositionSequence, group.PixelValueTransformationSequence = Sequence([place]), Sequence([rule])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return data
