"""Files that are damaged, or made to do harm, end in a reason: no other exception, no endless loop, bounded memory."""

from __future__ import annotations

import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from medcoss_slides import SlideFolder

from medcoss_cli.errors import DataError
from medcoss_cli.plugin import Record, Skipped

Write = Callable[..., Any]
LOADER = SlideFolder(tile=64, per_slide=6)


def outcome(path: Path) -> list[str]:
    """Reasons of a file: of its finding, or of its tiles. Anything but a DataError fails the test."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reasons = []
    for item in LOADER.find(path):
        if isinstance(item, Skipped):
            reasons.append(item.reason)
            continue
        assert isinstance(item, Record)
        try:
            LOADER.read(item)
        except DataError as error:
            reasons.append(error.what)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KB
    return reasons


def directories(path: Path) -> list[tuple[int, int]]:
    """Where each image directory of a classic TIFF begins, and where the link to the next one is."""
    data, places = path.read_bytes(), []
    (at,) = struct.unpack("<I", data[4:8])
    while at:
        (count,) = struct.unpack("<H", data[at : at + 2])
        link = at + 2 + 12 * count
        places.append((at, link))
        (at,) = struct.unpack("<I", data[link : link + 4])
    return places


def patch(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def tag_value(path: Path, directory: int, tag: int) -> int:
    """Where the value of a tag lies, in the entry itself."""
    data = path.read_bytes()
    (count,) = struct.unpack("<H", data[directory : directory + 2])
    entries = range(directory + 2, directory + 2 + 12 * count, 12)
    return next(at for at in entries if struct.unpack("<H", data[at : at + 2])[0] == tag) + 8


def test_a_loop_of_directories(tmp_path: Path, draw: Write, svs: Write) -> None:
    svs(tmp_path / "a.svs", draw(512, 512))
    places = directories(tmp_path / "a.svs")
    patch(tmp_path / "a.svs", places[-1][1], struct.pack("<I", places[1][0]))
    assert outcome(tmp_path / "a.svs") == ["its image directories form a loop"]


def test_huge_sizes(tmp_path: Path, draw: Write, svs: Write) -> None:
    for tag, value in ((256, 2**31 - 8), (257, 2**31 - 8), (322, 2**20), (256, 2**20)):
        svs(tmp_path / "a.svs", draw(512, 512))
        path = tmp_path / "a.svs"
        at = tag_value(path, directories(path)[0][0], tag)
        (kind,) = struct.unpack("<H", path.read_bytes()[at - 6 : at - 4])
        patch(path, at, struct.pack("<I" if kind == 4 else "<H", value if kind == 4 else 2**16 - 16))
        assert len(outcome(path)) == 1


def test_a_jpeg_that_claims_to_be_larger_than_its_tile(tmp_path: Path, draw: Write, svs: Write) -> None:
    svs(tmp_path / "a.svs", draw(512, 512), compression="jpeg")
    data = bytearray((tmp_path / "a.svs").read_bytes())
    at = data.find(b"\xff\xc0")
    assert at > 0
    while at >= 0:
        data[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
        at = data.find(b"\xff\xc0", at + 2)
    (tmp_path / "a.svs").write_bytes(data)
    assert set(outcome(tmp_path / "a.svs")) == {"a tile claims to be larger than its place"}


def test_a_deflate_bomb(tmp_path: Path, draw: Write, svs: Write) -> None:
    import zlib

    import tifffile

    path = tmp_path / "a.svs"
    svs(path, draw(2048, 2048))
    bomb = zlib.compress(bytes(2**27), 9)
    with tifffile.TiffFile(path) as file:
        page = file.pages[2]
        counts = page.tags["TileByteCounts"].valueoffset
        offsets = page.tags["TileOffsets"].valueoffset
        number = len(page.dataoffsets)
    end = path.stat().st_size
    with path.open("ab") as stream:
        stream.write(bomb)
    patch(path, offsets, struct.pack(f"<{number}I", *[end] * number))
    patch(path, counts, struct.pack(f"<{number}I", *[len(bomb)] * number))
    assert len(outcome(path)) >= 1


@pytest.mark.parametrize("kind", ["svs", "ndpi", "dicom"])
def test_truncated_anywhere(
    kind: str, tmp_path: Path, draw: Write, svs: Write, ndpi: Write, dicom_slide: Write
) -> None:
    path = written(kind, tmp_path, draw(256, 256), svs, ndpi, dicom_slide)
    whole = path.read_bytes()
    for share in (0.001, 0.01, 0.2, 0.5):  # label and macro lie at the end, and are never read
        path.write_bytes(whole[: max(9, int(len(whole) * share))])
        assert outcome(path), share


@pytest.mark.parametrize("kind", ["svs", "svs jpeg", "ndpi", "dicom"])
def test_bytes_that_changed(
    kind: str, tmp_path: Path, draw: Write, svs: Write, ndpi: Write, dicom_slide: Write
) -> None:
    path = written(kind, tmp_path, draw(192, 192), svs, ndpi, dicom_slide)
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 9))):
            # the header of DICOM is at the beginning, directories of a TIFF lie anywhere
            at = int(rng.integers(132, 2000)) if kind == "dicom" else int(rng.integers(4, len(data)))
            data[at] = int(rng.integers(0, 256))
        path.write_bytes(data)
        outcome(path)


def written(kind: str, folder: Path, image: Any, svs: Write, ndpi: Write, dicom_slide: Write) -> Path:
    if kind == "dicom":
        return Path(dicom_slide(folder / "d", image, factors=(1,))[0])
    path = folder / ("a.ndpi" if kind == "ndpi" else "a.svs")
    if kind == "ndpi":
        ndpi(path, image)
    else:
        svs(path, image, compression="jpeg" if "jpeg" in kind else "deflate")
    return path
