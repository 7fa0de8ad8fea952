"""PNG, JPEG, TIFF and BMP through the loader."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medcoss_cli.data.read import read_checked
from medcoss_cli.errors import DataError
from medcoss_cli.kit import ImageFolder
from medcoss_cli.kit.readers import image
from medcoss_cli.plugin import Record, Sample, Skipped
from medcoss_cli.registry.discovery import load_modality

GREY, COLOUR = ImageFolder(), ImageFolder(grey=False)
RAMP = np.arange(16 * 20, dtype=np.uint16).reshape(16, 20)
RGB = np.stack([RAMP % 256, 255 - RAMP % 256, RAMP * 7 % 256], -1).astype(np.uint8)


def only(path: Path, loader: ImageFolder = GREY) -> Sample:
    (item,) = loader.find(path)
    assert isinstance(item, Record), item
    return loader.read(item)


def left(path: Path, loader: ImageFolder = GREY) -> Skipped:
    (item,) = loader.find(path)
    assert isinstance(item, Skipped), item
    return item


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_eight_bits_go_through_unchanged(tmp_path: Path, ending: str) -> None:
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / f"a.{ending}")
    sample = only(tmp_path / f"a.{ending}")
    assert sample.array.dtype == np.uint8
    assert np.array_equal(sample.array[0], RAMP.astype(np.uint8))
    assert sample.spacing is None
    Image.fromarray(RGB).save(tmp_path / f"c.{ending}")
    assert np.array_equal(only(tmp_path / f"c.{ending}", COLOUR).array, np.moveaxis(RGB, -1, 0))


def test_sixteen_bits_are_stretched_and_do_not_wrap(tmp_path: Path) -> None:
    for ending in ("png", "tif"):
        Image.fromarray(RAMP * 200).save(tmp_path / f"a.{ending}")
        array = only(tmp_path / f"a.{ending}").array
        assert (array.min(), array.max()) == (0, 255)
        assert (np.diff(array.flatten()) >= 0).all()  # rising, as the stored levels are
        assert array.dtype == np.float32


def test_content_decides_whatever_the_name(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a b.txt")
    assert only(tmp_path / "a b.txt").array.shape == (1, 16, 20)
    (tmp_path / "page.jpg").write_text("<!DOCTYPE html><html>not found</html>")
    assert left(tmp_path / "page.jpg").reason == "a web page where an image is expected"


def test_palette_cmyk_bilevel_and_alpha(tmp_path: Path) -> None:
    colour = Image.fromarray(RGB)
    colour.quantize(64).save(tmp_path / "p.png")
    assert np.abs(only(tmp_path / "p.png", COLOUR).array.astype(int) - np.moveaxis(RGB, -1, 0)).mean() < 40
    colour.convert("CMYK").save(tmp_path / "c.jpg", quality=100)
    sample = only(tmp_path / "c.jpg", COLOUR)
    assert sample.array.shape == (3, 16, 20)
    assert "CMYK" in sample.notes[0]
    Image.fromarray(RAMP > 100).save(tmp_path / "b.png")
    assert sorted(np.unique(only(tmp_path / "b.png").array)) == [0, 255]
    clear = Image.fromarray(RGB).convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "a.png")
    sample = only(tmp_path / "a.png", COLOUR)
    assert np.array_equal(sample.array, np.moveaxis(RGB, -1, 0))  # dropped, not blended
    assert sample.notes == ("alpha channel dropped",)


def test_a_grey_palette_is_grey_levels_and_not_indices(tmp_path: Path) -> None:
    picture = Image.fromarray((RAMP % 2).astype(np.uint8), "P")
    picture.putpalette([200, 200, 200, 10, 10, 10])
    picture.save(tmp_path / "a.png")
    assert only(tmp_path / "a.png").array[0, 0, :2].tolist() == [200, 10]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    sample = only(tmp_path / "a.jpg")
    assert sample.array.shape == (1, 20, 16)
    assert "EXIF" in sample.notes[0]


def test_every_page_of_a_tiff_is_an_image(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 9), n, np.uint8)) for n in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    records = [item for item in GREY.find(tmp_path) if isinstance(item, Record)]
    assert [record.part for record in records] == [("page", 0), ("page", 1), ("page", 2)]
    assert [int(GREY.read(record).array.max()) for record in records] == [0, 1, 2]


def test_grey_stored_as_colour_is_read_as_grey_and_refused_as_colour(tmp_path: Path) -> None:
    grey = np.repeat(RAMP.astype(np.uint8)[..., None], 3, -1)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(only(tmp_path / "a.png").array[0], RAMP.astype(np.uint8))
    with pytest.raises(DataError, match="a grey image where colour is expected"):
        only(tmp_path / "a.png", COLOUR)
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "b.png")
    assert left(tmp_path / "b.png", COLOUR).reason == "a grey image where colour is expected"
    Image.fromarray(RGB).save(tmp_path / "c.png")
    with pytest.raises(DataError, match="a colour image where grey is expected"):
        only(tmp_path / "c.png")


@pytest.mark.parametrize(("size", "word"), [((1, 1), "few"), ((2400, 16), "narrow")])
def test_sizes_that_are_no_image(tmp_path: Path, size: tuple[int, int], word: str) -> None:
    Image.new("L", size).save(tmp_path / "a.png")
    assert word in left(tmp_path / "a.png").reason
    assert left(tmp_path / "a.png").bad


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (14_000, 2_000_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
        assert "than the limit" in left(tmp_path / "a.png").reason


def png(path: Path, array: np.ndarray[Any, Any], kind: int, interlaced: bool) -> None:
    """(H, W, C) uint16 as a PNG of 16 bits."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    parts = [array[a::b, c::d] for a, b, c, d in passes] if interlaced else [array]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for part in parts for row in part)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, kind, 0, 0, int(interlaced))
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_a_png_are_all_read(tmp_path: Path, kind: int, channels: int, interlaced: bool) -> None:
    """Pillow keeps 8 of them where there is colour or alpha."""
    levels = np.random.default_rng(0).integers(0, 4096, (20, 24, channels)).astype(np.uint16)
    png(tmp_path / "a.png", levels, kind, interlaced)
    array, notes = image.read(tmp_path / "a.png")
    colours = 3 if channels > 2 else 1
    assert array.dtype == np.uint16
    assert np.array_equal(np.moveaxis(array, 0, -1), levels[..., :colours])
    assert notes == (("alpha channel dropped",) if channels in (2, 4) else ())
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError):
        image.read(tmp_path / "a.png")


