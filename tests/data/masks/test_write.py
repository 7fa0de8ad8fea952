"""Masks written back to the grid their image came from."""

from __future__ import annotations

import builtins
import errno
import gzip
import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medcoss_cli.data.masks import check_on, files_of, read_mask, write_png, write_segmentation, write_volume
from medcoss_cli.errors import DataError, ResourceError, UsageError
from medcoss_cli.kit.readers.volume import FileGrid
from medcoss_cli.plugin import Grid, Record, Skipped
from tests.mask_files import WHOLE, found, nifti

TURNS = [(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]
SERIES = ("ct/dicom/body_j2k", "ct/dicom/phantom_head", "mri/dicom/pgbm003_hippocrop")
TWO = ["organ", "tumour"]


def affine_of(turn: Any, angles: tuple[float, ...], steps: tuple[float, ...], origin: tuple[float, ...]) -> Any:
    """Any of the 48 ways of axes, then rotated: right- and left-handed grids."""
    order, signs = turn
    rotation = np.eye(3)
    for (one, other), angle in zip(((0, 1), (1, 2), (0, 2)), angles, strict=True):
        plane = np.eye(3)
        plane[[one, other], [one, other]] = np.cos(angle)
        plane[one, other], plane[other, one] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ plane
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.eye(3)[:, order] @ np.diag(signs) @ np.diag(steps)
    affine[:3, 3] = origin
    return affine


def same_grid(one: Any, other: Any, tolerance: float = 1e-5) -> None:
    assert one.GetSize() == other.GetSize()
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(one, name)() == pytest.approx(getattr(other, name)(), rel=tolerance, abs=tolerance), name


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turn=st.sampled_from(TURNS),
    angles=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    steps=st.tuples(*[st.floats(0.3, 7)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    shape=st.tuples(*[st.integers(2, 9)] * 3),
    seed=st.integers(0, 2**16),
    ending=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".mha"]),
)
def test_a_mask_lands_on_the_voxels_its_image_came_from(
    tmp_path: Path, turn: Any, angles: Any, steps: Any, origin: Any, shape: Any, seed: int, ending: str
) -> None:
    values = np.random.default_rng(seed).integers(0, 90, shape).astype(np.int16)
    image = nifti(tmp_path / "image.nii", values, affine_of(turn, angles, steps, origin))
    if not ending.startswith(".nii"):
        sitk.WriteImage(sitk.ReadImage(str(image)), str(tmp_path / f"image{ending}"))
        image = tmp_path / f"image{ending}"
    elif ending == ".nii.gz":
        image = nifti(tmp_path / "image.nii.gz", values, affine_of(turn, angles, steps, origin))
    read = found(image)[1]
    assert read.stored is not None
    labels = (read.array[0] > 30).astype(np.uint8) + (read.array[0] > 60)
    write_volume(labels, read.stored, tmp_path / "mask.nii.gz")

    source, mask = sitk.ReadImage(str(image)), sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    same_grid(mask, source)
    there = sitk.GetArrayFromImage(source)
    assert np.array_equal(sitk.GetArrayFromImage(mask), 1 * (there > 30) + (there > 60))

    again, grid = read_mask(tmp_path / "mask.nii.gz", 3)
    assert np.array_equal(again, labels)
    check_on(again.shape, grid, read, "here")


def test_without_an_orientation_the_axes_stay_as_they_are_stored(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    image.header.set_zooms((2, 3, 4))
    nib.save(image, tmp_path / "image.nii")
    read = found(tmp_path / "image.nii")[1]
    assert read.stored is not None
    write_volume((read.array[0] > 17).astype(np.uint8), read.stored, tmp_path / "mask.nii.gz")
    source, mask = sitk.ReadImage(str(tmp_path / "image.nii")), sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    same_grid(mask, source)
    assert np.array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(source) > 17)
    labels, grid = read_mask(tmp_path / "mask.nii.gz", 3)
    check_on(labels.shape, grid, read, "here")


