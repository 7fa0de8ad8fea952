"""NIfTI, NRRD and MetaImage through the loader: axes, geometry, windows, and what is refused."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medcoss_cli.errors import DataError
from medcoss_cli.kit import VolumeFolder
from medcoss_cli.kit.readers.volume import slice_axis, windows
from medcoss_cli.plugin import Grid, Record, Sample, Skipped
from medcoss_cli.registry.discovery import load_modality

NATIVE = VolumeFolder(window=64, stride=64, spacing=None)
TURNS = [(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]


def write(path: Path, array: np.ndarray[Any, Any], affine: Any = None, second: bool = False) -> Path:
    kind = nib.Nifti2Image if second else nib.Nifti1Image
    nib.save(kind(array, np.eye(4) if affine is None else affine), path)
    return path


def only(path: Path, loader: VolumeFolder = NATIVE) -> Sample:
    (item,) = loader.find(path)
    assert isinstance(item, Record), item
    return loader.read(item)


def left(path: Path, loader: VolumeFolder = NATIVE) -> Skipped:
    (item,) = loader.find(path)
    assert isinstance(item, Skipped), item
    return item


def world(sample: Sample) -> np.ndarray[Any, Any]:
    """LPS position of every voxel, (D, H, W, 3), from what the sample says of its geometry."""
    assert sample.origin is not None
    assert sample.direction is not None
    assert sample.spacing is not None
    z, y, x = np.meshgrid(*(np.arange(n) for n in sample.array.shape[1:]), indexing="ij")
    steps = np.stack([x, y, z], -1) * np.array(sample.spacing[::-1])
    return np.asarray(steps @ np.array(sample.direction).reshape(3, 3).T + np.array(sample.origin))


def ramp(shape: tuple[int, ...], affine: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A volume whose value is 1, 10, 100 times its place in RAS: any mistake in an axis changes it."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    ras = index @ affine[:3, :3].T + affine[:3, 3]
    return (ras @ np.array([1.0, 10.0, 100.0])).astype(np.float32)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turn=st.sampled_from(TURNS),
    tilt=st.floats(-0.3, 0.3),
    loader=st.sampled_from([NATIVE, VolumeFolder(window=64, stride=64, spacing=None, trim=0.2, crop_above=5)]),
    second=st.booleans(),
)
@example(turn=TURNS[0], tilt=0.0, loader=NATIVE, second=False)
def test_every_voxel_stays_at_its_place_in_the_patient(
    tmp_path: Path, turn: Any, tilt: float, loader: VolumeFolder, second: bool
) -> None:
    order, signs = turn
    rotation = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.eye(3)[:, order] @ np.diag(signs) @ np.diag([1.0, 2.0, 3.5])
    affine[:3, 3] = (7, -11, 13)
    sample = only(write(tmp_path / "a.nii", ramp((10, 12, 14), affine), affine, second), loader)
    expected = world(sample) @ np.array([-1.0, -10.0, 100.0])  # LPS to RAS
    assert sample.array[0] == pytest.approx(expected, abs=0.02)
    cosines = np.array(sample.direction).reshape(3, 3)
    assert np.diag(cosines).min() > 0.9  # nearest to left, posterior, superior


def test_it_agrees_with_simpleitk_on_the_same_file(tmp_path: Path) -> None:
    affine = np.array([[0, 0, -3.0, 5], [-2.0, 0, 0, 6], [0, -1.5, 0, 7], [0, 0, 0, 1]])
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 999, (5, 6, 7)).astype(np.int16), affine)
    sample, other = only(path), sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    assert np.array_equal(sample.array[0], sitk.GetArrayFromImage(other))
    assert sample.spacing == pytest.approx(other.GetSpacing()[::-1])
    assert sample.origin == pytest.approx(other.GetOrigin())
    assert sample.direction == pytest.approx(other.GetDirection())


def test_qform_alone_is_enough(tmp_path: Path) -> None:
    affine = np.diag([-2.0, 1.0, 3.0, 1.0])
    image = nib.Nifti1Image(ramp((5, 6, 7), affine), affine)
    image.set_qform(affine, 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    sample = only(tmp_path / "a.nii")
    assert sample.array[0] == pytest.approx(world(sample) @ np.array([-1.0, -10.0, 100.0]), abs=0.01)


def test_without_an_orientation_none_is_invented(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(210, dtype=np.int16).reshape(5, 6, 7), None)
    image.header.set_zooms((2, 3, 4))
    nib.save(image, tmp_path / "a.nii")
    sample = only(tmp_path / "a.nii")
    assert (sample.origin, sample.direction) == (None, None)
    assert sample.spacing == (4, 3, 2)
    assert "no orientation" in sample.notes[0]


def test_scaling_is_applied_and_an_invalid_one_is_none(tmp_path: Path) -> None:
    values = np.arange(210, dtype=np.int16).reshape(5, 6, 7)
    image = nib.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(2, -100)
    nib.save(image, tmp_path / "scaled.nii")
    assert (only(tmp_path / "scaled.nii").array.min(), only(tmp_path / "scaled.nii").array.max()) == (-100, 318)
    data = bytearray((tmp_path / "scaled.nii").read_bytes())
    for slope in (np.float32(0), np.float32("nan")):
        data[112:116] = slope.tobytes()
        (tmp_path / "plain.nii").write_bytes(bytes(data))
        assert only(tmp_path / "plain.nii").array.max() == 209


DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_those_of_nibabel(tmp_path: Path, dtype: str, order: str, second: bool) -> None:
    kind = nib.Nifti2Image if second else nib.Nifti1Image
    rng = np.random.default_rng(0)
    values: Any = rng.normal(0, 1e5, (4, 5, 6)) if dtype[0] == "f" else rng.integers(0, 100, (4, 5, 6))
    values = values.astype(dtype)
    if values.itemsize >= 4 and dtype[0] != "f":
        values += np.array(2**31 - 200 if dtype == "i4" else 2**31, dtype)  # beyond what a float32 holds
    for slope, intercept in ((1, 0), (0.5, -20), (2, -(2.0**32)), (np.nan, np.nan), (0, 7)):
        image = kind(values, np.diag([-1, -1, 1, 1]), kind.header_class(endianness=order), dtype=np.dtype(dtype))
        nib.save(image, tmp_path / "a.nii")
        data = bytearray((tmp_path / "a.nii").read_bytes())
        at, code = (176, "d") if second else (112, "f")
        data[at : at + 2 * np.dtype(code).itemsize] = np.array([slope, intercept], order + code).tobytes()
        (tmp_path / "a.nii").write_bytes(bytes(data))
        expected = np.asarray(nib.load(tmp_path / "a.nii").get_fdata()).T
        assert np.array_equal(only(tmp_path / "a.nii").array[0], expected.astype(np.float32))


def test_an_intercept_that_is_no_number_is_refused(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.nii", np.ones((4, 5, 6), np.int16)).read_bytes())
    data[112:120] = np.array([2, np.nan], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(data))
    assert left(tmp_path / "a.nii").reason == "the header scales the voxels by 2 and adds nan"
    assert left(tmp_path / "a.nii").bad


def test_a_label_map_is_no_image(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4))
    image.header.set_intent("label")
    nib.save(image, tmp_path / "a.nii.gz")
    assert left(tmp_path / "a.nii.gz").reason == "a label map (a mask) where a volume is expected"
    assert not left(tmp_path / "a.nii.gz").bad


def test_half_of_a_pair_is_known_by_its_content(tmp_path: Path) -> None:
    values = np.ones((4, 5, 6), np.int16)
    nib.save(nib.AnalyzeImage(values, np.eye(4)), tmp_path / "old.hdr")
    nib.save(nib.Nifti1Pair(values, np.eye(4)), tmp_path / "pair.hdr")
    for name in ("old.hdr", "pair.hdr"):
        assert "half of a NIfTI or Analyze pair" in left(tmp_path / name).reason


def test_content_decides_whatever_the_name(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.nii", np.ones((4, 5, 6), np.float32))
    (tmp_path / "b.nii.gz").write_bytes(plain.read_bytes())
    (tmp_path / "c.png").write_bytes(gzip.compress(plain.read_bytes()))
    assert only(tmp_path / "b.nii.gz").array.shape == only(tmp_path / "c.png").array.shape == (1, 6, 5, 4)
    (tmp_path / "d.nii.gz").write_text("not a volume at all\n")
    assert left(tmp_path / "d.nii.gz").reason == "text where a volume is expected"


def test_a_time_series_is_refused_or_split(tmp_path: Path) -> None:
    values = np.arange(3 * 120, dtype=np.int16).reshape(3, 4, 5, 6).transpose(1, 2, 3, 0)
    path = write(tmp_path / "a.nii.gz", values)
    assert left(path).reason == "3 volumes in one file (4D) where one is expected"
    loader = VolumeFolder(window=64, spacing=None, split_4d=True)
    records = [item for item in loader.find(path) if isinstance(item, Record)]
    assert [record.part for record in records] == [("volume", n, "window", 0, 6) for n in range(3)]
    assert [loader.read(record).array.min() for record in records] == [0, 120, 240]


def test_an_image_is_not_a_volume(tmp_path: Path) -> None:
    for shape in ((8, 9), (8, 9, 1), (8, 1, 9), (1, 8, 9), (1, 8, 9, 1)):
        item = left(write(tmp_path / "a.nii", np.ones(shape, np.float32)))
        assert item.reason == "an image (2D) where a volume is expected"
        assert not item.bad


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan")])
def test_impossible_spacing_is_read_by_the_affine_or_refused(tmp_path: Path, step: float) -> None:
    path = write(tmp_path / "a.nii", ramp((4, 5, 6), np.eye(4)), np.eye(4))
    data = bytearray(path.read_bytes())
    data[84:88] = np.float32(step).tobytes()
    path.write_bytes(bytes(data))
    sample = only(path)  # the sform says how large voxels are
    assert sample.spacing == (1, 1, 1)
    assert sample.array[0] == pytest.approx(world(sample) @ np.array([-1.0, -10.0, 100.0]), abs=0.01)
    assert sample.notes
    data[252:256] = bytes(4)
    path.write_bytes(bytes(data))
    if step < 0:
        assert only(path).spacing == (1, 1, 1)
        assert "without its sign" in only(path).notes[0]
    else:
        assert left(path).bad
        assert "is impossible" in left(path).reason


def test_sheared_axes_are_refused(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.4
    path = write(tmp_path / "a.nii", np.ones((4, 5, 6), np.float32), affine)
    data = bytearray(path.read_bytes())
    data[252:254] = b"\0\0"  # no qform to fall back to
    path.write_bytes(bytes(data))
    assert "not at right angles" in left(path).reason


def test_a_header_that_promises_too_much_is_refused_before_decoding(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.nii", np.ones((4, 5, 6), np.float32)).read_bytes())
    data[42:48] = np.array([30000, 30000, 30000], np.int16).tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(data))
    assert "more than the limit" in left(tmp_path / "a.nii").reason


@pytest.mark.parametrize(("at", "value"), [(108, "nan"), (268, "nan"), (292, "inf"), (40, "-1")])
def test_numbers_that_cannot_be_in_a_header(tmp_path: Path, at: int, value: str) -> None:
    data = bytearray(write(tmp_path / "a.nii", np.ones((4, 5, 6), np.float32)).read_bytes())
    data[at : at + 4] = np.float32(value).tobytes()
    data[252:256] = b"\1\0\0\0" if at == 268 else b"\0\0\1\0"  # read the qform, or the sform
    (tmp_path / "a.nii").write_bytes(bytes(data))
    assert left(tmp_path / "a.nii").bad


def test_a_gzip_bomb_is_stopped(tmp_path: Path) -> None:
    data = write(tmp_path / "a.nii", np.ones((4, 5, 6), np.float32)).read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(data + bytes(64 * 2**20)))
    record = next(iter(NATIVE.find(tmp_path / "a.nii.gz")))
    assert isinstance(record, Record)
    with pytest.raises(DataError, match="more than its header declares"):
        NATIVE.read(record)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999), zipped=st.booleans(), damage=st.binary(max_size=4))
def test_cut_or_damaged_files_are_refused_or_read_and_nothing_else(
    tmp_path: Path, share: float, zipped: bool, damage: bytes
) -> None:
    whole = tmp_path / "whole.nii"
    if not whole.exists():
        write(whole, np.random.default_rng(0).integers(0, 99, (9, 8, 7)).astype(np.int16))
    data = gzip.compress(whole.read_bytes(), mtime=0) if zipped else whole.read_bytes()
    at = int(len(data) * share)
    path = tmp_path / "cut.nii"
    path.write_bytes(data[:at] + damage + (data[at + len(damage) :] if damage else b""))
    for item in NATIVE.find(path):
        if isinstance(item, Skipped):
            assert item.reason
            continue
        try:
            sample = NATIVE.read(item)
        except DataError as error:
            assert error.what  # noqa: PT017 - a damaged file may be readable or not
        else:
            assert sample.array.size
            assert damage, "a cut file was read"


@pytest.mark.parametrize("ending", ["nrrd", "mha", "nii.gz"])
def test_other_formats_give_the_same_volume(tmp_path: Path, ending: str) -> None:
    image = sitk.GetImageFromArray(np.arange(210, dtype=np.int16).reshape(5, 6, 7))
    image.SetSpacing((1, 2, 3))
    image.SetOrigin((4, 5, 6))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / f"a.{ending}"), True)
    (tmp_path / f"a.{ending}").rename(tmp_path / "without_ending")
    sample = only(tmp_path / "without_ending")
    assert np.array_equal(sample.array[0], np.arange(210).reshape(5, 6, 7)[:, ::-1, ::-1])
    assert sample.spacing == (3, 2, 1)
    assert sample.origin == pytest.approx((-2, -5, 6))


def test_values_that_are_not_hounsfield_units_are_refused(tmp_path: Path) -> None:
    loader = VolumeFolder(spacing=None, hounsfield=True)
    values = np.zeros((6, 6, 6), np.int16)
    path = write(tmp_path / "a.nii", values)
    with pytest.raises(DataError, match="no air"):
        loader.read(next(item for item in loader.find(path) if isinstance(item, Record)))
    values[0] = -1000
    assert only(write(tmp_path / "b.nii", values), loader).array.min() == -1000


def test_nan_is_kept_for_the_core_to_replace(tmp_path: Path) -> None:
    values = np.ones((4, 5, 6), np.float32)
    values[1, 2, 3] = np.nan
    assert np.isnan(only(write(tmp_path / "a.nii", values)).array).sum() == 1


def test_wide_volumes_are_cropped_to_their_middle_where_that_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", np.zeros((400, 330, 3), np.int16))
    assert only(path, VolumeFolder(spacing=None, crop_above=320)).array.shape == (1, 3, 264, 320)
    assert only(path, VolumeFolder(spacing=None)).array.shape == (1, 3, 330, 400)
    small = write(tmp_path / "b.nii", np.zeros((320, 300, 3), np.int16))
    assert only(small, VolumeFolder(spacing=None, crop_above=320)).array.shape == (1, 3, 300, 320)


def test_of_the_modalities_only_ct_is_cropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", np.full((400, 330, 20), -900, np.int16))
    widths = {}
    for name in ("mri", "ct"):
        loader = load_modality(name).loader
        record = next(item for item in loader.find(path) if isinstance(item, Record))
        widths[name] = loader.read(record).array.shape[2:]
    assert widths == {"mri": (330, 400), "ct": (264, 320)}


def test_mri_is_cut_along_the_slices_of_its_acquisition(tmp_path: Path) -> None:
    """A sagittal head as scanners store it, 166 slices: 16 windows, as the authors have it; of 256 x 256, 25 axially."""
    affine = np.array(
        [[0, 0, -1.2, 90], [0.94, 0, 0, -120], [0, -0.94, 0, 120], [0, 0, 0, 1.0]]
    )  # x to A, y to I, z to L
    values = ramp((64, 48, 166), affine)
    path, loader = write(tmp_path / "a.nii", values, affine), load_modality("mri").loader
    records = [item for item in loader.find(path) if isinstance(item, Record)]
    assert len(records) == 16
    assert len([*VolumeFolder(window=16, stride=8, spacing=None, trim=0.1).find(path)]) < 16
    sample = loader.read(records[0])
    assert sample.array.shape == (1, 16, 48, 64)
    assert sample.spacing == pytest.approx((1.2, 0.94, 0.94))
    places = world(sample) * (-1, -1, 1)  # to RAS
    assert sample.array[0] == pytest.approx(places @ np.array([1.0, 10.0, 100.0]), abs=1e-2)
    axes = np.array(sample.direction).reshape(3, 3).T
    assert axes == pytest.approx(
        np.array([[0, 1, 0], [0, 0, -1], [1, 0, 0]])
    )  # W to posterior, H to inferior, D to left
    whole = loader.whole()  # type: ignore[attr-defined]
    [record] = whole.find(path)
    assert whole.read(record).array.shape == (1, 48, 64, 166)  # masks and displays stay axial


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((1, 1, 5), 2), ((5, 1, 1), 0), ((1, 5, 1), 1), ((1, 1, 1), 2), ((1.2, 1.2, 1), 1), ((1.001, 1, 1), 2), (None, 2)],
)
def test_the_slice_axis_is_that_of_the_largest_spacing_or_the_last(spacing: Any, axis: int) -> None:
    found = slice_axis(Grid((9, 9, 9), spacing))
    assert found == axis


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("thick", range(3))
def test_a_window_of_acquired_slices_lies_where_it_says(tmp_path: Path, turn: Any, thick: int) -> None:
    (order, signs), steps = turn, [1.0, 1.0, 1.0]
    steps[thick] = 3.0
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs) @ np.eye(3)[list(order)] @ np.diag(steps)
    affine[:3, 3] = (3, -5, 7)
    shape = (6, 7, 8)
    path = write(tmp_path / "a.nii", ramp(shape, affine), affine)
    sample = only(path, VolumeFolder(window=64, stride=64, spacing=None, slices="acquired"))
    assert sample.spacing is not None
    assert (sample.array.shape[1], sample.spacing[0]) == (shape[thick], 3.0)
    assert sample.array[0] == pytest.approx(world(sample) * (-1, -1, 1) @ np.array([1.0, 10.0, 100.0]), abs=1e-3)


def test_depth_is_trimmed_at_both_ends(tmp_path: Path) -> None:
    values = np.zeros((4, 4, 40), np.int16) + np.arange(40, dtype=np.int16)
    loader = VolumeFolder(spacing=None, window=16, stride=8, trim=0.1)
    records = [item for item in loader.find(write(tmp_path / "a.nii", values)) if isinstance(item, Record)]
    edges = [(loader.read(r).array.min(), loader.read(r).array.max()) for r in records]
    assert edges == [(4, 19), (12, 27), (20, 35)]


@given(depth=st.integers(1, 300), window=st.integers(1, 40), stride=st.integers(1, 40))
def test_windows_cover_a_volume_and_stay_inside(depth: int, window: int, stride: int) -> None:
    cut = windows(depth, window, stride)
    assert all(0 <= first < end <= depth and end - first == min(window, depth) for first, end in cut)
    assert cut[0][0] == 0
    assert cut[-1][1] == depth
    assert len(set(cut)) == len(cut)
    if stride <= window:
        assert set().union(*(range(*edge) for edge in cut)) == set(range(depth))


@pytest.mark.parametrize(("second", "at"), [(False, 108), (True, 168)])
def test_without_a_place_of_the_voxels_they_follow_the_header(tmp_path: Path, second: bool, at: int) -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    path = write(tmp_path / "a.nii", values, np.eye(4), second)
    content = bytearray(path.read_bytes())
    content[at : at + (8 if second else 4)] = bytes(8 if second else 4)
    path.write_bytes(content)
    sample = only(path)
    assert np.array_equal(np.sort(sample.array.ravel()), np.arange(60))
    assert "the header does not say where its voxels begin: behind the header" in sample.notes


def test_a_code_that_the_standard_does_not_have_is_none(tmp_path: Path) -> None:
    affine = np.diag([-2.0, 3, 4, 1])
    path = write(tmp_path / "a.nii", np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine)
    content = bytearray(path.read_bytes())
    content[252:256] = b"\xe3\x24\x97\x66"
    path.write_bytes(content)
    sample = only(path)
    assert (sample.origin, sample.spacing) == (None, (4.0, 3.0, 2.0))
    assert "a code of sform or qform that the standard does not have is taken as 0" in sample.notes
