"""Volumes in memory: in few bytes, of the same values; files that declare more than a limit are refused with the limit."""

from __future__ import annotations

import gzip
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its users' name for it

from medcoss_cli.errors import DataError
from medcoss_cli.kit import ImageFolder, TextFolder, VolumeFolder
from medcoss_cli.kit.readers import held, image, nifti, series, table, volume
from medcoss_cli.kit.readers.held import Held
from medcoss_cli.kit.readers.volume import FileGrid, VolumePlan
from medcoss_cli.plugin import Skipped
from tests.campaign import bomb_files
from tests.dicom_files import make, save

VALUES = np.random.default_rng(0).integers(-1000, 3000, (4, 5, 6)).astype(np.float32)


def filled(values: np.ndarray, parts: int = 3) -> np.ndarray:
    room = Held(values.shape, values.dtype, Path("a"))
    at = 0
    for piece in np.array_split(values.reshape(-1), parts):
        room.put(at, piece)
        at += len(piece)
    return room.array


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">u2", np.int32, np.float32, np.float64])
def test_whole_numbers_are_held_as_int16_or_as_they_are_stored(dtype: str) -> None:
    values = VALUES.astype(dtype)
    array = filled(values)
    assert array.dtype.itemsize <= 2
    assert np.array_equal(array, values)


@pytest.mark.parametrize("value", [0.5, 40_000, -0.0, np.nan, np.inf, 1e-30])
def test_a_value_that_int16_does_not_hold_makes_it_float32_and_changes_none(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "STEP", 7)  # so that it is widened in several steps
    for place in (0, 50, 119):
        values = VALUES.copy()
        values.reshape(-1)[place] = value
        array = filled(values, 5)
        assert array.dtype == np.float32
        assert array.tobytes() == values.tobytes()


def test_float32_of_more_than_the_limit_is_refused_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MAX_HELD", 2 * VALUES.size)
    assert np.array_equal(filled(VALUES), VALUES)
    with pytest.raises(DataError, match=r"120 voxels that are no whole numbers .* take 480 bytes, .* limit of 240"):
        filled(VALUES + 0.5)
    with pytest.raises(DataError, match="take 242 bytes, more than the limit of 240"):
        Held((11, 11), np.dtype(np.int16), Path("a"))