def bitmap(
    path: Path, bits: int, rows: list[bytes], palette: bytes = b"", down: bool = False, masks: bytes = b""
) -> None:
    """A BMP of 24 x 20 pixels; `down`: its first row is the upper one."""
    padded = [row + bytes(-len(row) % 4) for row in (rows if down else rows[::-1])]
    start = 54 + len(masks) + len(palette)
    sizes = struct.pack("<IiiHHIIiiII", 40, 24, -20 if down else 20, 1, bits, 3 if masks else 0, 0, 0, 0, 0, 0)
    head = b"BM" + struct.pack("<IHHI", start + sum(map(len, padded)), 0, 0, start)
    path.write_bytes(head + sizes + masks + palette + b"".join(padded))


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("kind", ["1", "4", "8", "16", "24", "32", "32 without alpha", "masks"])
def test_bitmaps_of_every_kind(tmp_path: Path, kind: str, down: bool) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (20, 24, 4)).astype(np.uint8)
    colour, grey = levels[..., :3], levels[..., 0]
    bits, palette, masks, tolerance = int(kind.split()[0]) if kind[0].isdigit() else 32, b"", b"", 0
    expected: Any = colour
    if bits < 16:
        top = 2**bits - 1
        index = grey >> (8 - bits)
        palette = b"".join(bytes([255 - level * 255 // top] * 3 + [0]) for level in range(top + 1))  # white first
        single = np.unpackbits(index[..., None], axis=-1)[..., 8 - bits :].reshape(20, -1)
        rows = [np.packbits(row).tobytes() for row in single]
        expected = (255 - index.astype(int) * 255 // top)[..., None]
    elif bits == 16:
        five = colour.astype(np.uint16) >> 3
        packed = five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]
        rows, tolerance = [row.astype("<u2").tobytes() for row in packed], 8
    else:
        last = [] if bits == 24 else [levels[..., 3:] * (kind != "32 without alpha")]
        rows = [row.tobytes() for row in np.concatenate([colour[..., ::-1], *last], -1)]
        masks = struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF) if kind == "masks" else b""
    bitmap(tmp_path / "a.bmp", bits, rows, palette, down, masks)
    array, _ = image.read(tmp_path / "a.bmp")
    assert array.dtype == np.uint8
    assert np.abs(np.moveaxis(array, 0, -1).astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}, {"restart_marker_rows": 1}])
def test_jpegs_are_those_of_imagecodecs(tmp_path: Path, colour: bool, options: dict[str, Any]) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    Image.fromarray(RGB if colour else RGB[..., 0]).save(tmp_path / "a.jpg", quality=90, **options)
    array, _ = image.read(tmp_path / "a.jpg")
    other = np.atleast_3d(imagecodecs.jpeg8_decode((tmp_path / "a.jpg").read_bytes()))
    assert np.abs(np.moveaxis(array, 0, -1).astype(int) - other).max() <= 2


