"""TIFF: values as tifffile reads them, and which pages are pictures."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from medcoss_cli.data.masks import read_mask
from medcoss_cli.errors import DataError
from medcoss_cli.kit import ImageFolder
from medcoss_cli.kit.readers import image, tiff
from medcoss_cli.plugin import Record, Skipped

GREY, COLOUR = ImageFolder(), ImageFolder(grey=False)
DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "f2", "f4", "f8")
CHANNELS = {"minisblack": 1, "miniswhite": 1, "la": 2, "rgb": 3, "rgba": 4, "separated": 4}
COMPRESSIONS = (None, "lzw", "zlib", "packbits", "zstd", "lzma")


def picture(dtype: str, channels: int = 1) -> np.ndarray[Any, Any]:
    """(40, 52, C), smooth enough for a predictor, in most of the type's range."""
    y, x = np.mgrid[:40, :52]
    levels = np.stack([(x * 3 + y * 5 + k * 37) % 200 for k in range(channels)], -1)
    if dtype[0] == "f":
        return (levels / 200).astype(dtype)
    if dtype == "i1":
        return (levels // 2 - 50).astype(dtype)
    return (levels * (1 if dtype == "u1" else 300)).astype(dtype)


def seen(path: Path, loader: ImageFolder = GREY) -> list[Any]:
    """Arrays, or the reason of each file that is left out."""
    return [item.reason if isinstance(item, Skipped) else loader.read(item).array for item in loader.find(path)]


def expected(array: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """The values (H, W, C) that a reader is to give, without alpha, white high, as RGB."""
    values = array.astype(float)
    top = 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max)
    if kind in ("la", "rgba"):
        return values[..., :-1]
    if kind == "miniswhite":
        return -1 - values if array.dtype.kind == "i" else top - values
    if kind == "separated":
        return (1 - values[..., :3] / top) * (1 - values[..., 3:] / top) * top
    return values


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_those_that_were_written(tmp_path: Path, dtype: str, kind: str) -> None:
    pytest.importorskip("imagecodecs")
    array, channels = picture(dtype, CHANNELS[kind]), CHANNELS[kind]
    if array.dtype.kind == "i" and kind in ("la", "rgba", "separated"):
        pytest.skip("no such thing")
    if kind in ("la", "rgba"):
        array[..., -1] = 1 if dtype[0] == "f" else np.iinfo(array.dtype).max
    for compression, tile, planar in itertools.product(COMPRESSIONS, (None, (16, 32)), ("contig", "separate")):
        if planar == "separate" and (channels == 1 or compression not in (None, "lzw")):
            continue
        predictor = compression in ("lzw", "zlib") and dtype not in ("f2", "i1", "u8")
        options: dict[str, Any] = {"photometric": {"la": "minisblack", "rgba": "rgb"}.get(kind, kind)}
        options |= {"extrasamples": ["unassalpha"]} if kind in ("la", "rgba") else {}
        options |= {"planarconfig": planar} if channels > 1 else {}
        data = np.moveaxis(array, -1, 0) if planar == "separate" else array if channels > 1 else array[..., 0]
        path = tmp_path / "a.tif"
        order = ">" if planar == "separate" else "<"
        tifffile.imwrite(
            path,
            data,
            metadata=None,
            compression=compression,
            tile=tile,
            predictor=predictor,
            byteorder=order,
            **options,
        )
        assert image.read_header(path).pages == 1
        got = np.moveaxis(image.read(path)[0].astype(float), 0, -1)
        want = expected(array, kind)
        tolerance = 1.0 if kind == "separated" and dtype[0] != "f" else 1e-6 * np.abs(want).max()
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= tolerance, (compression, tile, planar)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["u1", "u2", "f8"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_orientation_is_applied_once(tmp_path: Path, orientation: int, dtype: str, channels: int) -> None:
    """Pillow maps uncompressed files into memory, and then cuts the rows at the wrong length."""
    array = picture(dtype, channels)
    corners = {1: array, 2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1]}
    turned = {5: array, 6: array[::-1], 7: array[::-1, ::-1], 8: array[:, ::-1]}
    want = corners.get(orientation, turned.get(orientation, array))
    if orientation > 4:
        want = want.swapaxes(0, 1)
    for compression in (None, "zlib"):
        tifffile.imwrite(
            tmp_path / "a.tif",
            array if channels > 1 else array[..., 0],
            photometric="rgb" if channels > 1 else "minisblack",
            compression=compression,
            metadata=None,
            extratags=[(274, "H", 1, orientation, True)],
        )
        got, notes = image.read(tmp_path / "a.tif")
        assert np.array_equal(np.moveaxis(got, 0, -1), want)
        assert ("rotated by its EXIF orientation" in notes) == (orientation > 1)


def test_a_palette_mask_is_turned_like_its_image(tmp_path: Path) -> None:
    labels = (picture("u1")[..., 0] > 90).astype(np.uint8)
    mask = Image.fromarray(labels, "P")
    mask.putpalette([0, 0, 0, 200, 30, 30])
    mask.save(tmp_path / "mask.tif", tiffinfo={274: 6})
    assert np.array_equal(read_mask(tmp_path / "mask.tif", 2)[0], labels[::-1].T)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_bits(tmp_path: Path, bits: int) -> None:
    pytest.importorskip("imagecodecs")
    levels = (picture("u2")[..., 0] % 2**bits).astype(np.uint16)
    try:
        tifffile.imwrite(
            tmp_path / "a.tif", levels[:, :51], bitspersample=bits, photometric="minisblack", metadata=None
        )
    except NotImplementedError:
        pytest.skip("this imagecodecs does not pack bits")
    assert np.array_equal(image.read(tmp_path / "a.tif")[0][0], levels[:, :51])


def test_deep_colour_is_stretched_by_one_range(tmp_path: Path) -> None:
    """Of 12 bits in 16; Pillow keeps the high byte, 0 to 15."""
    colour = picture("u1", 3).astype(np.uint16) * 16
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    (array,) = seen(tmp_path / "a.tif", COLOUR)
    low, high = np.percentile(colour, (0.5, 99.5))
    want = np.clip((colour - low) * 255 / (high - low), 0, 255)
    assert np.moveaxis(array, 0, -1) == pytest.approx(want, abs=1e-3)


def test_large_integers_that_differ_by_little(tmp_path: Path) -> None:
    levels = picture("u4")[..., 0] // 300 + np.uint32(3 * 10**9)
    tifffile.imwrite(tmp_path / "a.tif", levels, photometric="minisblack")
    (array,) = seen(tmp_path / "a.tif")
    assert np.corrcoef(array.flatten(), levels.flatten())[0, 1] > 0.9999


def test_premultiplied_colours_are_divided_by_alpha(tmp_path: Path) -> None:
    colour, alpha = picture("u2", 3), np.full((40, 52, 1), 65535, np.uint16)
    alpha[:20] = 32768
    stored = np.concatenate([np.rint(colour * (alpha / 65535)).astype(np.uint16), alpha], -1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    got, notes = image.read(tmp_path / "a.tif")
    assert np.abs(np.moveaxis(got.astype(int), 0, -1) - colour).max() <= 1
    assert notes == ("alpha channel dropped",)


def test_thumbnails_are_no_pages(tmp_path: Path) -> None:
    pages = [np.roll(picture("u1")[..., 0], n, 0) for n in range(3)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page, kind in zip(pages, (0, 1, 0), strict=True):
            file.write(page[:: 1 + kind], photometric="minisblack", subfiletype=kind, metadata=None)
    assert [array.tolist() for array in seen(tmp_path / "a.tif")] == [[page.tolist()] for page in (pages[0], pages[2])]


@pytest.mark.parametrize("bigger", ["none", "tags"])
def test_a_stack_of_imagej_with_the_tags_of_its_first_image_alone(tmp_path: Path, bigger: str) -> None:
    stack = np.stack([np.roll(picture("u2")[..., 0], 7 * n, 1) for n in range(6)])
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, imagej=True) as file:
        if bigger == "none":
            file.write(stack, contiguous=True, truncate=True)
        else:
            file.write(stack)
    records = [item for item in GREY.find(path) if isinstance(item, Record)]
    assert [record.part for record in records] == [("page", n) for n in range(6)]
    assert all(np.array_equal(image.read(path, n)[0][0], stack[n]) for n in range(6))
    if bigger == "none":
        path.write_bytes(path.read_bytes()[: stack[0].nbytes * 2])
        assert seen(path)[0] in ("an ImageJ stack of 6 images, of which the file holds one", tiff.DAMAGED)


def slide(path: Path, how: str) -> None:
    big = np.tile(picture("u1", 3), (4, 4, 1))
    options: dict[str, Any] = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        if how == "aperio":
            options["description"] = "Aperio Image Library v11.2.1\n208x160 |AppMag = 20|MPP = 0.499"
            file.write(big, tile=(32, 32), **options)
            file.write(big[::4, ::4].copy(), **options)
            file.write(big[:96, :96].copy(), subfiletype=1, **options)  # the label
        elif how == "levels below a page":
            file.write(big, tile=(32, 32), subifds=1, **options)
            file.write(big[::2, ::2].copy(), tile=(32, 32), subfiletype=1, **options)
        elif how == "levels":
            for step in (1, 2, 4):
                file.write(big[::step, ::step].copy(), tile=(32, 32), subfiletype=int(step > 1), **options)
        elif how == "unmarked levels":
            for step in (1, 4):
                file.write(big[::step, ::step].copy(), tile=(16, 16), **options)


@pytest.mark.parametrize("how", ["aperio", "levels below a page", "levels", "unmarked levels"])
def test_a_slide_is_left_out_whole_whatever_its_name(tmp_path: Path, how: str) -> None:
    slide(tmp_path / "a.tif", how)
    for loader in (GREY, COLOUR):
        (item,) = loader.find(tmp_path / "a.tif")
        assert isinstance(item, Skipped)
        assert (item.reason, item.bad) == (tiff.SLIDE, False)
    with pytest.raises(DataError, match="pip install medcoss-slides"):
        image.read(tmp_path / "a.tif", 2)


def test_pages_of_tiles_of_one_size_are_no_slide(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([picture("u2")[..., 0]] * 3), tile=(16, 16), photometric="minisblack")
    assert len(seen(tmp_path / "a.tif")) == 3


def test_kinds_that_are_not_read_say_so(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    colour, path = picture("u1", 3), tmp_path / "a.tif"
    for reason, array, options in (
        ("a TIFF of 3 x 8 bits compressed as JPEG 2000, which is not read", colour, {"compression": "jpeg2000"}),
        (
            "5 channels where 1 are expected",
            np.concatenate([colour, colour[..., :2]], -1),
            {"photometric": "minisblack"},
        ),
        ("a TIFF of kind 8 (CIELab), which is not read", colour, {"photometric": "cielab"}),
        (
            "a TIFF of 16 bits compressed as JPEG 2000, which is not read",
            colour.astype("u2"),
            {"compression": "jpeg2000"},
        ),
    ):
        tifffile.imwrite(path, array, **{"photometric": "rgb", "planarconfig": "contig", "metadata": None, **options})
        assert seen(path, COLOUR) == [reason]


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "lzma"])
def test_deep_pages_that_are_cut_off_are_refused(tmp_path: Path, compression: str | None) -> None:
    pytest.importorskip("imagecodecs")
    path = tmp_path / "a.tif"
    noise = np.random.default_rng(0).integers(0, 65535, (64, 64, 3)).astype(np.uint16)
    tifffile.imwrite(path, noise, photometric="rgb", compression=compression, metadata=None)
    data = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError):
            image.read(path)


def test_pages_that_name_one_another(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture("u1")[..., 0], photometric="minisblack", metadata=None)
    data = bytearray(path.read_bytes())
    first = int.from_bytes(data[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[end : end + 4] = data[4:8]
    path.write_bytes(bytes(data))
    assert "whose pages name one another" in seen(path)[0]


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("big", [False, True])
def test_pages_are_walked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, big: bool) -> None:
    """Each page is read by itself; to walk past all before it would take the square of their number."""
    frames = np.random.default_rng(0).integers(0, 250, (60, 16, 16)).astype(dtype)
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=big) as file:
        for frame in frames:
            file.write(frame, compression="zlib" if dtype == "u1" else None, photometric="minisblack")
    loads = 0
    load = tiff.TiffImagePlugin.ImageFileDirectory_v2.load

    def counted(self: Any, file: Any) -> None:
        nonlocal loads
        loads += 1
        load(self, file)

    monkeypatch.setattr(tiff.TiffImagePlugin.ImageFileDirectory_v2, "load", counted)
    assert [image.read(tmp_path / "a.tif", n)[0][0].tolist() for n in range(60)] == frames.tolist()
    assert loads < 6 * 60
