"""DICOM frames in physical units: which bits hold a value, what is padding, and palettes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.encaps
import pytest

from medcoss_cli.errors import DataError
from medcoss_cli.kit import ZScore
from medcoss_cli.kit.intensity import Hounsfield
from medcoss_cli.kit.readers import pixels
from tests.dicom_files import NATIVE, STILLS, found, make, only, save
from tests.dicom_files import series as write_series

LEVELS = (np.arange(32 * 24, dtype=np.uint16).reshape(32, 24) * 5) % 4096


def seen(tmp_path: Path, pixels: np.ndarray[Any, Any], **elements: Any) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    sample = only(STILLS, save(make(pixels, "CR", **elements), tmp_path / "a"))
    return sample.array[0], sample.notes


@pytest.mark.parametrize("inverted", [False, True])
def test_values_beyond_bits_stored_are_kept(tmp_path: Path, inverted: bool) -> None:
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    whole, _ = seen(tmp_path, LEVELS, BitsStored=12, HighBit=11, PhotometricInterpretation=photometric)
    few, notes = seen(tmp_path, LEVELS, BitsStored=10, HighBit=9, PhotometricInterpretation=photometric)
    assert np.array_equal(whole, few)
    assert "values need 12 bits where BitsStored is 10: all bits are used" in notes


def test_left_aligned_values_are_shifted(tmp_path: Path) -> None:
    plain, _ = seen(tmp_path, LEVELS, BitsStored=12, HighBit=11, RescaleSlope=2, RescaleIntercept=-3)
    left, _ = seen(tmp_path, LEVELS << 4, BitsStored=12, HighBit=15, RescaleSlope=2, RescaleIntercept=-3)
    assert np.array_equal(plain, left)


def test_a_graphic_in_the_high_bits_is_no_part_of_the_value(tmp_path: Path) -> None:
    plain, _ = seen(tmp_path, LEVELS, BitsStored=12, HighBit=11)
    drawn = LEVELS.copy()
    drawn[3:9, 4] |= 0x2000
    data = make(drawn, "CR", BitsStored=12, HighBit=11)
    data.add_new((0x6000, 0x0100), "US", 16)
    data.add_new((0x6000, 0x0102), "US", 13)
    assert np.array_equal(only(STILLS, save(data, tmp_path / "a")).array[0], plain)


@pytest.mark.parametrize("extended", [False, True])
def test_signed_values_of_twelve_bits(tmp_path: Path, extended: bool) -> None:
    values = LEVELS.astype(np.int16) - 2048
    stored = values if extended else (values & 0xFFF).astype(np.int16)
    folder = tmp_path / "series"
    for n in range(3):
        place = {
            "ImagePositionPatient": [0, 0, n],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [1, 1],
        }
        save(make(stored, "CT", BitsStored=12, HighBit=11, **place), folder / str(n))
    assert np.array_equal(only(NATIVE, folder).array[0, 1], values)


def padded(value: int, kind: type[np.integer[Any]]) -> np.ndarray[Any, Any]:
    picture = np.asarray(LEVELS + 40, kind)
    picture[:, :7] = value
    return picture


@pytest.mark.parametrize(
    ("value", "kind", "vr"), [(65535, np.uint16, "US"), (-32768, np.int16, "SS"), (32768, np.int16, "US")]
)
def test_padding_does_not_stretch_a_picture(tmp_path: Path, value: int, kind: Any, vr: str) -> None:
    data = make(padded(value - 65536 if kind is np.int16 and value > 32767 else value, kind), "CR")
    data.add_new((0x0028, 0x0120), vr, value)
    sample = only(STILLS, save(data, tmp_path / "a"))
    plain = only(STILLS, save(make(padded(int(LEVELS[:, 7:].min()) + 40, kind), "CR"), tmp_path / "b" / "b"))
    assert np.array_equal(sample.array, plain.array)
    assert "29.2% are padding (PixelPaddingValue)" in sample.notes[0]


def test_padding_of_a_range_is_padding(tmp_path: Path) -> None:
    picture = np.asarray(LEVELS + 40)
    picture[:, :5], picture[:, 5:7] = 60000, 60200
    data = make(picture, "CR")
    data.add_new((0x0028, 0x0120), "US", 60000)
    data.add_new((0x0028, 0x0121), "US", 60255)
    assert "29.2% are padding" in only(STILLS, save(data, tmp_path / "a")).notes[0]


def padded_series(folder: Path, modality: str) -> Path:
    rng = np.random.default_rng(0)
    for n in range(4):
        picture = rng.integers(500, 900, (20, 20)).astype(np.int16)
        picture[:, :6] = -32768
        place = {
            "ImagePositionPatient": [0, 0, n],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [1, 1],
        }
        data = make(picture, modality, **place)
        data.add_new((0x0028, 0x0120), "SS", -32768)
        save(data, folder / str(n))
    return folder


def test_padding_leaves_mr_its_contrast_and_is_air_in_ct(tmp_path: Path) -> None:
    sample = only(NATIVE, padded_series(tmp_path / "mr", "MR"))
    integers, scale, offset = ZScore().encode(sample)
    tissue = integers[..., 6:].astype(float) * scale + offset
    assert np.ptp(tissue) > 2  # of a z-score whose padding counts it was .01
    assert sample.array.min() == sample.array[..., 6:].min()
    sample = only(NATIVE, padded_series(tmp_path / "ct", "CT"))
    integers, scale, offset = Hounsfield().encode(sample)
    assert set(np.unique(integers[..., :6])) == {-1000}


def test_padding_everywhere_is_not_padding(tmp_path: Path) -> None:
    """A header may name the only value there is: the picture is refused as constant, not filled."""
    data = make(np.full((16, 16), 7, np.uint16), "CR")
    data.add_new((0x0028, 0x0120), "US", 7)
    assert only(STILLS, save(data, tmp_path / "a")).notes == ()


def test_a_palette_of_sixteen_bits_may_hold_eight(tmp_path: Path) -> None:
    pictures = []
    for shift in (0, 8):
        data = make((LEVELS // 16).astype(np.uint8), "US", PhotometricInterpretation="PALETTE COLOR")
        for colour in ("Red", "Green", "Blue"):
            setattr(data, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            table = (np.arange(256) << shift).astype("<u2").tobytes()
            setattr(data, f"{colour}PaletteColorLookupTableData", table)
        pictures.append(only(STILLS, save(data, tmp_path / str(shift) / "a")).array)
    assert np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[0][0], LEVELS // 16)


def test_a_spacing_that_cannot_be_read_leaves_the_picture(tmp_path: Path) -> None:
    data = make(LEVELS, "CR", PixelSpacing=["0.25", "0.25"])
    path = save(data, tmp_path / "a")
    path.write_bytes(path.read_bytes().replace(b"0.25\\0.25", b"0.25\\none"))
    sample = only(STILLS, path)
    assert sample.spacing is None
    assert "PixelSpacing '0.25\\\\none' is not 2 numbers" in sample.notes


def test_slopes_of_slices_are_their_own(tmp_path: Path) -> None:
    for n in range(4):
        write_series(tmp_path, [2.0 * n], step=10)
    import pydicom

    for path in tmp_path.iterdir():
        data = pydicom.dcmread(path)
        factor = 1 + int(data.ImagePositionPatient[2])
        data.RescaleSlope, data.RescaleIntercept = factor, 0
        save(data, path)
    values = only(NATIVE, tmp_path).array[0, :, 0, 0].tolist()
    assert values == [(1000 + 20 * n) * (1 + 2 * n) for n in range(4)]


def test_a_slice_of_padding_alone_leaves_the_others_theirs(tmp_path: Path) -> None:
    for path in padded_series(tmp_path, "CT").iterdir():
        if path.name == "0":
            import pydicom

            data = pydicom.dcmread(path)
            data.PixelData = np.full((20, 20), -32768, np.int16).tobytes()
            save(data, path)
    array = only(NATIVE, tmp_path).array[0]
    assert (array[0].max(), array[1:, :, :6].max(), array.min()) == (-1000, -1000, -1000)


def test_hounsfield_units_are_not_inverted_for_display(tmp_path: Path) -> None:
    for n in range(3):
        place = {
            "ImagePositionPatient": [0, 0, n],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [1, 1],
        }
        settings = {
            "BitsStored": 12,
            "HighBit": 11,
            "RescaleIntercept": -1024,
            "PhotometricInterpretation": "MONOCHROME1",
        }
        save(make(LEVELS, "CT", **place, **settings), tmp_path / str(n))
    assert np.array_equal(only(NATIVE, tmp_path).array[0, 0], LEVELS.astype(float) - 1024)


def stack(folder: Path, slices: list[np.ndarray[Any, Any]], **elements: Any) -> Path:
    """MR slices 2 mm apart, in the order of the list."""
    for n, plane in enumerate(slices):
        place = {
            "ImagePositionPatient": [0, 0, 2 * n],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [1, 1],
        }
        save(make(plane, "MR", **place, **elements), folder / str(n))
    return folder


def dim_and_bright(kind: type[np.integer[Any]]) -> list[np.ndarray[Any, Any]]:
    """A slice of which nothing shows what the next ones need: values within 12 bits, then beyond, and of either sign."""
    dim = np.asarray(LEVELS % 3000, kind)
    bright = np.asarray(LEVELS * 2, kind)
    bright[0] = -5 if kind is np.int16 else 5
    return [dim, bright, dim + 1]


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("as_frames", [True, False])
def test_bits_are_decided_once_for_a_series(tmp_path: Path, kind: Any, photometric: str, as_frames: bool) -> None:
    slices = dim_and_bright(kind)
    few = {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": photometric}
    if as_frames:
        loader, path = STILLS, save(make(np.stack(slices), "CR", **few), tmp_path / "clip")
        records = sorted(found(loader, path)[0], key=lambda record: record.part or ())
        values = np.stack([pixels.read_frame(path, number)[0][0] for number in range(len(records))])
    else:
        values = only(NATIVE, stack(tmp_path / "series", slices, **few)).array[0]
    truth = np.stack(slices).astype(int)
    if photometric == "MONOCHROME1":
        truth = -1 - truth if kind is np.int16 else 2 ** int(truth.max()).bit_length() - 1 - truth
    assert np.array_equal(values, truth)


def test_left_aligned_values_are_shifted_in_all_slices_or_in_none(tmp_path: Path) -> None:
    aligned, other = LEVELS << 4, (LEVELS << 4) + 1
    layout = {"BitsStored": 12, "HighBit": 15}
    assert np.array_equal(only(NATIVE, stack(tmp_path / "a", [aligned] * 3, **layout)).array[0, 0], LEVELS)
    values = only(NATIVE, stack(tmp_path / "b", [aligned, other, aligned], **layout)).array[0]
    assert np.array_equal(values, [aligned, other, aligned])


def test_a_damaged_frame_leaves_the_others_of_its_clip(tmp_path: Path) -> None:
    data = make(np.stack([LEVELS, LEVELS + 1, LEVELS + 2]), "CR", BitsStored=13, HighBit=12)
    data.compress("1.2.840.10008.1.2.5")
    frames = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=3))
    data.PixelData = pydicom.encaps.encapsulate([frames[0], b"\xff" * 100, frames[2]])
    path = save(data, tmp_path / "clip")
    assert np.array_equal(pixels.read_frame(path, 2)[0][0], LEVELS + 2)
    with pytest.raises(DataError):
        pixels.read_frame(path, 1)
