"""Masks: read, checked against their image, written back to the grid it came from, and drawn."""

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

from medcoss_cli.data.masks import check_on, files_of, overlay, read_mask, write_png, write_segmentation, write_volume
from medcoss_cli.errors import DataError, ResourceError, UsageError
from medcoss_cli.kit import VolumeFolder
from medcoss_cli.kit.readers.volume import FileGrid
from medcoss_cli.plugin import Grid, Record, Sample, Skipped

WHOLE = VolumeFolder(dicom=("CT", "MR")).whole()
TURNS = [(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]
SERIES = ("ct/dicom/body_j2k", "ct/dicom/phantom_head", "mri/dicom/pgbm003_hippocrop")
TWO = ["organ", "tumour"]


def found(path: Path) -> tuple[Record, Sample]:
    (record,) = (item for item in WHOLE.find(path) if isinstance(item, Record))
    return record, WHOLE.read(record)


def sample(shape: tuple[int, ...], **geometry: Any) -> Sample:
    return Sample(np.zeros((1, *shape), np.float32), **geometry)


def nifti(path: Path, array: Any, affine: Any) -> Path:
    nib.save(nib.Nifti1Image(np.asarray(array), affine), path)
    return path


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


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
def test_labels_of_an_image_are_what_is_stored(tmp_path: Path, ending: str) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (12, 16)).astype(np.uint8)
    grey, palette = Image.fromarray(labels), Image.fromarray(labels)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    pictures = [grey, palette, Image.merge("RGB", [grey] * 3), Image.fromarray(labels > 0)]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"a.{ending}")
        read, grid = read_mask(tmp_path / f"a.{ending}", 2)
        assert grid is None
        assert read.dtype == np.uint8
        assert np.array_equal(read, labels > 0 if number == 3 else labels)


def test_deep_labels_of_an_image(tmp_path: Path) -> None:
    for top, kind in ((300, np.int16), (65535, np.uint16)):
        labels = np.full((9, 9), top, np.uint16)
        Image.fromarray(labels).save(tmp_path / "a.png")
        read, _ = read_mask(tmp_path / "a.png", 2)
        assert read.dtype == kind
        assert np.array_equal(read, labels)


def test_refused_masks_of_images(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(noise[..., 0]).save(tmp_path / "a.jpg")
    Image.fromarray(noise).save(tmp_path / "colour.png")
    tifffile.imwrite(tmp_path / "deep.tif", noise.astype(np.uint16) * 200, photometric="rgb")
    Image.fromarray(np.full((9, 9), 0.4, np.float32)).save(tmp_path / "soft.tif")
    page = Image.fromarray(noise[..., 0])
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page, page])
    nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.uint8), np.eye(4))
    (tmp_path / "cut.png").write_bytes((tmp_path / "colour.png").read_bytes()[:200])
    for name, reason in {
        "a.jpg": "a JPEG, which does not keep labels exactly",
        "deep.tif": "a colour image where a mask is expected",
        "soft.tif": "the mask has the value 0.4; labels are whole numbers",
        "pages.tif": "3 pages in one file where one mask is expected",
        "a.nii": r"a volume \(3D, NIfTI\) where the mask of an image is expected",
        "cut.png": "truncated",
    }.items():
        with pytest.raises(DataError, match=reason):
            read_mask(tmp_path / name, 2)


def test_refused_masks_of_volumes(tmp_path: Path) -> None:
    for name, array in {
        "soft": np.full((3, 4, 5), 0.5, np.float32),
        "nan": np.full((3, 4, 5), np.nan, np.float32),
        "many": np.zeros((3, 4, 5, 2), np.uint8),
        "large": np.full((3, 4, 5), 70000, np.int32),
    }.items():
        nifti(tmp_path / f"{name}.nii", array, np.eye(4))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    for name, reason in {
        "soft.nii": "the mask has the value 0.5; labels are whole numbers",
        "nan.nii": "the mask has the value nan",
        "many.nii": r"2 volumes in one file \(4D\)",
        "large.nii": "values from 70000 to 70000 are more than a mask's 16 bits hold",
        "a.png": r"an image \(2D, PNG\) where the mask of a volume is expected",
    }.items():
        with pytest.raises(DataError, match=reason):
            read_mask(tmp_path / name, 3)


def test_whole_numbers_stored_as_floats_are_labels(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (3, 4, 5))
    image = nib.Nifti1Image(labels.astype(np.float64), np.eye(4))
    image.header.set_data_dtype(np.int16)  # nibabel scales: 1 comes back as 1.00002
    nib.save(image, tmp_path / "a.nii")
    read, _ = read_mask(tmp_path / "a.nii", 3)
    assert read.dtype == np.uint8
    assert np.array_equal(
        read, sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "a.nii")), "LPS"))
    )


