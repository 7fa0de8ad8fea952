"""DICOM through the loaders: order, geometry, grey levels, colour, transfer syntaxes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.pixels import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medcoss_cli.errors import DataError
from medcoss_cli.kit import ImageFolder, VolumeFolder
from medcoss_cli.plugin import Record
from tests.dicom_files import NATIVE, STILLS, enhanced, found, make, only, reasons, save, series


def test_slices_are_ordered_by_position_and_rescaled(tmp_path: Path) -> None:
    sample = only(NATIVE, series(tmp_path, [4.0, -2.0, 0.0, 2.0]))
    assert sample.array.shape == (1, 4, 12, 16)
    assert sample.array[0, :, 0, 0].tolist() == [-20, 0, 20, 40]
    assert sample.spacing == (2.0, 0.5, 0.75)
    assert sample.origin == (-3, -4, -2)


def test_a_coronal_series_is_turned_to_the_axes_of_the_patient(tmp_path: Path) -> None:
    for y in range(4):  # rows run down (-z), columns to the left, slices from front to back
        pixels = np.add.outer(np.arange(6) * 10, np.zeros(5)).astype(np.uint16) + y
        place = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "ImagePositionPatient": [0, y * 3, 50]}
        save(make(pixels.repeat(2, 0).repeat(2, 1), PixelSpacing=[1, 1], **place), tmp_path / f"{9 - y}")
    sample = only(NATIVE, tmp_path)
    assert sample.array.shape == (1, 12, 4, 10)  # z, y, x
    assert sample.array[0, 0, :, 0].tolist() == [50, 51, 52, 53]  # feet first, front to back
    assert sample.array[0, -1, :, 0].tolist() == [0, 1, 2, 3]
    assert sample.spacing == (1, 3, 1)
    assert sample.direction == pytest.approx(np.eye(3).flatten().tolist())
    assert sample.origin == pytest.approx((0, 0, 39))


def test_series_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    series(tmp_path, [0.0, 1.0, 2.0], uid="1.2.3")
    series(tmp_path, [0.0, 1.0, 2.0, 3.0], uid="1.2.4")
    records, left = found(NATIVE, tmp_path)
    assert not left
    assert sorted(NATIVE.read(record).array.shape[1] for record in records) == [3, 4]


def test_without_a_series_uid_geometry_tells_series_apart(tmp_path: Path) -> None:
    series(tmp_path, [0.0, 1.0, 2.0], uid="")
    for position in range(3):
        place = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": [position, 0, 0]}
        data = make(np.zeros((12, 16), np.uint16), PixelSpacing=[0.5, 0.75], SeriesInstanceUID="", **place)
        save(data, tmp_path / f"sagittal{position}")
    assert len(found(NATIVE, tmp_path)[0]) == 2


def test_a_missing_slice_is_named(tmp_path: Path) -> None:
    said = reasons(NATIVE, series(tmp_path, [0.0, 2.0, 4.0, 8.0, 10.0]))
    assert "slices are missing (after slice 3: 4 mm, where 2 mm is usual)" in said


def test_a_copy_of_a_slice_is_dropped_and_said(tmp_path: Path) -> None:
    series(tmp_path, [0.0, 1.0, 2.0])
    first = next(tmp_path.iterdir())
    (tmp_path / "copy").write_bytes(first.read_bytes())
    records, left = found(NATIVE, tmp_path)
    assert [item.reason for item in left] == ["the same slice as another file"]
    assert not left[0].bad
    sample = NATIVE.read(records[0])
    assert sample.array.shape[1] == 3
    assert "used once" in " ".join(records[0].notes)


def test_different_slices_at_one_position_are_refused(tmp_path: Path) -> None:
    series(tmp_path, [0.0, 1.0, 2.0])
    series(tmp_path, [1.0], step=70)
    records, left = found(NATIVE, tmp_path)
    assert not records
    assert "several different images at one position" in left[-1].reason
    assert left[-1].bad


def test_echoes_at_one_position_are_different_volumes(tmp_path: Path) -> None:
    series(tmp_path, [0.0, 1.0, 2.0], EchoNumbers=1)
    series(tmp_path, [0.0, 1.0, 2.0], EchoNumbers=2)
    assert len(found(NATIVE, tmp_path)[0]) == 2


def test_without_positions_instance_numbers_order_and_no_spacing_is_invented(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        save(
            make(np.full((8, 8), number, np.uint16), PixelSpacing=[1, 1], InstanceNumber=number),
            tmp_path / f"{9 - number}",
        )
    sample = only(NATIVE, tmp_path)
    assert sample.array[0, :, 0, 0].tolist() == [1, 2, 3]
    assert (sample.spacing, sample.origin, sample.direction) == (None, None, None)
    assert any("InstanceNumber" in note for note in sample.notes)
    assert "no voxel spacing" in reasons(VolumeFolder(dicom=("CT",)), tmp_path)


def test_windows_and_resampling_agree_with_what_the_header_promised(tmp_path: Path) -> None:
    loader = VolumeFolder(dicom=("CT",), window=8, stride=4, spacing=1.0, hounsfield=False)
    records, _ = found(loader, series(tmp_path, [3.0 * n for n in range(7)]))  # 21 mm deep
    assert [record.part[-2:] for record in records if record.part] == [(0, 8), (4, 12), (8, 16), (12, 20), (13, 21)]
    whole = np.concatenate([loader.read(records[n]).array[0] for n in (0, 2, 4)])
    assert whole.shape == (24, 6, 12)
    middle = loader.read(records[1])
    assert middle.origin == pytest.approx((-3 + 0.125, -4 + 0.25, -1 + 4))  # outer faces stay where they were
    depth = middle.origin[2] + np.arange(8) if middle.origin else None
    assert middle.array[0, :, 3, 3] == pytest.approx(np.asarray(depth) * 10, abs=0.01)  # value is 10 z


def test_an_enhanced_file_is_one_volume_with_each_frame_rescaled(tmp_path: Path) -> None:
    sample = only(NATIVE, save(enhanced(), tmp_path / "one"))
    assert sample.array[0, :, 0, 0].tolist() == [112, 106, 102, 100]
    assert sample.spacing == (5, 2, 2)


def test_frames_without_positions_are_images_and_not_a_volume(tmp_path: Path) -> None:
    clip = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8)
    path = save(make(clip, "US"), tmp_path / "clip")
    records, _ = found(STILLS, path)
    assert [record.part for record in records] == [("frame", 0), ("frame", 1), ("frame", 2)]
    assert np.array_equal(STILLS.read(records[2]).array, clip[2:])
    assert "not a volume" in reasons(VolumeFolder(dicom=("US",)), path)


PICTURE = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless],
)
def test_every_transfer_syntax_gives_the_same_picture(tmp_path: Path, syntax: Any) -> None:
    plain = only(STILLS, save(make(PICTURE, "CR"), tmp_path / "plain"))
    data = make(PICTURE, "CR")
    if syntax in (RLELossless, JPEG2000Lossless):
        data.compress(syntax)
        data.save_as(tmp_path / "other", enforce_file_format=True)
    else:
        data.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            data.PixelData = PICTURE.byteswap().tobytes()
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        pydicom.dcmwrite(tmp_path / "other", data, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    other = only(STILLS, tmp_path / "other")
    assert np.array_equal(plain.array, other.array)
    assert plain.array.min() == 0
    assert plain.array.max() == 255


def test_a_file_without_preamble_is_known_by_its_content(tmp_path: Path) -> None:
    data = make(PICTURE, "CR")
    del data.file_meta
    pydicom.dcmwrite(tmp_path / "bare", data, implicit_vr=False, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "bare").read_bytes()[:2] == b"\x08\0"
    assert only(STILLS, tmp_path / "bare").array.shape == (1, 64, 64)


def test_monochrome1_is_turned_round(tmp_path: Path) -> None:
    normal = only(STILLS, save(make(PICTURE, "CR", BitsStored=12, HighBit=11), tmp_path / "normal"))
    data = make((4095 - PICTURE).astype(np.uint16), "CR", BitsStored=12, HighBit=11)
    data.PhotometricInterpretation = "MONOCHROME1"
    turned = only(STILLS, save(data, tmp_path / "turned"))
    assert np.array_equal(normal.array, turned.array)
    assert "MONOCHROME1" in turned.notes[0]


def test_eight_bits_go_through_unchanged_with_their_spacing(tmp_path: Path) -> None:
    pixels = np.arange(16 * 9, dtype=np.uint8).reshape(9, 16)
    sample = only(STILLS, save(make(pixels, "CR", PixelSpacing=[0.2, 0.1]), tmp_path / "a"))
    assert sample.array.dtype == np.uint8
    assert np.array_equal(sample.array[0], pixels)
    assert sample.spacing == (0.2, 0.1)


def test_ybr_and_palette_become_rgb(tmp_path: Path) -> None:
    colour = ImageFolder(grey=False, dicom=("US",))
    ybr = np.zeros((8, 8, 3), np.uint8)
    ybr[...] = (76, 85, 255)  # red
    data = make(ybr, "US")
    data.PhotometricInterpretation = "YBR_FULL"
    sample = only(colour, save(data, tmp_path / "ybr"))
    assert sample.array[:, 0, 0].astype(int).tolist() == pytest.approx([255, 0, 0], abs=2)
    data = make(np.tile(np.array([0, 1], np.uint8), (8, 4)), "US")
    data.PhotometricInterpretation = "PALETTE COLOR"
    for name, levels in (("Red", [0, 65280]), ("Green", [65280, 0]), ("Blue", [0, 0])):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [2, 0, 16])
        setattr(data, f"{name}PaletteColorLookupTableData", np.array(levels, np.uint16).tobytes())
    sample = only(colour, save(data, tmp_path / "palette"))
    assert sample.array[:, 0, :2].T.tolist() == [[0, 255, 0], [255, 0, 0]]


def test_patients_become_groups_without_their_identity(tmp_path: Path) -> None:
    a = save(make(PICTURE, "CR"), tmp_path / "a")
    b = save(make(PICTURE, "CR"), tmp_path / "b")
    save(make(PICTURE, "CR", PatientID="Byron"), tmp_path / "c")
    groups = {record.source: record.group for record in found(STILLS, tmp_path)[0]}
    assert groups[a] == groups[b]
    assert len(set(groups.values())) == 2
    assert "lovelace" not in repr(groups).lower()
    save(make(PICTURE, "CR", PatientID=""), tmp_path / "none" / "d")
    assert found(STILLS, tmp_path / "none")[0][0].group is None


def test_other_modalities_localisers_and_documents_are_left_out_but_not_bad(tmp_path: Path) -> None:
    save(make(PICTURE, "MR"), tmp_path / "a")
    save(make(PICTURE, "CR", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), tmp_path / "b")
    report = make(PICTURE, "CR")
    for name in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(report, name)
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    save(report, tmp_path / "c")
    records, left = found(STILLS, tmp_path)
    assert not records
    assert not any(item.bad for item in left)
    assert [item.reason for item in left] == [
        "DICOM of modality MR where CR, US is read",
        "a localiser (scout)",
        "DICOM without an image (Basic Text SR)",
    ]


def test_where_no_dicom_is_read_it_says_so(tmp_path: Path) -> None:
    save(make(PICTURE, "CR"), tmp_path / "a.png")
    assert reasons(ImageFolder(), tmp_path) == "a DICOM file where an image is expected"


def test_a_bomb_in_the_header_is_refused_before_decoding(tmp_path: Path) -> None:
    data = make(PICTURE, "CR")
    data.Rows = data.Columns = 65535
    save(data, tmp_path / "wide")
    data = make(PICTURE, "CR", NumberOfFrames=2**31 - 1)
    save(data, tmp_path / "deep")
    records, left = found(STILLS, tmp_path)
    assert not records
    assert all(item.bad and "more than the limit" in item.reason for item in left)


def test_a_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medcoss_cli.kit.readers import bounds

    monkeypatch.setattr(bounds, "MAX_DEFLATED", 2**20)
    data = make(np.zeros((2048, 2048), np.uint16), "CR")
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    save(data, tmp_path / "bomb")
    assert (tmp_path / "bomb").stat().st_size < 100_000
    assert "unpacks to more than the limit" in reasons(STILLS, tmp_path)


def test_one_truncated_slice_is_named_and_leaves_a_gap(tmp_path: Path) -> None:
    series(tmp_path, [0.0, 1.0, 2.0, 3.0, 4.0])
    victim = next(p for p in tmp_path.iterdir() if pydicom.dcmread(p).ImagePositionPatient[2] == 2)
    victim.write_bytes(victim.read_bytes()[:-100])
    records, left = found(NATIVE, tmp_path)
    assert not records
    assert {item.source for item in left if item.bad} == {victim, tmp_path}
    assert "truncated" in next(item.reason for item in left if item.source == victim)


def test_a_missing_decoder_is_named_with_its_package(tmp_path: Path) -> None:
    if get_decoder(JPEGLSLossless).is_available:
        pytest.skip("a JPEG-LS decoder is installed")
    data = make(PICTURE, "CR")
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7" + bytes(60)])
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    save(data, tmp_path / "a")
    assert "pip install pyjpegls" in reasons(STILLS, tmp_path)


def test_a_decoder_that_panics_is_a_plain_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medcoss_cli.kit.readers import codecs

    class PanicException(BaseException):
        pass

    def panic(*_: object, **__: object) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr(codecs, "pixel_array", panic)
    with pytest.raises(DataError, match="damaged pixel data"):
        only(STILLS, save(make(PICTURE, "CR"), tmp_path / "a"))


def test_a_series_that_changed_since_it_was_found_is_refused(tmp_path: Path) -> None:
    records, _ = found(NATIVE, series(tmp_path, [0.0, 1.0, 2.0]))
    next(tmp_path.iterdir()).unlink()
    with pytest.raises(DataError, match="changed since"):
        NATIVE.read(records[0])


WHOLE: dict[str, bytes] = {}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999), kind=st.sampled_from(["plain", "rle", "enhanced"]), damage=st.binary(max_size=4))
def test_cut_or_damaged_files_are_refused_or_read_and_nothing_else(
    tmp_path: Path, share: float, kind: str, damage: bytes
) -> None:
    if kind not in WHOLE:
        data = enhanced() if kind == "enhanced" else make(PICTURE, "CR")
        if kind == "rle":
            data.compress(RLELossless)
        WHOLE[kind] = save(data, tmp_path / "whole").read_bytes()
    path = tmp_path / "cut"
    at = int(len(WHOLE[kind]) * share)
    path.write_bytes(WHOLE[kind][:at] + damage + (WHOLE[kind][at + len(damage) :] if damage else b""))
    for loader in (STILLS, VolumeFolder(dicom=("MR",), spacing=None)):
        for item in loader.find(path):
            if isinstance(item, Record):
                try:
                    assert loader.read(item).array.size
                except DataError as error:
                    assert error.what  # noqa: PT017 - a damaged file may be readable or not
            else:
                assert item.reason
    if not damage:
        records, left = found(STILLS if kind != "enhanced" else VolumeFolder(dicom=("MR",), spacing=None), path)
        assert not records or kind == "rle"
        assert left or kind == "rle"


@pytest.mark.parametrize(
    ("positions", "shift", "said"),
    [
        ([0, 2, 4, 6.4, 8.4, 10.4], 0.0, "uneven steps"),
        ([0, 2, 4, 6, 8, 10], 0.5, "tilted gantry"),
        ([0, 2, 4, 6], 0.0, ""),
    ],
)
def test_a_whole_volume_is_refused_where_its_voxels_do_not_lie_on_an_even_grid(
    tmp_path: Path, positions: list[float], shift: float, said: str
) -> None:
    """Windows of it may be learned from, with a note; a mask would come to lie beside what it names."""
    folder = series(tmp_path, positions)
    for path in sorted(folder.iterdir()):
        data = pydicom.dcmread(path)
        x, y, z = (float(place) for place in data.ImagePositionPatient)
        data.ImagePositionPatient = [x, y + shift * z, z]
        save(data, path)
    assert found(NATIVE, tmp_path)[0]
    records, skipped = found(NATIVE.whole(), tmp_path)
    assert (len(records), len(skipped)) == ((0, 1) if said else (1, 0))
    assert all(said in item.reason and item.bad for item in skipped)


@pytest.mark.parametrize(
    ("elements", "kind"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary-capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "secondary-capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary-capture"),
        ({"BurnedInAnnotation": "YES"}, "burned-in"),
    ],
)
def test_what_may_show_a_name_is_read_only_where_it_is_allowed_by_name(
    tmp_path: Path, elements: dict[str, Any], kind: str
) -> None:
    save(make(PICTURE, "CR", **elements), tmp_path / "a")
    _, left = found(STILLS, tmp_path)
    assert not left[0].bad
    assert left[0].reason.endswith(f"not read unless allowed (--allow {kind})")
    assert only(ImageFolder(dicom=("CR",), allow=(kind,)), tmp_path).array.shape == (1, 64, 64)
    other = {"secondary-capture": "burned-in", "burned-in": "secondary-capture"}[kind]
    assert reasons(ImageFolder(dicom=("CR",), allow=(other,)), tmp_path)


def test_a_screen_save_in_a_series_is_left_out_of_it(tmp_path: Path) -> None:
    series(tmp_path, [0.0, 2.0, 4.0])
    series(tmp_path, [6.0], ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])
    records, left = found(NATIVE, tmp_path)
    assert NATIVE.read(records[0]).array.shape[1] == 3
    assert [item.reason[:19] for item in left] == ["a secondary capture"]
