"""Series drawn at random: where nothing is noted, values and geometry are those of SimpleITK's reader of series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so

from medcoss_cli.kit import VolumeFolder
from tests.dicom_files import make, only, save

WHOLE = VolumeFolder(dicom=("CT", "MR")).whole()


def turned(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Axes of rows, columns and slices: of the patient, now and then oblique."""
    if rng.random() < 0.5:
        axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], (3, 1))
        return axes[0], axes[1], np.cross(axes[0], axes[1])
    across = rng.normal(size=3)
    across /= np.linalg.norm(across)
    down = np.cross(across, rng.normal(size=3))
    down /= np.linalg.norm(down)
    return across, down, np.cross(across, down)


def write(folder: Path, rng: np.random.Generator) -> None:
    """A series of 5 to 8 slices, its files named and numbered in any order."""
    across, down, normal = turned(rng)
    count, height, width = (int(rng.integers(low, high)) for low, high in ((5, 9), (8, 14), (8, 14)))
    spacing, step = rng.uniform(0.5, 3, 2), rng.uniform(0.6, 6)
    begin = rng.uniform(-200, 200, 3)
    is_signed, bits = bool(rng.integers(2)), int(rng.choice([12, 16]))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if is_signed else (0, 2**bits)
    slopes = rng.choice([0.5, 1, 2], count) if rng.random() < 0.3 else np.full(count, rng.choice([0.5, 1, 2]))
    offset = float(rng.choice([-1024, 0, 10]))
    for n, name in enumerate(rng.permutation(1000)[:count]):
        pixels = rng.integers(low, high, (height, width)).astype(np.int16 if is_signed else np.uint16)
        data = make(
            pixels,
            "CT",
            BitsStored=bits,
            HighBit=bits - 1,
            PixelRepresentation=int(is_signed),
            RescaleSlope=float(slopes[n]),
            RescaleIntercept=offset,
            PixelSpacing=[f"{x:.6f}" for x in spacing],
            ImageOrientationPatient=[f"{x:.9f}" for x in (*across, *down)],
            ImagePositionPatient=[f"{x:.6f}" for x in begin + normal * step * n],
            InstanceNumber=int(rng.integers(1, 1000)),
        )
        save(data, folder / f"{name}.dcm")


@pytest.mark.parametrize("seed", range(40))
def test_values_and_geometry_are_those_of_another_reader(tmp_path: Path, seed: int) -> None:
    write(tmp_path, np.random.default_rng(seed))
    sample = only(WHOLE, tmp_path)
    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(tmp_path))
    slices = [
        sitk.GetArrayFromImage(sitk.ReadImage(name)).astype(float)[0] for name in names
    ]  # each with its own slope
    reader.SetFileNames(names)
    image = reader.Execute()
    assert sample.spacing is not None
    assert sample.origin is not None
    assert sample.direction is not None
    k, j, i = np.indices(sample.array.shape[1:]).reshape(3, -1)
    steps = np.array(sample.direction).reshape(3, 3) * np.array(sample.spacing[::-1])
    points = np.array(sample.origin) + np.stack([i, j, k], 1) @ steps.T  # mm, LPS
    their_steps = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    places = (points - np.array(image.GetOrigin())) @ np.linalg.inv(their_steps).T  # their voxels x, y, z
    assert np.abs(places - np.rint(places)).max() < 0.01
    x, y, z = np.rint(places).astype(int).T
    assert np.array_equal(np.stack(slices)[z, y, x], sample.array[0].reshape(-1))
    assert sorted(map(tuple, np.rint(places).astype(int).tolist())) == list(np.ndindex(*image.GetSize()))
    assert all(note.startswith("oblique axes") for note in sample.notes)