EYE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
PLACED = {"spacing": (3.0, 2.0, 1.0), "origin": (5.0, 6.0, 7.0), "direction": EYE}


def test_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"the mask is 3 x 4 x 5 voxels, the image 3 x 4 x 6"):
        check_on((5, 4, 3), None, sample((6, 4, 3)), "row 7")
    with pytest.raises(DataError, match=r"row 7: the mask is 3 x 4 pixels, the image 4 x 3"):
        check_on((4, 3), None, sample((3, 4)), "row 7")
    check_on((4, 3), None, sample((4, 3)), "row 7")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"spacing": (1.0, 2.0, 3.5)}, "the voxels of the mask are 1 x 2 x 3.5 mm, of the image 1 x 2 x 3 mm"),
        ({"origin": (5.0, 6.0, 10.0)}, r"the mask begins at \(5, 6, 10\) mm, the image at \(5, 6, 7\) mm"),
        (
            {"direction": (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)},
            r"the axes of the mask lie along \(0.8, 0.6, 0\) \(-0.6, 0.8, 0\)",
        ),
        ({"spacing": (1.0, 2.0, 3.002), "origin": (5.4, 6.9, 8.4)}, None),
        ({"spacing": None}, None),
        ({"origin": None}, None),
        ({"direction": None}, None),
    ],
)
def test_geometry_is_compared_where_both_say_it(other: dict[str, Any], said: str | None) -> None:
    grid = Grid((3, 4, 5), **{"spacing": (1.0, 2.0, 3.0), "origin": (5.0, 6.0, 7.0), "direction": EYE, **other})
    image = sample((5, 4, 3), **PLACED, stored=Grid((3, 4, 5), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), EYE))
    if said is None:
        check_on((5, 4, 3), grid, image, "here")
        check_on((5, 4, 3), grid, sample((5, 4, 3), stored=Grid((3, 4, 5))), "here")
    else:
        with pytest.raises(DataError, match=said):
            check_on((5, 4, 3), grid, image, "here")


def test_a_mask_of_other_axes_lies_on_its_image_once_both_are_turned(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    read = found(nifti(tmp_path / "image.nii", values, np.diag([2.0, 3, 4, 1])))[1]
    other = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "image.nii")), "PIR")
    sitk.WriteImage(other > 30, str(tmp_path / "mask.nrrd"))
    labels, grid = read_mask(tmp_path / "mask.nrrd", 3)
    check_on(labels.shape, grid, read, "here")
    assert np.array_equal(labels, read.array[0] > 30)


def test_axes_that_only_one_file_tells_cannot_be_matched(tmp_path: Path) -> None:
    """The image would be taken as stored, and the mask mirrored to LPS."""
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nib.save(nib.Nifti1Image(values, None), tmp_path / "plain.nii")
    nifti(tmp_path / "placed.nii", values, np.eye(4))
    for image, mask in (("plain", "placed"), ("placed", "plain")):
        labels, grid = read_mask(tmp_path / f"{mask}.nii", 3)
        with pytest.raises(DataError, match=r"says how its axes lie and the .* does not"):
            check_on(labels.shape, grid, found(tmp_path / f"{image}.nii")[1], "here")


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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(20, 30), (1, 12, 16), (9, 12, 16)])
def test_a_picture_shows_both_masks_in_the_colours_of_their_classes(
    tmp_path: Path, channels: int, shape: tuple[int, ...]
) -> None:
    values = np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32)
    values[0, ..., 0, 0] = np.nan
    labels = np.zeros(shape, np.uint8)
    labels[..., 3:9, 3:9] = 1
    labels[..., 4:7, 4:7] = 2
    for truth, masks in ((None, 1), (labels, 2), (np.zeros_like(labels), 2)):
        overlay(values, labels, truth, ["$organ", "tumour"], tmp_path / "a.png", (2.0,) * len(shape))
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.width == pytest.approx(120 * 3.2 * (1 + masks), abs=1)
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        middle = pixels[:, pixels.shape[1] * masks // (1 + masks) :]  # the last column is the prediction
        for colour in ((230, 25, 45), (40, 175, 75)):
            assert (np.abs(middle - colour).max(-1) < 12).sum() > 20


def test_a_picture_of_an_empty_mask_and_a_flat_image(tmp_path: Path) -> None:
    for values in (np.zeros((1, 8, 12, 16), np.float32), np.full((1, 8, 12, 16), np.nan, np.float32)):
        overlay(values, np.zeros((8, 12, 16), np.uint8), None, TWO, tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
