"""Files that would grow beyond what they declare, or declare more than they hold: refused with the number, before the work."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.filewriter
import pytest
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import bounds, dicom, pixels
from tests.dicom_files import enhanced, make, save

PICTURE = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


def compressed(path: Path, syntax: str, frame: bytes, picture: Any = PICTURE, **elements: Any) -> Path:
    data = make(picture, "CR")
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([frame])
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    for name, value in elements.items():
        setattr(data, name, value)
    return save(data, path)


def frame_of(syntax: str, picture: Any = PICTURE) -> bytes:
    data = make(picture, "CR")
    try:
        data.compress(syntax)
    except RuntimeError as error:  # no encoder is installed
        pytest.skip(str(error).partition("\n")[0])
    return next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1))


def a_jpeg(height: int, width: int, mode: str = "L") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height)).save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("padding", "length", "preamble"),
    [(0, None, True), (5000, None, True), (0, 7, True), (5000, 7, True), (0, None, False)],
)
def test_a_deflated_bomb_is_refused_wherever_its_data_set_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, padding: int, length: int | None, preamble: bool
) -> None:
    monkeypatch.setattr(bounds, "MAX_DEFLATED", 2**20)
    monkeypatch.setattr(zlib, "decompress", lambda *_: pytest.fail("unpacked without a limit"))
    data = make(np.zeros((2048, 2048), np.uint16), "CR")
    data.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    if padding:  # an element before the transfer syntax
        data.file_meta.FileMetaInformationVersion = bytes(padding)
    path = save(data, tmp_path / "bomb")
    whole = bytearray(path.read_bytes())
    if length is not None:
        whole[140:144] = struct.pack("<I", length)
    path.write_bytes(whole if preamble else whole[132:])
    with pytest.raises(DataError, match="unpacks to more than the limit of 1,048,576 bytes"):
        dicom.read_header(path)


def test_a_deflated_picture_is_read(tmp_path: Path) -> None:
    data = make(PICTURE, "CR")
    data.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    assert np.array_equal(pixels.read_frame(save(data, tmp_path / "a"))[0][0], PICTURE)


@pytest.mark.parametrize(
    ("syntax", "frame", "inside"),
    [
        (uid.JPEGBaseline8Bit, lambda: a_jpeg(3000, 4000), "3000 x 4000 x 1"),
        (uid.JPEGBaseline8Bit, lambda: a_jpeg(64, 48, "RGB"), "64 x 48 x 3"),
        (uid.JPEGLSLossless, lambda: frame_of(uid.JPEGLSLossless, PICTURE[:, :40]), "64 x 40 x 1"),
        (uid.JPEG2000Lossless, lambda: frame_of(uid.JPEG2000Lossless, PICTURE[:60]), "60 x 48 x 1"),
    ],
)
def test_a_picture_of_another_size_than_declared_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str, frame: Callable[[], bytes], inside: str
) -> None:
    from medcoss_cli.kit.readers import codecs

    monkeypatch.setattr(codecs, "pixel_array", lambda *_, **__: pytest.fail("decoded"))
    path = compressed(tmp_path / "a", syntax, frame())
    with pytest.raises(DataError, match=f"is of {inside} values where the header declares 64 x 48 x 1") as caught:
        pixels.read_frame(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless])
def test_a_blank_picture_is_small_and_is_read(tmp_path: Path, syntax: str) -> None:
    blank = np.zeros((2000, 1500), np.uint16)
    assert not pixels.read_frame(compressed(tmp_path / "a", syntax, frame_of(syntax, blank), blank))[0].any()


def test_few_bytes_of_a_large_picture_are_refused(tmp_path: Path) -> None:
    frame = bytearray(frame_of(uid.JPEG2000Lossless))
    for at in (8, 24):  # of the codestream's size and of its tiles
        frame[at : at + 8] = struct.pack(">II", 8000, 8100)
    path = compressed(tmp_path / "a", uid.JPEG2000Lossless, bytes(frame), Rows=8100, Columns=8000)
    with pytest.raises(DataError, match="bytes of a compressed picture where 129,600,000 bytes are declared"):
        pixels.read_frame(path)


def runs(count: int) -> bytes:
    """A run-length encoded picture whose first segment holds so many runs of 128 zeros, and its second what it should."""
    first, second = b"\x81\0" * count, b"\x81\0" * (PICTURE.size // 128)
    return struct.pack("<16I", 2, 64, 64 + len(first), *[0] * 13) + first + second


def test_runs_beyond_the_picture_are_refused(tmp_path: Path) -> None:
    path = compressed(tmp_path / "good", uid.RLELossless, runs(PICTURE.size // 128))
    assert not pixels.read_frame(path)[0].any()
    with pytest.raises(DataError, match="a run-length encoded segment holds more than the 3,072 bytes of the picture"):
        pixels.read_frame(compressed(tmp_path / "grown", uid.RLELossless, runs(PICTURE.size // 4)))
    with pytest.raises(DataError, match="bytes of a run-length encoded picture of 6,144 bytes"):
        pixels.read_frame(compressed(tmp_path / "long", uid.RLELossless, runs(PICTURE.size * 2)))


def test_what_is_declared_and_not_there_is_refused_by_the_header(tmp_path: Path) -> None:
    data = enhanced(4)
    data.NumberOfFrames = 65_536
    data.PerFrameFunctionalGroupsSequence = Sequence([Dataset() for _ in range(2000)])
    save(data, tmp_path / "native")
    with pytest.raises(DataError, match="512 bytes of pixels where 8,388,608 are declared"):
        dicom.read_header(tmp_path / "native")
    data = enhanced(4)
    data.compress(uid.RLELossless)
    data.NumberOfFrames = 65_536
    with pytest.raises(DataError, match="448 bytes of compressed pixels where 65,536 frames are declared"):
        dicom.read_header(save(data, tmp_path / "compressed"))
    data = make(PICTURE, "CR", Rows=65_535, Columns=16_000)
    with pytest.raises(DataError, match="16000 x 65535 pixels are more than the limit"):
        dicom.read_header(save(data, tmp_path / "rows"))
