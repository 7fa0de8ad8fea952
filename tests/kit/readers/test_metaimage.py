"""MetaImage: values and places as SimpleITK reads them, and what its header may name."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medcoss_cli.kit import VolumeFolder
from medcoss_cli.kit.readers import nifti
from medcoss_cli.plugin import Record, Skipped

LOADER = VolumeFolder(window=64, stride=64, spacing=None)
VALUES = np.random.default_rng(0).integers(0, 100, (5, 6, 7))
TYPES = {
    "i1": "CHAR", "u1": "UCHAR", "i2": "SHORT", "u2": "USHORT", "i4": "INT", "u4": "UINT", "i8": "LONG_LONG",
    "u8": "ULONG_LONG", "f4": "FLOAT", "f8": "DOUBLE",
}  # fmt: skip
PLACE = "TransformMatrix = 0.8 0.6 0 -0.6 0.8 0 0 0 1\nOffset = 4 -5 6\nElementSpacing = 1 2 3\n"


def write(path: Path, dtype: str = "<i2", place: str = PLACE, data: str = "LOCAL", compressed: bool = False) -> Path:
    raw = VALUES.astype(dtype).tobytes()
    raw = zlib.compress(raw) if compressed else raw
    head = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = {dtype[0] == '>'}\n"
        f"CompressedData = {compressed}\nCompressedDataSize = {len(raw)}\n"
        f"DimSize = 7 6 5\n{place}ElementType = MET_{TYPES[dtype[1:]]}\n"
    )
    path.write_bytes(f"{head}ElementDataFile = {data}\n".encode() + (raw if data == "LOCAL" else b""))
    return path


def left(path: Path) -> Skipped:
    (item,) = LOADER.find(path)
    assert isinstance(item, Skipped), item
    return item


def same(path: Path) -> None:
    array, grid = nifti.read(path)
    other = sitk.ReadImage(str(path))
    assert np.array_equal(array, sitk.GetArrayFromImage(other))
    for name, value in (("Spacing", grid.spacing), ("Origin", grid.origin), ("Direction", grid.direction)):
        assert value == pytest.approx(getattr(other, f"Get{name}")()), name


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", TYPES)
def test_voxels_and_place_are_those_of_simpleitk(tmp_path: Path, dtype: str, order: str, compressed: bool) -> None:
    same(write(tmp_path / "a.mha", order + dtype, compressed=compressed))


@pytest.mark.parametrize(
    "place",
    [
        "",
        "ElementSpacing = 1 2 3\n",
        "ElementSize = 1 2 3\n",
        "ElementSize = 4 5 6\nElementSpacing = 1 2 3\n",
        "Position = 4 -5 6\nOrientation = 0 1 0 1 0 0 0 0 1\n",
        "Origin = 4 -5 6\nRotation = 0 1 0 0 0 1 1 0 0\n",
        PLACE.replace(" = ", ": "),
        PLACE + "AnatomicalOrientation = LPI\nCenterOfRotation = 1 2 3\nModality = MET_MOD_CT\n",
    ],
)
def test_places_as_headers_write_them(tmp_path: Path, place: str) -> None:
    same(write(tmp_path / "a.mha", place=place))


def test_the_size_of_compressed_data_need_not_be_given(tmp_path: Path) -> None:
    """SimpleITK then gives values that were never written."""
    path = write(tmp_path / "a.mha", compressed=True)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(line for line in lines if not line.startswith(b"CompressedDataSize")))
    assert np.array_equal(nifti.read(path)[0], VALUES)


@pytest.mark.parametrize("writer", ["a.mha", "a.mhd"])
def test_what_simpleitk_writes(tmp_path: Path, writer: str) -> None:
    image = sitk.GetImageFromArray(VALUES.astype(np.float32))
    image.SetSpacing((1, 2, 3))
    sitk.WriteImage(image, str(tmp_path / writer), True)
    same(tmp_path / writer)


def test_voxels_beside_the_header(tmp_path: Path) -> None:
    raw = VALUES.astype("<i2")
    (tmp_path / "my data.raw").write_bytes(raw.tobytes())
    path = write(tmp_path / "a.mhd", data="my data.raw")
    same(path)
    (record,) = (item for item in LOADER.find(path) if isinstance(item, Record))
    assert record.files == (tmp_path / "my data.raw",)
    (tmp_path / "slices").mkdir()
    for n, plane in enumerate(raw):
        (tmp_path / f"slices/{n}.raw").write_bytes(plane.tobytes())
    same(write(tmp_path / "b.mhd", data="LIST\n" + "\n".join(f"slices/{n}.raw" for n in range(5))))
    (tmp_path / "head.raw").write_bytes(bytes(77) + raw.tobytes())
    same(write(tmp_path / "c.mhd", place="HeaderSize = 77\n", data="head.raw"))
    same(write(tmp_path / "d.mhd", place="HeaderSize = -1\n", data="head.raw"))


@pytest.mark.parametrize("pad", [0, 1200])
@pytest.mark.parametrize(
    "target",
    [
        "/etc/hostname",
        "../secret.raw",
        "LIST\n../secret.raw",
        "LIST 3D\n../secret.raw",
        "x/../../secret.raw",
        "%03d.raw 1 3 1",
    ],
)
@pytest.mark.parametrize("sign", ["=", ":"])
def test_a_header_cannot_name_voxels_elsewhere(tmp_path: Path, target: str, pad: int, sign: str) -> None:
    """Also where the name stands behind the first 64 KiB, and after a colon."""
    (tmp_path / "secret.raw").write_bytes(VALUES.astype("<i2").tobytes())
    (tmp_path / "data").mkdir()
    path = write(tmp_path / "data" / "a.mhd", data=target, place="".join(f"Comment = {'x' * 60}\n" for _ in range(pad)))
    path.write_bytes(path.read_bytes().replace(b"ElementDataFile =", f"ElementDataFile {sign}".encode()))
    assert ("a pattern" if "%" in target else "another folder") in left(path).reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("DimSize = 7 6 5", "DimSize = 500 500 500"), "the file is truncated"),
        (("DimSize = 7 6 5", "DimSize = 7 6"), "number of axes"),
        (("DimSize = 7 6 5", "DimSize = 7 1 30"), "an image (2D)"),
        (("MET_SHORT", "MET_SHORT_ARRAY"), "are not read"),
        (("Offset = 4 -5 6", "Offset = 4"), "damaged"),
        (("0.8 0.6 0 -0.6", "0.8 0.6 0 -0.5"), "not at right angles"),
        (("ElementType", "ElementNumberOfChannels = 3\nElementType"), "several values a voxel"),
    ],
)
def test_what_a_header_cannot_say(tmp_path: Path, change: Any, reason: str) -> None:
    path = write(tmp_path / "a.mha")
    path.write_bytes(path.read_bytes().replace(*(part.encode() for part in change), 1))
    assert reason in left(path).reason


def test_a_header_size_counts_from_the_beginning_of_the_file(tmp_path: Path) -> None:
    """Also where the voxels follow the header, which it counts in: as ITK reads it."""
    path = write(tmp_path / "a.mha", place="HeaderSize = 400\n")
    head, end = path.read_bytes().split(b"LOCAL\n")[0] + b"LOCAL\n", VALUES.astype("<i2").tobytes()
    path.write_bytes(head + bytes(400 - len(head)) + end)
    same(path)
    assert np.array_equal(nifti.read(path)[0], VALUES)
    assert "position of the voxels" in left(write(tmp_path / "b.mha", place="HeaderSize = 20\n")).reason


def test_a_spacing_below_0_turns_its_axis(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mha", place="Offset = 4 -5 6\nElementSpacing = 1 2 -3\n")
    same(path)
    assert nifti.read_header(path).notes == ("a voxel spacing below 0: the axis is taken as reversed",)
    for steps in ("1 2 0", "1 2 nan"):
        assert "cannot be" in left(write(tmp_path / "b.mha", place=f"ElementSpacing = {steps}\n")).reason


@pytest.mark.parametrize(
    "target", ["C:\\x.raw", "LIST\nx.raw\n/etc/hostname", "sub/../x.raw", "sub\\..\\x.raw", "./sub/../../x"]
)
def test_names_that_could_leave_the_folder_are_refused_however_written(tmp_path: Path, target: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "x.raw").write_bytes(VALUES.astype("<i2").tobytes())
    assert "another folder" in left(write(tmp_path / "a.mhd", data=target)).reason


def test_a_link_that_leaves_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(VALUES.astype("<i2").tobytes())
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "x.raw").symlink_to(tmp_path / "secret.raw")
    (folder / "sub").symlink_to(tmp_path)
    for target in ("x.raw", "sub/secret.raw", "LIST\nx.raw"):
        assert "through a link" in left(write(folder / "a.mhd", data=target)).reason
    (folder / "y.raw").write_bytes(VALUES.astype("<i2").tobytes())
    (folder / "z.raw").symlink_to(folder / "y.raw")
    same(write(folder / "b.mhd", data="z.raw"))
    (tmp_path / "elsewhere.mhd").symlink_to(folder / "b.mhd")  # a set laid out by links
    (tmp_path / "z.raw").symlink_to(folder / "y.raw")
    same(tmp_path / "elsewhere.mhd")