HEADERS = ["both unlike", "no codes", "sform only", "qform only", "negative step", "sheared", "metres", "big endian"]


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("header", HEADERS)
def test_a_mask_lies_on_a_nifti_image_whichever_transform_a_viewer_takes(
    tmp_path: Path, header: str, second: bool
) -> None:
    """SimpleITK takes the qform of some, nibabel the sform, and without codes each has its own idea."""
    affine, other = (affine_of(TURNS[n], (0.3, 0.1, 0.2), (2, 3, 4), (5, 60, -7)) for n in (3, 17))
    if header == "sheared":
        affine[0, 1] += 0.004 * 3
    values = np.random.default_rng(0).integers(0, 90, (5, 6, 7)).astype(np.int16)
    kind = nib.Nifti2Image if second else nib.Nifti1Image
    empty = kind.header_class(endianness=">" if header == "big endian" else "<")
    image = kind(values, affine, empty)
    qcode = {"both unlike": 1, "big endian": 1, "qform only": 2}.get(header, 0)
    image.set_qform(other if qcode else None, qcode)
    image.set_sform(affine, {"no codes": 0, "qform only": 0}.get(header, 3))
    image.header.set_zooms((2, 3, 4))
    if header == "metres":
        image.header.set_xyzt_units("meter")
        image.set_sform(affine / 1000, 1)
    nib.save(image, tmp_path / "image.nii")
    if header == "negative step":
        data = bytearray((tmp_path / "image.nii").read_bytes())
        data[80:84] = np.float32(-2).tobytes()
        data[112:120] = np.float64(-2).tobytes() if second else data[112:120]
        (tmp_path / "image.nii").write_bytes(bytes(data))
    read = found(tmp_path / "image.nii")[1]
    assert read.stored is not None
    labels = (read.array[0] > 30).astype(np.uint8)
    write_volume(labels, read.stored, tmp_path / "mask.nii.gz")

    there, mask = nib.load(tmp_path / "image.nii"), nib.load(tmp_path / "mask.nii.gz")
    assert mask.affine == pytest.approx(there.affine, abs=1e-4)  # a qform of single precision
    assert np.array_equal(np.asarray(mask.dataobj), values > 30)
    assert mask.header["sform_code"] == there.header["sform_code"]
    assert mask.header.get_xyzt_units() == there.header.get_xyzt_units()
    if header != "sheared":  # ITK reads no such image, and NIfTI-2 not at all
        assert mask.header["qform_code"] == there.header["qform_code"]
    if header != "sheared" and not second:
        same_grid(sitk.ReadImage(str(tmp_path / "mask.nii.gz")), sitk.ReadImage(str(tmp_path / "image.nii")), 1e-9)
    again, grid = read_mask(tmp_path / "mask.nii.gz", 3)
    assert np.array_equal(again, labels)
    check_on(again.shape, grid, read, "here")


def test_a_mask_keeps_the_pixel_spacing_of_slices_without_positions(tmp_path: Path) -> None:
    write_volume(np.ones((5, 4, 3), np.uint8), FileGrid((3, 4, 5), in_plane=(2.0, 3.0)), tmp_path / "mask.nii.gz")
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert mask.header.get_zooms() == (2, 3, 1)
    assert (mask.header["sform_code"], mask.header["qform_code"]) == (0, 0)


def test_a_written_mask_is_no_image(tmp_path: Path) -> None:
    write_volume(np.ones((5, 4, 3), np.uint8), Grid((3, 4, 5)), tmp_path / "mask.nii.gz")
    (item,) = WHOLE.find(tmp_path / "mask.nii.gz")
    assert isinstance(item, Skipped)
    assert "a label map" in item.reason


def identifiers(path: Path) -> str:
    data = pydicom.dcmread(path, stop_before_pixels=True)
    return str(data.SOPInstanceUID or data.file_meta.MediaStorageSOPInstanceUID)


