"""Slides of each kind, made by code: fixtures give the functions that write them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from medcoss_slides.demo import reduced, tiles
from PIL import Image

Array = np.ndarray[Any, Any]
MARK = (10, 250, 30)
"""Colour of labels and macro pictures, which no tile may show."""


def picture(height: int = 1024, width: int = 1024, seed: int = 0) -> Array:
    """Glass with one block of pink, grained tissue in its middle half."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 242, np.uint8)
    inner = np.s_[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4]
    grain = rng.integers(0, 40, (*image[inner].shape[:2], 1))
    image[inner] = np.clip(np.array((205, 110, 180)) + grain - 20, 0, 255)
    return image


def write_svs(
    path: Path, image: Array, mpp: float | None = 0.5, *, tile: int = 128, compression: str = "deflate"
) -> None:
    """As Aperio writes them: level 0, thumbnail, level 1 (a quarter), label, macro; the last two of one colour."""
    import tifffile

    about = f"Aperio Image Library v12.0.15\r\n{image.shape[1]}x{image.shape[0]} (128x128) RGB|AppMag = 20|Filename = secret"
    about += "" if mpp is None else f"|MPP = {mpp}"
    ycbcr = compression == "aperio_jp2000_ycbc"
    if ycbcr:
        image = np.asarray(Image.fromarray(image).convert("YCbCr"))
    tiled: dict[str, Any] = {
        "tile": (tile, tile),
        "photometric": "ycbcr" if ycbcr else "rgb",
        "compression": compression,
        "metadata": None,
    }
    whole: dict[str, Any] = {"photometric": "rgb", "metadata": None, "rowsperstrip": 16}
    mark = np.broadcast_to(np.array(MARK, np.uint8), (96, 160, 3))
    with tifffile.TiffWriter(path) as writer:
        writer.write(tiles(image, tile), shape=image.shape, dtype="uint8", description=about, software=False, **tiled)
        writer.write(reduced(image, 8), description=about, **whole)
        small = reduced(image, 4)
        writer.write(tiles(small, tile), shape=small.shape, dtype="uint8", description=about, **tiled)
        writer.write(mark, description=f"{about}\r\nlabel 160x96", subfiletype=1, **whole)
        writer.write(mark, description=f"{about}\r\nmacro 160x96", subfiletype=9, **whole)