@pytest.mark.parametrize("spacing", [(0.7, 0.9, 2.3), (1.0, 1.0, 0.4), (3.0, 2.0, 1.0)])
def test_slices_are_those_of_a_volume_that_is_resampled_whole(spacing: tuple[float, float, float]) -> None:
    values = np.random.default_rng(1).integers(-1000, 2000, (70, 21, 17)).astype(np.int16)
    grid = FileGrid((17, 21, 70), spacing, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    planned = volume.Planned(VolumePlan(1.1), values, grid, Path("a"))
    old = sitk.GetImageFromArray(values.astype(np.float32))
    size = planned.grid.size
    steps = [a / b for a, b in zip(grid.size, size, strict=True)]
    origin = [(step - 1) / 2 for step in steps]
    whole = sitk.GetArrayFromImage(
        sitk.Resample(
            old,
            size,
            sitk.Transform(),
            sitk.sitkLinear,
            origin,
            steps,
            old.GetDirection(),
            float(values.min()),
            sitk.sitkFloat32,
        )
    )
    for first, end in volume.windows(size[2], 16, 8):
        assert planned.slices(first, end).tobytes() == whole[first:end].tobytes()
    assert planned.slices(0, size[2]).tobytes() == whole.tobytes()


def test_reading_a_volume_takes_the_memory_of_its_voxels_and_of_a_window(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    bomb_files.nifti(path, (256, 256, 256), "<f8", zipped=True)
    loader = VolumeFolder(window=8, stride=8, spacing=1.0)
    records = [item for item in loader.find(path) if not isinstance(item, Skipped)]
    tracemalloc.start()
    for record in records[:3]:
        loader.read(record)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * 4 * 2**24  # float32 of it all once, with what is decoded at a time; before five times as much


def test_the_slices_of_a_series_are_in_memory_once(tmp_path: Path) -> None:
    for number in range(40):
        place = [0, 0, 2 * number]
        data = make(np.full((256, 256), number, np.uint16), ImagePositionPatient=place, PixelSpacing=[1, 1])
        data.ImageOrientationPatient, data.RescaleSlope, data.RescaleIntercept = [1, 0, 0, 0, 1, 0], 0.5, -1000
        save(data, tmp_path / f"{number}.dcm")
    (item,) = series.find(sorted(tmp_path.iterdir()), None)
    assert isinstance(item, series.Series)
    tracemalloc.start()
    array = series.read(item)[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert array.dtype == np.float32  # a half is none of int16
    assert peak < 1.5 * array.nbytes  # before each slice was kept beside


def test_the_volumes_of_a_file_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii.gz"
    bomb_files.nifti(path, (32, 32, 32, 40), "<i2", zipped=True)
    read = [0]
    real = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        data = real(self, size)
        read[0] += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    loader = VolumeFolder(window=10**6, stride=10**6, spacing=None, split_4d=True)
    found = [loader.read(record).array for record in loader.find(path) if not isinstance(record, Skipped)]
    assert len(found) == 40
    assert read[0] < 3 * 40 * 2 * 32**3  # its length, and its voxels; before 40 times
    for whole, array in zip(nifti.each(path), found, strict=True):
        assert np.array_equal(np.sort(whole, axis=None), np.sort(array, axis=None))


def reason(loader: VolumeFolder | ImageFolder | TextFolder, path: Path) -> str:
    """Why a file is not read: when it is found, or at its first record."""
    item = next(iter(loader.find(path)))
    if isinstance(item, Skipped):
        return item.reason
    with pytest.raises(DataError) as error:
        loader.read(item)
    return error.value.what


VOLUMES, IMAGES, TEXTS = VolumeFolder(spacing=None), ImageFolder(), TextFolder()
Make = Callable[[Path], None]


@pytest.mark.parametrize(
    ("loader", "name", "make", "expected"),
    [
        (VOLUMES, "a.nii", lambda p: bomb_files.nifti(p, (512, 512, 2047), "<i2", False), "limit of 469,762,048"),
        (VOLUMES, "a.nii", lambda p: bomb_files.nifti(p, (8, 8, 8, 20_000), "<i2", False), "limit of 10,000"),
        (VOLUMES, "a.nii", lambda p: bomb_files.nifti(p, (512, 512, 99, 99), "<i2", False), "limit of 2,048 MiB"),
        (VOLUMES, "a.npy", lambda p: bomb_files.npz(p, (99, 999, 999)), "cannot hold more than"),
        (VOLUMES, "a.npz", lambda p: bomb_files.npz(p, (99, 999, 999)), "cannot hold more than"),
        (IMAGES, "a.tif", lambda p: bomb_files.tiff(p, 4_001, 8), "limit of 4,000|more than 4,000 pages"),
        (IMAGES, "a.tif", lambda p: bomb_files.tiff(p, 200, 4000), "200 pages of 3,200,000,000 bytes"),
        (IMAGES, "a.tif", lambda p: bomb_files.tiff(p, 1, 8000, 16, 3), "48 bits are more than .* 134,217,728 bytes"),
        (IMAGES, "a.png", lambda p: bomb_files.png(p, 6000, 16, 6), "64 bits are more than .* 134,217,728 bytes"),
        (TEXTS, "a.csv", lambda p: bomb_files.table(p, 2**24, "commas"), "fields .* limit of 1,048,576"),
        (TEXTS, "a.csv", lambda p: bomb_files.table(p, 2**24, "rows"), "lines are more than the limit of 4,194,304"),
        (TEXTS, "a.csv", lambda p: bomb_files.table(p, 2**29, "line"), "limit of 268,435,456"),
    ],
)
def test_what_a_file_declares_is_weighed_before_it_is_decoded(
    tmp_path: Path, loader: VolumeFolder, name: str, make: Make, expected: str
) -> None:
    make(tmp_path / name)
    assert re.search(expected, reason(loader, tmp_path / name))


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_an_array_of_which_hardly_anything_is_stored_is_refused(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("h5py" if kind == "hdf5" else "zarr")
    path = tmp_path / ("a.h5" if kind == "hdf5" else "a.zarr")
    getattr(bomb_files, kind)(path, (200, 512, 512))
    assert "cannot hold more than 67," in reason(VOLUMES, path)


def test_a_number_too_long_for_python_is_a_line_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "Clear."}\n{"text": ' + "1" * 5000 + "}\n")
    assert table.read_table(path, "text").broken == ("line 2 is not JSON",)


def test_a_signal_is_weighed_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    bomb_files.npz(path, (2**27,), "|i1", 2**27)
    with pytest.raises(DataError, match="limit of 67,108,864"):
        table.read_signal(path)


def test_grey_and_eight_bits_are_as_before() -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.uint8, np.uint16, np.int32, np.float32):
        grey = rng.integers(0, 250, (1, 20, 30)).astype(dtype)
        colour = np.repeat(grey, 3, axis=0)
        weights = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]
        expected = (colour * weights).sum(axis=0, keepdims=True)
        expected = (np.rint(expected) if np.dtype(dtype).kind in "iu" else expected).astype(dtype)
        assert np.array_equal(image.as_grey(colour, Path("a")), expected)