def levels(path: Path) -> Any:
    """One slice in physical units, by pydicom alone."""
    data = pydicom.dcmread(path)
    slope, shift = (
        float(data.get(name) or default) for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    return data.pixel_array.astype(np.float32) * np.float32(slope) + np.float32(shift)


@pytest.mark.parametrize("where", SERIES)
def test_a_mask_of_a_real_series(real_data: Path, tmp_path: Path, where: str) -> None:
    segmentations = pytest.importorskip("highdicom.seg")
    if not (real_data / where).is_dir():
        pytest.skip(f"no {where} in {real_data}")
    record, read = found(real_data / where)
    assert read.stored is not None
    files = files_of(record)
    one, two = (float(x) for x in np.percentile(read.array, (80, 95)))
    labels = (read.array[0] > one).astype(np.uint8) + (read.array[0] > two)
    expected = {identifiers(path): 1 * (levels(path) > one) + (levels(path) > two) for path in files}

    write_volume(labels, read.stored, tmp_path / "mask.nii.gz")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in files])
    source, mask = reader.Execute(), sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    same_grid(mask, source)
    assert np.array_equal(sitk.GetArrayFromImage(mask), np.stack(list(expected.values())))

    notes = write_segmentation(labels, read.stored, files, TWO, tmp_path / "mask.dcm")
    source_header = pydicom.dcmread(files[0], stop_before_pixels=True)
    assert any("no StudyInstanceUID, SeriesInstanceUID" in note for note in notes) != bool(
        source_header.StudyInstanceUID
    )
    made = segmentations.segread(tmp_path / "mask.dcm")
    pixels = made.get_pixels_by_source_instance(
        list(expected), combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(pixels, np.stack(list(expected.values())))
    assert [made.get_segment_description(n).segment_label for n in (1, 2)] == TWO
    for name in ("PatientName", "PatientID", "StudyDate", "FrameOfReferenceUID"):
        assert made.get(name) == source_header.get(name), name
    assert by_pydicom(tmp_path / "mask.dcm") == {
        (name, label): np.packbits(plane == label).tobytes()
        for name, plane in expected.items()
        for label in (1, 2)
        if (plane > 0).any()  # of a slice with labels all segments are written
    }
    volume = made.get_volume(combine_segments=True)
    assert volume.spacing[1:] == pytest.approx((read.stored.spacing or ())[1::-1])


def by_pydicom(path: Path) -> dict[tuple[str, int], bytes]:
    """Of each frame: the slice it refers to, its segment, its pixels."""
    data, frames = pydicom.dcmread(path), {}
    for group, pixels in zip(data.PerFrameFunctionalGroupsSequence, data.pixel_array, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        frames[str(source), int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)] = np.packbits(
            pixels > 0
        ).tobytes()
    return frames


def slices(folder: Path, count: int = 4, **elements: Any) -> Path:
    """An oblique series, its files in another order than its slices, whose patient has a Latin-1 name."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SpecificCharacterSet = "ISO_IR 100"
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.Modality, data.PatientID, data.PatientName = "MR", "1815", "Müller^Jörg"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
        data.Rows, data.Columns, data.BitsAllocated, data.BitsStored, data.HighBit = 8, 10, 16, 16, 15
        data.PixelSpacing, data.ImageOrientationPatient = [0.5, 0.75], [0.6, 0.8, 0, 0, 0, -1]
        data.ImagePositionPatient = [-0.8 * 3 * number, 0.6 * 3 * number, 50]
        for name, value in elements.items():
            setattr(data, name, value)
        data.PixelData = (np.arange(80, dtype=np.uint16).reshape(8, 10) + 100 * number).tobytes()
        data["PixelData"].VR = "OW"
        data.save_as(folder / f"{(number * 3) % 7}.dcm", enforce_file_format=True)
    return folder


def test_a_series_with_little_in_its_header(tmp_path: Path) -> None:
    segmentations = pytest.importorskip("highdicom.seg")
    record, read = found(slices(tmp_path / "series", PatientSex="X", PatientBirthDate="19540000", StudyTime="9"))
    assert read.stored is not None
    labels = (read.array[0] > 150).astype(np.uint8)
    assert write_segmentation(labels, read.stored, files_of(record), ["Größe 肝"], tmp_path / "mask.dcm") == ()
    made = segmentations.segread(tmp_path / "mask.dcm")
    pixels = made.get_pixels_by_source_instance(
        [identifiers(path) for path in files_of(record)], combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(pixels, [levels(path) > 150 for path in files_of(record)])
    assert str(made.PatientName) == "Müller^Jörg"
    assert made.get_segment_description(1).segment_label == "Größe 肝"
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SpacingBetweenSlices, measures.SliceThickness) == (3, 3)
    assert (made.PatientSex, made.PatientBirthDate, made.StudyTime) == ("", "", "")


def test_an_empty_mask_is_still_a_file(tmp_path: Path) -> None:
    segmentations = pytest.importorskip("highdicom.seg")
    record, read = found(slices(tmp_path / "series"))
    assert read.stored is not None
    empty = np.zeros(read.array.shape[1:], np.uint8)
    notes = write_segmentation(empty, read.stored, files_of(record), TWO, tmp_path / "mask.dcm")
    assert notes == ("the mask is empty: nothing was found",)
    assert not segmentations.segread(tmp_path / "mask.dcm").pixel_array.any()


def enhanced(path: Path) -> Path:
    """One file of four frames in no order, their numbers the grey levels; orientation and spacing in each frame."""
    data = pydicom.dcmread(next(slices(path.parent / "series").iterdir()))
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    groups = []
    for height in (10, 0, 5, 15):
        group, place, turn, measures = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient, turn.ImageOrientationPatient = [0, 0, height], [1, 0, 0, 0, 1, 0]
        measures.PixelSpacing, measures.SliceThickness = [2, 2], 5
        group.PlanePositionSequence, group.PlaneOrientationSequence = Sequence([place]), Sequence([turn])
        group.PixelMeasuresSequence = Sequence([measures])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    data.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    data.NumberOfFrames = 4
    data.PixelData = np.repeat(np.arange(4, dtype=np.uint16), 80).tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def test_frames_of_one_file_keep_their_numbers(tmp_path: Path) -> None:
    segmentations = pytest.importorskip("highdicom.seg")
    path = enhanced(tmp_path / "one.dcm")
    record, read = found(path)
    assert read.stored is not None
    assert files_of(record) == (path,)
    assert read.array[0, :, 5, 5].tolist() == [1, 2, 0, 3]
    labels = (read.array[0] >= 2).astype(np.uint8)
    labels[:, 0, 0] = 2
    write_segmentation(labels, read.stored, [path], TWO, tmp_path / "mask.dcm")
    made = segmentations.segread(tmp_path / "mask.dcm")
    pixels = made.get_pixels_by_source_frame(
        identifiers(path), [1, 2, 3, 4], combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert pixels[:, 5, 5].tolist() == [0, 0, 1, 1]
    assert pixels[:, 0, 0].tolist() == [2, 2, 2, 2]


def test_a_series_without_positions_has_no_segmentation(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    slices(tmp_path / "series")
    with pytest.raises(DataError, match="do not say where they lie"):
        write_segmentation(
            np.zeros((4, 8, 10), np.uint8),
            Grid((10, 8, 4)),
            sorted((tmp_path / "series").iterdir()),
            TWO,
            tmp_path / "m",
        )
    assert not (tmp_path / "m").exists()


def test_the_mask_of_a_series_without_positions_keeps_its_pixel_spacing(tmp_path: Path) -> None:
    for number, path in enumerate(sorted(slices(tmp_path / "series", PixelSpacing=[3.0, 2.0]).iterdir())):
        data = pydicom.dcmread(path)
        del data.ImagePositionPatient
        data.InstanceNumber = number
        data.save_as(path)
    read = found(tmp_path / "series")[1]
    assert read.stored is not None
    write_volume(np.ones(read.array.shape[1:], np.uint8), read.stored, tmp_path / "mask.nii.gz")
    assert sitk.ReadImage(str(tmp_path / "mask.nii.gz")).GetSpacing() == (2, 3, 1)
    assert nib.load(tmp_path / "mask.nii.gz").header.get_zooms() == (2, 3, 1)


def test_what_a_series_lacks_is_told(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    data = pydicom.dcmread(enhanced(tmp_path / "one.dcm"))
    del data.SharedFunctionalGroupsSequence
    data.save_as(tmp_path / "one.dcm")
    record, read = found(tmp_path / "one.dcm")
    assert read.stored is not None
    with pytest.raises(DataError, match=r"lacks what a DICOM Segmentation needs \(SharedFunctionalGroupsSequence\)"):
        write_segmentation(np.ones((4, 8, 10), np.uint8), read.stored, files_of(record), TWO, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_without_highdicom_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "highdicom":
            raise ModuleNotFoundError(name=name)
        return usual(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError) as caught:
        write_segmentation(np.zeros((4, 8, 10), np.uint8), Grid((10, 8, 4)), [tmp_path], TWO, tmp_path / "m")
    assert caught.value.fix == 'pip install "medcoss[dicom]"'


def test_only_series_have_files(tmp_path: Path) -> None:
    assert files_of(Record(tmp_path / "a.nii", ("window", 0, 9))) == files_of(Record(tmp_path / "a.png")) == ()
    record, _ = found(slices(tmp_path / "series"))
    places = [pydicom.dcmread(path).ImagePositionPatient[1] for path in files_of(record)]
    assert places == sorted(places) or places == sorted(places, reverse=True)


def test_a_palette_holds_the_labels(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (12, 16)).astype(np.uint8)
    write_png(labels, TWO, tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png", 2)[0], labels)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        red, green = (np.asarray(picture.convert("RGB"))[labels == n][0] for n in (1, 2))
    assert red.argmax() == 0
    assert green.argmax() == 1


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, stored, labels = tmp_path / "mask.nii.gz", Grid((3, 4, 5)), np.ones((5, 4, 3), np.uint8)
    write_volume(labels, stored, path)
    before = path.read_bytes()

    class Half(gzip.GzipFile):
        def write(self, data: Any) -> int:
            super().write(memoryview(data)[:20])
            raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(gzip, "GzipFile", Half)
        with pytest.raises(ResourceError, match="no space left"):
            write_volume(labels, stored, path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["mask.nii.gz"]