def write_ndpi(path: Path, image: Array, mpp: float = 0.5) -> None:
    """As Hamamatsu writes them: each level one JPEG with restart markers, whose places a private tag lists."""
    body, links = io.BytesIO(b"II*\0" + b"\0" * 8), [4]
    body.seek(12)
    for level, lens in ((image, 20.0), (reduced(image, 4), 5.0), (np.full((64, 128, 3), MARK, np.uint8), -1.0)):
        coded = io.BytesIO()
        # one restart interval is 8 blocks of 8 x 8 pixels
        Image.fromarray(level).save(coded, "JPEG", quality=95, subsampling=0, restart_marker_blocks=8)
        data = coded.getvalue()
        starts = [data.index(b"\xff\xda")]
        starts[0] += 2 + struct.unpack(">H", data[starts[0] + 2 : starts[0] + 4])[0]
        starts += [i + 2 for i in range(starts[0], len(data) - 2) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
        at = body.tell()
        body.write(data)
        more: list[int] = []
        pixels = round(1e6 * abs(lens) / 20 / mpp)  # a hundred centimetres
        for blob in (
            struct.pack("<HHH", 8, 8, 8),
            struct.pack(f"<{len(starts)}I", *starts),
            struct.pack("<II", pixels, 100),
            b"Hamamatsu\0",
        ):
            more.append(body.tell())
            body.write(blob)
        bits, mcu, resolution, maker = more
        (lens_bits,) = struct.unpack("<I", struct.pack("<f", lens))
        entries = [
            *(
                (256, 4, 1, level.shape[1]),
                (257, 4, 1, level.shape[0]),
                (258, 3, 3, bits),
                (259, 3, 1, 7),
                (262, 3, 1, 6),
            ),
            (271, 2, 10, maker),
            *((273, 4, 1, at), (277, 3, 1, 3), (278, 4, 1, level.shape[0]), (279, 4, 1, len(data))),
            *((282, 5, 1, resolution), (283, 5, 1, resolution), (284, 3, 1, 1), (296, 3, 1, 3)),
            *((65420, 4, 1, 1), (65421, 11, 1, lens_bits), (65426, 4, len(starts), mcu)),
        ]
        here = body.tell()
        body.write(struct.pack("<H", len(entries)))
        for entry in entries:
            body.write(struct.pack("<HHII", *entry))
        end = body.tell()
        body.write(b"\0" * 8)
        body.write(b"\0" * 4 * len(entries))  # the upper halves of offsets
        after = body.tell()
        body.seek(links[-1])
        body.write(struct.pack("<Q", here))
        links.append(end)
        body.seek(after)
    path.write_bytes(body.getvalue())


def write_dicom(
    folder: Path,
    image: Array,
    mpp: float = 0.5,
    *,
    patient: str = "Jane Doe 17",
    series: str = "1.2.3.4",
    sparse: bool = False,
    jpeg: bool = False,
    factors: tuple[int, ...] = (1, 4),
) -> list[Path]:
    """A file for each level and one for the label; sparse: without the frames that are all glass."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, factor in enumerate((*factors, 0)):
        level = reduced(image, factor) if factor > 1 else image if factor else np.full((128, 128, 3), MARK, np.uint8)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
        meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
        meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50" if jpeg else "1.2.840.10008.1.2.1"
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.SeriesInstanceUID, data.PatientID, data.Modality = series, patient, "SM"
        data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME" if factor else "LABEL", "NONE"]
        data.Rows = data.Columns = 128
        data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = level.shape[:2]
        data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit = 3, 8, 8, 7
        data.PixelRepresentation = data.PlanarConfiguration = 0
        data.PhotometricInterpretation = "YBR_FULL_422" if jpeg else "RGB"
        measures, groups = Dataset(), Dataset()
        measures.PixelSpacing = [mpp * max(factor, 1) / 1000] * 2
        groups.PixelMeasuresSequence = [measures]
        data.SharedFunctionalGroupsSequence = [groups]
        columns = -(-level.shape[1] // 128)
        frames = list(enumerate(tiles(level, 128)))
        if sparse:
            frames = [(place, frame) for place, frame in frames if frame.min() < 240][::-1]
            data.PerFrameFunctionalGroupsSequence = [_placed(place, columns) for place, _ in frames]
        data.DimensionOrganizationType = "TILED_SPARSE" if sparse else "TILED_FULL"
        data.NumberOfFrames = len(frames)
        if jpeg:
            data.PixelData = encapsulate([_jpeg(frame) for _, frame in frames])
        else:
            data.PixelData = b"".join(frame.tobytes() for _, frame in frames)
        data["PixelData"].VR = "OB"
        paths.append(folder / f"{number}.dcm")
        data.save_as(paths[-1], enforce_file_format=True)
    return paths


def _jpeg(frame: Array) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=95, subsampling=1)
    return out.getvalue()


def _placed(place: int, columns: int) -> Any:
    from pydicom.dataset import Dataset

    position, groups = Dataset(), Dataset()
    position.ColumnPositionInTotalImagePixelMatrix = place % columns * 128 + 1
    position.RowPositionInTotalImagePixelMatrix = place // columns * 128 + 1
    groups.PlanePositionSlideSequence = [position]
    return groups


@pytest.fixture
def draw() -> Callable[..., Array]:
    return picture


@pytest.fixture
def svs() -> Callable[..., None]:
    return write_svs


@pytest.fixture
def ndpi() -> Callable[..., None]:
    return write_ndpi


@pytest.fixture
def dicom_slide() -> Callable[..., list[Path]]:
    return write_dicom
