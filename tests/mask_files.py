"""What the tests of masks share: volumes as files, and what is read of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medcoss_cli.kit import VolumeFolder
from medcoss_cli.plugin import Record, Sample

WHOLE = VolumeFolder(dicom=("CT", "MR")).whole()


def found(path: Path) -> tuple[Record, Sample]:
    (record,) = (item for item in WHOLE.find(path) if isinstance(item, Record))
    return record, WHOLE.read(record)


def sample(shape: tuple[int, ...], **geometry: Any) -> Sample:
    return Sample(np.zeros((1, *shape), np.float32), **geometry)


def nifti(path: Path, array: Any, affine: Any) -> Path:
    nib.save(nib.Nifti1Image(np.asarray(array), affine), path)
    return path
