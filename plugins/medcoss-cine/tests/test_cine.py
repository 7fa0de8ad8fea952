"""Windows hold the frames they claim to hold; text and borders are gone; colour Doppler is left out; time runs forward."""

from __future__ import annotations

import contextlib
import csv
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import medcoss_cine
import numpy as np
import pytest
import torch
from medcoss_cine import ClipFolder, ClipPatches, SamePlane
from medcoss_cine.demo import save_nifti, save_video
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from medcoss_cli import conformance
from medcoss_cli.errors import DataError, RecipeError
from medcoss_cli.plugin import Record, Sample, Skipped

Array = np.ndarray[Any, Any]


def blocks(frames: int, height: int = 64, width: int = 80) -> Array:
    """(T, H, W) uint8: a field of blocks that all change, of mean 60 + 4 * t in frame t."""
    rng = np.random.default_rng(0)
    field = np.kron(rng.integers(-40, 41, (height // 8, width // 8)), np.ones((8, 8)))
    sign = np.where(np.arange(frames) % 2, 1, -1)[:, None, None]
    field -= field.mean()
    return np.asarray(np.clip(60 + 4 * np.arange(frames)[:, None, None] + sign * field, 1, 255), np.uint8)


def number_of(frame: Array) -> int:
    """Which frame of `blocks` it is, by its mean."""
    return round((float(frame.mean()) - 60) / 4)


def save_dicom(path: Path, clip: Array, *, jpeg: bool = False, **elements: Any) -> None:
    """(T, H, W) or (T, H, W, 3), uint8 or uint16."""
    import io

    from PIL import Image

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.3"
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50" if jpeg else "1.2.840.10008.1.2.1"
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientID, data.PatientName = "US", "Jane Doe 17", "Doe^Jane"
    data.NumberOfFrames, data.Rows, data.Columns = clip.shape[:3]
    data.SamplesPerPixel = 3 if clip.ndim == 4 else 1
    data.PhotometricInterpretation = "RGB" if clip.ndim == 4 else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = clip.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    if clip.ndim == 4:
        data.PlanarConfiguration = 0
    for name, value in elements.items():
        setattr(data, name, value)
    if jpeg:
        streams = []
        for image in clip:
            out = io.BytesIO()
            Image.fromarray(image).save(out, "JPEG", quality=98, subsampling=0)
            streams.append(out.getvalue())
        data.PixelData = encapsulate(streams)
        data["PixelData"].VR = "OB"
    else:
        data.PixelData = clip.tobytes()
        data["PixelData"].VR = "OW" if clip.dtype.itemsize == 2 else "OB"
    data.save_as(path, enforce_file_format=True)


def region(box: tuple[int, int, int, int], kind: int = 1, shape: int = 1) -> Dataset:
    """Top, left, bottom, right (exclusive)."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = shape, kind
    item.RegionLocationMinY0, item.RegionLocationMinX0 = box[:2]
    item.RegionLocationMaxY1, item.RegionLocationMaxX1 = box[2] - 1, box[3] - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.05, 0.04
    return item


def found(loader: ClipFolder, root: Path) -> tuple[list[Record], list[Skipped]]:
    items = list(loader.find(root))
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Skipped)]


def only(loader: ClipFolder, root: Path) -> Sample:
    (record,), _ = found(loader, root)
    return loader.read(record)


def test_it_passes_the_conformance_suite(tmp_path: Path) -> None:
    (modality,) = medcoss_cine.medcoss_modalities()
    assert conformance.check(modality, tmp_path) == []


WRITERS: dict[str, Callable[[Path, Array], None]] = {
    "a.dcm": lambda path, clip: save_dicom(path, clip, FrameTime=40.0),
    "jpeg.dcm": lambda path, clip: save_dicom(path, clip, jpeg=True, FrameTime=40.0),
    "colour.dcm": lambda path, clip: save_dicom(path, np.repeat(clip[..., None], 3, axis=3), CineRate=25),
    "a.avi": lambda path, clip: save_video(path, clip),
    "a.mp4": lambda path, clip: save_video(path, clip, "libx264", crf="8"),
    "gaps.mp4": lambda path, clip: save_video(path, clip, "libx264", crf="8", g="4", bf="2"),
}


@pytest.mark.parametrize("name", list(WRITERS))
def test_windows_are_the_frames_they_claim_to_be(name: str, tmp_path: Path) -> None:
    clip = blocks(40)
    WRITERS[name](tmp_path / name, clip)
    loader = ClipFolder(window=8, stride=6)
    records, skipped = found(loader, tmp_path)
    assert not skipped
    assert [record.part for record in records] == [("window", n, n + 8) for n in (0, 6, 12, 18, 24, 30)]
    for record in reversed(records):
        sample = loader.read(record)
        assert sample.array.shape == (1, 8, 64, 80)
        first = int((record.part or ())[1])
        assert [number_of(frame) for frame in sample.array[0]] == list(range(first, first + 8))
        error = np.abs(sample.array[0].astype(int) - clip[first : first + 8])
        assert error.mean() < (0.01 if name in ("a.dcm", "colour.dcm") else 4)


def test_4d_nifti_is_a_recording_a_slice(tmp_path: Path) -> None:
    clips = np.stack([blocks(20).astype(np.int16) * (2 + z) for z in range(3)])
    save_nifti(tmp_path / "a.nii.gz", clips, (1.5, 2.0, 8.0, 0.03))
    loader = ClipFolder(window=10, stride=10)
    records, _ = found(loader, tmp_path)
    assert [record.part for record in records] == [
        ("slice", z, "window", first, first + 10) for z in range(3) for first in (0, 10)
    ]
    sample = loader.read(records[3])
    assert sample.array.shape == (1, 10, 64, 80)
    assert sample.spacing == pytest.approx((30.0, 2.0, 1.5))
    seen, stored = sample.array[0].ravel(), clips[1, 10:].ravel()
    assert np.corrcoef(seen, np.clip(stored, *np.percentile(stored, (0.5, 99.5))))[0, 1] > 0.999
    save_nifti(tmp_path / "a.nii.gz", clips[:, :1], (1.5, 2.0, 8.0, 0.03))
    assert not found(loader, tmp_path)[0]


def test_only_image_regions_of_the_header_are_kept(tmp_path: Path) -> None:
    clip = np.full((10, 96, 112), 200, np.uint8)  # a name, everywhere
    clip[:, 20:84, 16:96] = blocks(10)
    boxes = [region((20, 16, 84, 56)), region((20, 56, 60, 96)), region((0, 0, 10, 112), shape=3)]
    save_dicom(tmp_path / "a.dcm", clip, SequenceOfUltrasoundRegions=boxes, FrameTime=20)
    sample = only(ClipFolder(window=10), tmp_path)
    expected = blocks(10)
    expected[:, 40:, 40:] = 0
    assert np.array_equal(sample.array[0], expected)
    assert sample.spacing == (20, 0.4, 0.5)


def test_without_regions_what_does_not_move_is_blanked_and_black_borders_are_cut(tmp_path: Path) -> None:
    clip = np.zeros((12, 120, 140), np.uint8)
    clip[:, 30:94, 30:110] = blocks(12)
    clip[:, 4:12, 4:60] = 220  # a name
    clip[:, 104:110, 60 : 60 + 40] = 50 + 15 * np.arange(12)[:, None, None]  # a trace that runs
    for name, save in (("a.dcm", save_dicom), ("b.avi", save_video)):
        save(tmp_path / name, clip)
        array = only(ClipFolder(window=12), tmp_path / name).array[0]
        assert array.shape[1:] == pytest.approx((64, 80), abs=8)
        assert np.abs(array[:, 4:-4, 4:-4].astype(float).mean() - blocks(12).mean()) < 8
    still = np.repeat(blocks(1), 6, axis=0)
    save_dicom(tmp_path / "a.dcm", still)
    sample = only(ClipFolder(), tmp_path / "a.dcm")
    assert np.array_equal(sample.array[0], still)
    assert "nothing moves" in sample.notes[0]


def test_a_still_organ_is_no_border(tmp_path: Path) -> None:
    clip = np.zeros((12, 120, 140), np.uint8)
    clip[:, 20:100, 20:120] = blocks(1, 80, 104)[:, :, :100]
    clip[:, 40:60, 40:64] = blocks(12, 24, 24)[:, :20]  # a valve
    clip[:, 4:12, 4:60] = 220  # a name
    save_dicom(tmp_path / "a.dcm", clip)
    assert np.array_equal(only(ClipFolder(), tmp_path).array[0], clip[:, 20:100, 20:120])
    clip[:, :, :] = 60  # a grey screen
    clip[:, 20:110, 10:130] = blocks(12, 96, 120)[:, :90]
    clip[:, 4:12, 4:60] = 220
    save_dicom(tmp_path / "a.dcm", clip)
    array = only(ClipFolder(), tmp_path).array[0]
    assert array.shape[1:] == pytest.approx((90, 120), abs=4)
    assert array.max() < 200


def test_colour_doppler_and_spectra_are_left_out(tmp_path: Path) -> None:
    grey = np.repeat(blocks(8)[..., None], 3, axis=3)
    flow = grey.copy()
    flow[:, 20:40, 20:40] = (250, 30, 10)
    save_dicom(tmp_path / "a.dcm", flow)
    save_dicom(tmp_path / "b.dcm", grey, SequenceOfUltrasoundRegions=[region((0, 0, 64, 80), kind=2)])
    save_dicom(tmp_path / "c.dcm", grey, SequenceOfUltrasoundRegions=[region((0, 0, 64, 80), kind=3, shape=3)])
    save_video(tmp_path / "d.avi", flow)
    save_dicom(tmp_path / "e.dcm", blocks(1)[:1])
    save_dicom(tmp_path / "f.dcm", blocks(8), Modality="CT")
    marked = grey.copy()
    marked[:, 2:4, 2:4] = (250, 160, 0)  # a coloured dot
    save_dicom(tmp_path / "g.dcm", marked)
    records, skipped = found(ClipFolder(), tmp_path)
    assert [record.source.name for record in records] == ["g.dcm"]
    assert {item.source.name: item.reason for item in skipped} == {
        "a.dcm": "colour (Doppler) where grey is expected",
        "b.dcm": "colour Doppler where grey is expected",
        "c.dcm": "ultrasound without a 2D image (M-mode or Doppler spectra)",
        "d.avi": "colour (Doppler) where grey is expected",
        "e.dcm": "a still image where a clip is expected",
        "f.dcm": "DICOM of modality CT where US, IVUS, XA, RF is read",
    }
    assert not any(item.bad for item in skipped)


def test_what_may_show_a_name_is_read_only_where_allowed(tmp_path: Path) -> None:
    save_dicom(tmp_path / "a.dcm", blocks(8), SOPClassUID="1.2.840.10008.5.1.4.1.1.7.2")
    save_dicom(tmp_path / "b.dcm", np.repeat(blocks(1), 8, axis=0), BurnedInAnnotation="YES")
    save_dicom(tmp_path / "c.dcm", blocks(8), BurnedInAnnotation="YES")  # what lies beside the image can be found
    records, skipped = found(ClipFolder(), tmp_path)
    assert [item.source.name for item in skipped] == ["a.dcm"]
    assert "not read unless allowed (--allow secondary-capture)" in skipped[0].reason
    with pytest.raises(DataError, match="burnt-in text, which may be a name, cannot be found"):
        ClipFolder().read(records[0])
    ClipFolder().read(records[1])
    allowed = ClipFolder(allow=("secondary-capture", "burned-in"))
    records, skipped = found(allowed, tmp_path)
    assert not skipped
    assert [allowed.read(record).array.shape[1] for record in records] == [8, 8, 8]


def test_deep_and_inverted_frames_of_angiography(tmp_path: Path) -> None:
    clip = blocks(8).astype(np.uint16) * 9
    save_dicom(
        tmp_path / "a.dcm", clip, Modality="XA", BitsStored=12, HighBit=11, ImagerPixelSpacing=[0.3, 0.2], CineRate=10
    )
    sample = only(ClipFolder(), tmp_path)
    assert np.corrcoef(sample.array.ravel(), clip.ravel())[0, 1] > 0.99
    assert sample.spacing == (100, 0.3, 0.2)
    save_dicom(
        tmp_path / "a.dcm", clip, Modality="XA", BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1"
    )
    assert np.corrcoef(only(ClipFolder(), tmp_path).array.ravel(), clip.ravel())[0, 1] < -0.99


def test_fewer_frames_than_declared_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    for jpeg in (False, True):
        save_dicom(tmp_path / "a.dcm", blocks(20), jpeg=jpeg, FrameTime=40)
        data = (tmp_path / "a.dcm").read_bytes()
        place = data.index(struct.pack("<HH", 0x7FE0, 0x10))
        (tmp_path / "a.dcm").write_bytes(data[: place + (len(data) - place) * 6 // 10])
        records, _ = found(ClipFolder(window=6, stride=6), tmp_path)
        assert [record.part for record in records] == [("window", 0, 6), ("window", 6, 12)][: len(records)]
        assert len(records) >= 1
        sample = ClipFolder(window=6, stride=6).read(records[-1])
        assert "frames where 20 are declared" in sample.notes[0]
        assert number_of(sample.array[0, -1]) == int((records[-1].part or ())[2]) - 1
    save_video(tmp_path / "b.avi", blocks(40))
    data = (tmp_path / "b.avi").read_bytes()
    (tmp_path / "b.avi").write_bytes(data[: len(data) // 2])
    records, _ = found(ClipFolder(window=8, stride=8), tmp_path / "b.avi")
    assert 1 <= len(records) <= 3
    assert number_of(ClipFolder(window=8, stride=8).read(records[0]).array[0, 7]) == 7


def test_time_can_be_resampled_and_a_variable_rate_is_noted(tmp_path: Path) -> None:
    save_dicom(tmp_path / "a.dcm", blocks(40), FrameTime=20.0)
    loader = ClipFolder(window=8, stride=8, frame_ms=50.0)
    records, _ = found(loader, tmp_path)
    assert [record.part for record in records] == [("window", 0, 8), ("window", 8, 16)]  # 780 ms
    sample = loader.read(records[0])
    assert [number_of(frame) for frame in sample.array[0]] == [0, 2, 5, 7, 10, 12, 15, 17]
    vector = [0.0, *([20.0] * 20), *([60.0] * 19)]
    save_dicom(tmp_path / "a.dcm", blocks(40), FrameTimeVector=vector)
    loader = ClipFolder(window=4, stride=4, frame_ms=60.0)
    records, _ = found(loader, tmp_path)
    sample = loader.read(records[-1])
    assert "variable frame rate, 20 to 60 ms a frame" in sample.notes
    numbers = [number_of(frame) for frame in sample.array[0]]
    assert np.diff(numbers).tolist() == [1, 1, 1]
    save_dicom(tmp_path / "a.dcm", blocks(40))
    assert "does not say its frame rate" in found(loader, tmp_path)[1][0].reason


def test_patients_by_their_id_or_the_manifest(tmp_path: Path) -> None:
    save_dicom(tmp_path / "a.dcm", blocks(8))
    save_dicom(tmp_path / "b.dcm", blocks(8))
    records, _ = found(ClipFolder(), tmp_path)
    assert len({record.group for record in records}) == 1
    assert "Jane" not in str(records[0].group)
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "group"], ["a.dcm", "P1"]])
    assert [record.group for record in found(ClipFolder(), tmp_path)[0]] == ["P1"]


def test_augmentation_is_the_same_for_all_frames_and_keeps_their_order() -> None:
    batch = torch.from_numpy(blocks(8))[None, None]
    batch[:, :, 1:] = batch[:, :, :1]  # one picture, eight times
    batch[:, :, :, 0, 0] = torch.arange(8, dtype=torch.uint8)
    for seed in range(6):
        view = SamePlane()(batch, torch.Generator().manual_seed(seed))
        assert view.shape == batch.shape
        assert view.dtype == batch.dtype
        assert (view[0, 0, 1:, 8:-8, 8:-8] == view[0, 0, :1, 8:-8, 8:-8]).all()
    rising = torch.arange(8, dtype=torch.uint8).view(1, 1, 8, 1, 1).expand(1, 1, 8, 32, 32) * 20
    for seed in range(20):
        means = SamePlane()(rising, torch.Generator().manual_seed(seed)).float().mean(dim=(0, 1, 3, 4))
        assert (means.diff() > 15).all()


def test_clips_share_no_network_with_volumes() -> None:
    tokenizer = ClipPatches("patch3d-2x16x16-cine")
    with pytest.raises(RecipeError, match="the first axis of a clip is time"):
        tokenizer.with_key("patch3d-16")
    assert tokenizer.with_key("patch3d-4x16x16-cine").patch == (4, 16, 16)


def test_a_short_recording_is_one_sample_and_windows_are_spread(tmp_path: Path) -> None:
    save_dicom(tmp_path / "a.dcm", blocks(5))
    assert [record.part for record in found(ClipFolder(), tmp_path)[0]] == [("window", 0, 5)]
    save_dicom(tmp_path / "a.dcm", blocks(48))
    records, _ = found(ClipFolder(window=4, stride=4, per_clip=3), tmp_path)
    assert [record.part for record in records] == [("window", 0, 4), ("window", 16, 20), ("window", 32, 36)]


def test_damaged_and_hostile_files_end_in_a_reason(tmp_path: Path) -> None:
    save_dicom(tmp_path / "a.dcm", blocks(12))
    save_dicom(tmp_path / "b.dcm", blocks(12), jpeg=True)
    save_video(tmp_path / "c.avi", blocks(12))
    save_video(tmp_path / "d.mp4", blocks(12), "libx264")
    save_nifti(tmp_path / "e.nii", blocks(12)[None].astype(np.int16), (1, 1, 1, 0.04))
    loader = ClipFolder(window=12)
    rng = np.random.default_rng(3)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for turn in range(20):
            data = bytearray(whole)
            if turn < 5:
                data = data[: len(data) * turn // 5]
            else:
                for _ in range(int(rng.integers(1, 12))):
                    data[int(rng.integers(0, min(len(data), 3000)))] = int(rng.integers(0, 256))
            path.write_bytes(data)
            for item in loader.find(path):
                if isinstance(item, Record):
                    with contextlib.suppress(DataError):
                        loader.read(item)
        path.write_bytes(whole)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    save_video(tmp_path / "secret.avi", blocks(12))
    (tmp_path / "a.avi").write_text("#EXTM3U\n#EXTINF:1,\nsecret.avi\n")
    (tmp_path / "b.mp4").write_text("ffconcat version 1.0\nfile secret.avi\n")
    for name in ("a.avi", "b.mp4"):
        records, skipped = found(ClipFolder(), tmp_path / name)
        assert not records
        assert skipped[0].reason == "text where a clip is expected"


def test_huge_frames_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    save_dicom(tmp_path / "a.dcm", blocks(4), Rows=60000, Columns=60000)
    _, skipped = found(ClipFolder(), tmp_path)
    assert skipped[0].reason == "frames of 60000 x 60000 pixels are no clip's"
    save_dicom(tmp_path / "a.dcm", blocks(4), NumberOfFrames=2**30)
    records, _ = found(ClipFolder(), tmp_path)
    assert [record.part for record in records] == [("window", 0, 4)]
