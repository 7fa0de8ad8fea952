"""Tiles lie where and at the scale they claim to, patients stay together, and what may show a name is never read."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import medcoss_slides
import numpy as np
import pytest
from medcoss_slides import SlideFolder
from medcoss_slides.demo import reduced, write_slide
from PIL import Image

from medcoss_cli import conformance
from medcoss_cli.plugin import Record, Skipped

Array = np.ndarray[Any, Any]
Write = Callable[..., Any]
LOADER = SlideFolder(tile=64, per_slide=1000)


def found(loader: SlideFolder, root: Path, split: str = "train") -> tuple[list[Record], list[Skipped]]:
    items = list(loader.find(root, split))
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Skipped)]


def corner(record: Record) -> tuple[int, int]:
    _, x, y = record.part or ()
    return int(x), int(y)


def differences(loader: SlideFolder, records: Sequence[Record], image: Array) -> float:
    """The largest difference of tiles of level 0 from the picture that was written."""
    largest = 0
    for record in records:
        x, y = corner(record)
        array = loader.read(record).array
        expected = np.moveaxis(image[y : y + loader.tile, x : x + loader.tile], -1, 0)
        largest = max(largest, int(np.abs(array.astype(int) - expected).max()))
    return largest


def test_it_passes_the_conformance_suite(tmp_path: Path) -> None:
    (modality,) = medcoss_slides.medcoss_modalities()
    assert conformance.check(modality, tmp_path) == []


@pytest.mark.parametrize(
    "kind",
    [
        "svs",
        "svs jpeg",
        "svs aperio_jp2000_rgb",
        "svs aperio_jp2000_ycbc",
        "ndpi",
        "dicom",
        "dicom sparse",
        "dicom jpeg",
    ],
)
def test_tiles_of_level_0_are_the_pixels_of_the_slide(
    kind: str, tmp_path: Path, draw: Write, svs: Write, ndpi: Write, dicom_slide: Write
) -> None:
    image = draw(512, 768)
    exact = kind in ("svs", "dicom", "dicom sparse")
    if not exact:  # JPEG keeps what is smooth
        image = np.asarray(Image.fromarray(image).reduce(16).resize((768, 512), Image.Resampling.BICUBIC))
    if kind == "ndpi":
        ndpi(tmp_path / "a.ndpi", image)
    elif kind.startswith("svs"):
        svs(tmp_path / "a.svs", image, compression=kind[4:] or "deflate")
    else:
        dicom_slide(tmp_path / "a", image, sparse="sparse" in kind, jpeg="jpeg" in kind)
    records, skipped = found(LOADER, tmp_path)
    assert all(("label" in item.reason) and not item.bad for item in skipped)
    assert 18 <= len(records) <= 36  # of 96: the tissue is a quarter
    assert differences(LOADER, records, image) <= (0 if exact else 14)
    assert LOADER.read(records[0]).spacing == (0.0005, 0.0005)


def test_a_tile_is_resampled_from_the_next_finer_level_to_the_microns_that_are_asked_for(
    tmp_path: Path, draw: Write, svs: Write
) -> None:
    image = draw(1024, 1024)
    ramp = np.linspace(0, 60, 1024).astype(np.uint8)
    image[:, :, 1] = np.clip(image[:, :, 1].astype(int) - ramp[None, :], 0, 255)
    svs(tmp_path / "a.svs", image, mpp=0.25)
    for mpp, factor in ((0.25, 1), (0.5, 2), (1.0, 4), (2.0, 8)):
        loader = SlideFolder(tile=32, mpp=mpp, per_slide=40)
        records, _ = found(loader, tmp_path)
        assert records
        for record in records[:8]:
            x, y = corner(record)
            part = image[y : y + 32 * factor, x : x + 32 * factor]
            expected = np.moveaxis(reduced(part, factor) if factor > 1 else part, -1, 0).astype(float)
            array = loader.read(record).array.astype(float)
            assert array.shape == (3, 32, 32)
            assert np.abs(array - expected).mean() < 2.5
    between = SlideFolder(tile=32, mpp=0.4, per_slide=40)  # 51.2 pixels of level 0
    records, _ = found(between, tmp_path)
    x, y = corner(records[5])
    expected = image[y : y + 51, x : x + 51].mean(axis=(0, 1))
    assert np.abs(between.read(records[5]).array.mean(axis=(1, 2)) - expected).max() < 2


def test_levels_whose_sizes_were_rounded_down_do_not_drift(tmp_path: Path) -> None:
    image = np.full((1037, 1051, 3), 240, np.uint8)
    image[:, :, 1] -= (np.arange(1051) % 64 * 2).astype(np.uint8)[None, :]
    image[:, :, 2] -= 60
    write_slide(tmp_path / "a.tif", image, mpp=0.25, compression="deflate")
    loader = SlideFolder(tile=32, mpp=2.0, per_slide=1000, tissue=0)
    for record in found(loader, tmp_path)[0]:
        x, y = corner(record)
        expected = np.moveaxis(reduced(image[y : y + 256, x : x + 256], 8), -1, 0).astype(int)
        assert np.abs(loader.read(record).array.astype(int) - expected).max() <= 4


def test_only_tissue_is_taken_and_small_objects_are_not(tmp_path: Path, draw: Write) -> None:
    image = draw(1024, 1024)
    image[40:60, 40:60] = (200, 60, 160)  # a speck
    image[900:, :] = 3  # black that a scanner fills up with
    write_slide(tmp_path / "a.tif", image, compression="deflate")
    corners = [corner(record) for record in found(LOADER, tmp_path)[0]]
    assert len(corners) == 64
    assert all(256 <= x <= 704 and 256 <= y <= 704 for x, y in corners)
    write_slide(tmp_path / "a.tif", draw(1024, 1024)[:200, :200], compression="deflate")  # glass alone
    records, skipped = found(LOADER, tmp_path)
    assert not records
    assert [(item.reason, item.bad) for item in skipped] == [("no tile of which 50% is tissue", False)]


def test_at_most_n_tiles_a_slide_and_a_patient_spread_over_the_tissue(tmp_path: Path, draw: Write) -> None:
    for name in ("TCGA-AA-0001-01Z.a", "TCGA-AA-0001-01Z.b", "TCGA-AA-0001-11A", "TCGA-AA-0002-01Z"):
        write_slide(tmp_path / f"{name}.tif", draw(1024, 1024), compression="deflate")
    loader = SlideFolder(tile=64, per_slide=16, per_patient=20)
    records, _ = found(loader, tmp_path)
    assert sorted(Counter(record.source for record in records).values()) == [6, 7, 7, 16]
    assert sorted(Counter(record.group for record in records).values()) == [16, 20]
    alone = [corner(record) for record in records if "0002" in record.source.name]
    quarters = Counter((x >= 512, y >= 512) for x, y in alone)
    assert sorted(quarters.values()) == [4, 4, 4, 4]
    assert records == found(loader, tmp_path)[0]
    none = SlideFolder(tile=64, per_patient=2)
    records, skipped = found(none, tmp_path)
    assert sorted(Counter(record.group for record in records).values()) == [2, 2]
    assert [item.reason for item in skipped] == ["2 tiles are taken of the patient's other slides"]


def test_the_patient_is_the_manifests_or_the_barcode_or_the_case_folder_and_no_name_is_kept(
    tmp_path: Path, draw: Write, dicom_slide: Write
) -> None:
    image = draw(256, 256)
    for name in ("case_a/1", "case_a/2", "case_b/1", "loose", "case_b/TCGA-XY-Z123-01Z-00-DX1", "TCGA-XY-Z123-02"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_slide(tmp_path / f"{name}.tif", image, compression="deflate")
    for series in ("1.2.3", "1.2.4"):
        dicom_slide(tmp_path / series, image, series=series)
    records, _ = found(LOADER, tmp_path)
    group = {record.source.relative_to(tmp_path).as_posix(): record.group for record in records}
    assert group["case_a/1.tif"] == group["case_a/2.tif"]
    assert group["case_b/TCGA-XY-Z123-01Z-00-DX1.tif"] == group["TCGA-XY-Z123-02.tif"]
    assert group["1.2.3/0.dcm"] == group["1.2.4/0.dcm"]
    assert len(set(group.values())) == 5
    assert not any(word in str(set(group.values())) for word in ("case", "loose", "TCGA", "Jane"))
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["path", "group", "split"], ["case_a/1.tif", "P1", "train"], ["1.2.3", "P2", "test"]]
        )
    records, _ = found(LOADER, tmp_path, "all")
    assert {(record.source.name, record.group) for record in records} == {("1.tif", "P1"), ("0.dcm", "P2")}


def test_label_and_macro_are_never_read(tmp_path: Path, draw: Write, svs: Write, dicom_slide: Write) -> None:
    import tifffile

    image = draw(512, 512)
    svs(tmp_path / "a.svs", image)
    records, _ = found(LOADER, tmp_path)
    before = [LOADER.read(record).array for record in records]
    with tifffile.TiffFile(tmp_path / "a.svs") as file:
        places = [
            (o, n)
            for page in (file.pages[1], *file.pages[3:])
            for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
    with (tmp_path / "a.svs").open("r+b") as file:
        for offset, count in places:
            file.seek(offset)
            file.write(b"\xff" * count)
    assert len(places) > 3
    again, skipped = found(LOADER, tmp_path)
    assert (again, skipped) == (records, [])
    assert all(np.array_equal(LOADER.read(record).array, array) for record, array in zip(again, before, strict=True))
    paths = dicom_slide(tmp_path / "d", image)
    records, skipped = found(LOADER, tmp_path / "d")
    assert {(record.source, record.files) for record in records} == {(paths[0], (paths[1],))}
    assert [(item.source, item.reason) for item in skipped] == [(paths[2], "the slide's label, which is never read")]


def test_a_label_that_comes_first_is_not_taken_for_the_slide(tmp_path: Path, draw: Write) -> None:
    import tifffile

    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for image in (draw(256, 256), draw(512, 768)):
            writer.write(
                image, tile=(128, 128), photometric="rgb", resolution=(20000, 20000), resolutionunit="CENTIMETER"
            )
    records, skipped = found(LOADER, tmp_path)
    assert not records
    assert "it may be the slide's label" in skipped[0].reason


def test_microns_per_pixel_are_needed_or_assumed(tmp_path: Path, draw: Write, svs: Write) -> None:
    svs(tmp_path / "a.svs", draw(512, 512), mpp=None)
    records, skipped = found(LOADER, tmp_path)
    assert not records
    assert skipped[0].reason == (
        "the file does not say its microns per pixel; "
        "give it: data.loader.slides.assume_mpp=0.25, or --loader assume_mpp=0.25"
    )
    loader = SlideFolder(tile=64, assume_mpp=0.5)
    records, _ = found(loader, tmp_path)
    assert len(records) == 16
    assert loader.read(records[0]).notes == ("microns per pixel are not in the file: 0.5 assumed",)
    svs(tmp_path / "a.svs", draw(512, 512), mpp=4.0)
    _, skipped = found(LOADER, tmp_path)
    assert [(i.reason, i.bad) for i in skipped] == [
        ("4 microns per pixel are coarser than the 0.5 that are read", False)
    ]
    svs(tmp_path / "a.svs", draw(512, 512), mpp=0.52)  # what a scanner calls 20x
    assert len(found(LOADER, tmp_path)[0]) == 16


def test_what_is_no_slide_is_left_out_with_its_reason(tmp_path: Path, draw: Write) -> None:
    Image.fromarray(draw(256, 256)).save(tmp_path / "a.tif")
    Image.fromarray(draw(256, 256)).save(tmp_path / "b.png")
    (tmp_path / "c.svs").write_bytes(b"")
    _, skipped = found(LOADER, tmp_path)
    reasons = {item.source.name: (item.reason.partition(";")[0], item.bad) for item in skipped}
    assert reasons == {
        "a.tif": ("a TIFF that is not stored in tiles", False),
        "b.png": ("an image (2D, PNG) where a slide is expected", False),
        "c.svs": ("the file is empty", True),
    }