def test_a_bitmap_is_known_by_its_second_header(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[6:10] = b"PHOT"  # reserved bytes, in which some programs sign
    (tmp_path / "a.bmp").write_bytes(bytes(data))
    assert np.array_equal(only(tmp_path / "a.bmp").array[0], RAMP.astype(np.uint8))
    (tmp_path / "a.bmp").write_text("BMI of 24, no acute finding in the chest.\n")
    assert left(tmp_path / "a.bmp").reason == "text where an image is expected"


def test_jpegs_of_other_kinds_say_so(tmp_path: Path) -> None:
    for frame, reason in ((b"\xff\xc1\0\x0b\x0c", "a JPEG of 12 bits"), (b"\xff\xf7\0\x0b\x08", "a JPEG-LS")):
        (tmp_path / "a.jpg").write_bytes(b"\xff\xd8" + frame + b"\0\x10\0\x10\1\1\x11\0" + bytes(40))
        assert left(tmp_path / "a.jpg").reason == f"{reason}, which is not read outside DICOM"


WHOLE: dict[str, bytes] = {}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.9), kind=st.sampled_from(["png", "jpg", "tif", "bmp"]), damage=st.binary(max_size=4))
def test_cut_or_damaged_files_are_refused_or_read_and_nothing_else(
    tmp_path: Path, share: float, kind: str, damage: bytes
) -> None:
    if kind not in WHOLE:
        noise: Any = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"whole.{kind}")
        WHOLE[kind] = (tmp_path / f"whole.{kind}").read_bytes()
    at = int(len(WHOLE[kind]) * share)
    path = tmp_path / "cut"
    path.write_bytes(WHOLE[kind][:at] + damage + (WHOLE[kind][at + len(damage) :] if damage else b""))
    for item in GREY.find(path):
        if isinstance(item, Skipped):
            assert item.reason
            continue
        try:
            sample = GREY.read(item)
        except DataError as error:
            assert error.what  # noqa: PT017 - a damaged file may be readable or not
        else:
            assert sample.array.size
            assert damage, "a cut file was read"


@pytest.mark.parametrize(("kind", "top"), [(np.uint8, 250), (np.uint16, 60000), (np.float32, 1.0), (np.float64, 4e6)])
def test_grey_and_colour_are_told_apart_at_any_depth(tmp_path: Path, kind: Any, top: float) -> None:
    rng = np.random.default_rng(0)
    colour = (rng.random((3, 40, 40)) * top).astype(kind)
    grey = np.repeat(colour[:1], 3, axis=0)
    assert np.array_equal(image.as_colour(colour, tmp_path), colour)
    with pytest.raises(DataError, match="a colour image"):
        image.as_grey(colour, tmp_path)
    with pytest.raises(DataError, match="a grey image"):
        image.as_colour(grey, tmp_path)
    assert np.allclose(image.as_grey(grey, tmp_path), grey[:1], rtol=1e-6)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_say_nothing_of_colour_and_are_noted(tmp_path: Path, hole: float) -> None:
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.random((1, 40, 40)).astype(np.float32), 3, axis=0)
    grey[:, :4] = hole
    eight = image.as_eight_bits(image.as_grey(grey, tmp_path))
    assert np.isnan(eight[:, :4]).all()
    assert np.isfinite(eight[:, 4:]).all()
    with pytest.raises(DataError, match="a grey image"):
        image.as_colour(grey, tmp_path)
    Image.fromarray(grey[0]).save(tmp_path / "a.tif")
    sample = read_checked(load_modality("xray"), Record(tmp_path / "a.tif"))
    assert sample.notes == ("NaN or infinite values (10.00%) were replaced by the smallest finite value",)
    assert sample.array.min() == sample.array[0, 0, 0]


def test_a_jpeg_of_many_scans_is_refused_from_its_bytes(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(
        tmp_path / "a.jpg", progressive=True
    )
    assert image.read(tmp_path / "a.jpg")[0].shape == (1, 64, 64)
    data = (tmp_path / "a.jpg").read_bytes()
    last = data.rindex(b"\xff\xda")
    (tmp_path / "b.jpg").write_bytes(data[:last] + data[last:-2] * 200 + data[-2:])
    with pytest.raises(DataError, match=r"a JPEG of 2\d\d scans, more than the limit of 100"):
        image.read(tmp_path / "b.jpg")
    with pytest.raises(DataError, match="9000 x 9000 pixels are more than the limit of 67,108,864"):
        image.check_size(9000, 9000, tmp_path)


def test_a_reason_is_the_same_in_each_run(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert "0x" not in str(list(ImageFolder().find(tmp_path)))
    assert " at 0x" not in DataError("cannot identify <BytesIO object at 0x7f00aa>").what
