"""NRRD: values and places as SimpleITK reads them, and what its header may name."""

from __future__ import annotations

import bz2
import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from packaging.version import Version

from medcoss_cli.errors import DataError
from medcoss_cli.kit import VolumeFolder
from medcoss_cli.kit.readers import nifti
from medcoss_cli.kit.readers.volume import FileGrid
from medcoss_cli.plugin import Record, Skipped

LOADER = VolumeFolder(window=64, stride=64, spacing=None)
VALUES = np.random.default_rng(0).integers(0, 100, (5, 6, 7))
TYPES = {
    "i1": "signed char", "u1": "uchar", "i2": "short", "u2": "unsigned short int", "i4": "int", "u4": "uint32_t",
    "i8": "longlong", "u8": "uint64", "f4": "float", "f8": "double",
}  # fmt: skip
ENCODERS = {
    "raw": lambda raw: raw,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "ascii": None,
    "hex": lambda raw: raw.hex().encode(),
}
TURN = "space directions: (0.8,0.6,0) (-1.2,1.6,0) (0,0,3)\nspace origin: (4,-5,6)\n"


def write(
    path: Path, dtype: str = "<i2", encoding: str = "raw", place: str = "space: LPS\n" + TURN, more: str = ""
) -> Path:
    array = VALUES.astype(dtype)
    encode: Any = ENCODERS[encoding]
    data = " ".join(map(str, array.flatten())).encode() if encode is None else encode(array.tobytes())
    endian = "big" if dtype[0] == ">" else "little"
    head = f"NRRD0004\n# made\ntype: {TYPES[dtype[1:]]}\ndimension: 3\nsizes: 7 6 5\n{place}endian: {endian}\n"
    path.write_bytes(f"{head}encoding: {encoding}\n{more}\n".encode() + data)
    return path


def left(path: Path) -> Skipped:
    (item,) = LOADER.find(path)
    assert isinstance(item, Skipped), item
    return item


def same(path: Path) -> FileGrid:
    array, grid = nifti.read(path)
    other = sitk.ReadImage(str(path))
    theirs = sitk.GetArrayFromImage(other)
    assert np.array_equal(array, theirs if theirs.dtype.itemsize <= 2 else theirs.astype(np.float32))
    if theirs.dtype.itemsize <= 2:  # wider ones are held as float32, or as int16 where that is the same
        assert array.dtype.kind == theirs.dtype.kind
    assert grid.spacing == pytest.approx(other.GetSpacing())
    if grid.direction is not None:
        assert grid.origin == pytest.approx(other.GetOrigin())
        assert grid.direction == pytest.approx(other.GetDirection())
    return grid


@pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii", "hex"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", TYPES)
def test_voxels_are_those_of_simpleitk(tmp_path: Path, dtype: str, order: str, encoding: str) -> None:
    if encoding == "ascii" and dtype in ("i1", "u1"):
        pytest.skip("SimpleITK reads single characters")
    same(write(tmp_path / "a.nrrd", order + dtype, encoding))


SPACES = (
    "left-posterior-superior", "right-anterior-superior", "left-anterior-superior", "LPS", "RAS", "LAS",
    "scanner-xyz", "3D-right-handed",
)  # fmt: skip


@pytest.mark.parametrize("space", SPACES)
def test_the_place_is_that_of_simpleitk(tmp_path: Path, space: str) -> None:
    if space in ("left-anterior-superior", "LAS") and Version(sitk.__version__) < Version("2.5"):
        pytest.skip("this SimpleITK takes it for LPS")
    assert same(write(tmp_path / "a.nrrd", place=f"space: {space}\n" + TURN)).direction is not None


def test_bzip2_and_several_members_are_read(tmp_path: Path) -> None:
    array, _ = nifti.read(write(tmp_path / "a.nrrd", encoding="bzip2"))
    assert np.array_equal(array, VALUES)
    half = VALUES.astype("<i2").tobytes()
    path = write(tmp_path / "b.nrrd", encoding="gzip")
    head = path.read_bytes().split(b"\n\n")[0] + b"\n\n"
    path.write_bytes(head + gzip.compress(half[:100]) + gzip.compress(half[100:]))
    assert np.array_equal(nifti.read(path)[0], VALUES)


def test_without_a_space_only_the_spacing_is_known(tmp_path: Path) -> None:
    grid = same(write(tmp_path / "a.nrrd", place="spacings: 1 2 3\n"))
    assert (grid.spacing, grid.direction) == ((1, 2, 3), None)


@pytest.mark.parametrize("name", ["voxels.raw", "CT head 1.raw", "sub/voxels.raw"])
def test_voxels_beside_the_header(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / name).write_bytes(b"line\nxx" + VALUES.astype("<i2").tobytes())
    path = write(tmp_path / "a.nhdr", more=f"line skip: 1\nbyte skip: 2\ndata file: {name}\n")
    (record,) = (item for item in LOADER.find(path) if isinstance(item, Record))
    assert record.files == (tmp_path / name,)
    assert np.array_equal(nifti.read(path)[0], VALUES)
    path = write(tmp_path / "b.nhdr", more=f"byte skip: -1\ndatafile: {name}\n")
    assert np.array_equal(nifti.read(path)[0], VALUES)


def test_a_list_of_files(tmp_path: Path) -> None:
    for n, plane in enumerate(VALUES.astype("<i2")):
        (tmp_path / f"{n}.gz").write_bytes(gzip.compress(plane.tobytes()))
    names = "\n".join(f"{n}.gz" for n in range(5))
    path = write(tmp_path / "a.nhdr", more="")
    head = path.read_text(encoding="latin-1").split("encoding")[0]
    path.write_text(f"{head}encoding: gz\ndata file: LIST\n{names}\n")
    assert np.array_equal(nifti.read(path)[0], VALUES)


@pytest.mark.parametrize("pad", [0, 70_000])
@pytest.mark.parametrize(
    "target",
    [
        "/etc/hostname",
        "../secret.raw",
        "sub/../../secret.raw",
        "..\\secret.raw",
        "LIST\n../secret.raw",
        "%03d.raw 1 3 1",
    ],
)
def test_a_header_cannot_name_voxels_elsewhere(tmp_path: Path, target: str, pad: int) -> None:
    """Also where the name stands behind the first 64 KiB."""
    (tmp_path / "secret.raw").write_bytes(VALUES.astype("<i2").tobytes())
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    comment = "".join(f"# {'x' * 60}\n" for _ in range(pad // 60))
    write(folder / "a.nhdr", more=f"{comment}data file: {target}\n")
    item = left(folder / "a.nhdr")
    assert ("a pattern" if "%" in target else "another folder") in item.reason
    assert item.bad


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nhdr", more="# x\n" * 300_000 + "data file: ../secret.raw\n")
    assert left(path).reason == "the header is longer than 1,048,576 bytes"


def test_a_segmentation_of_slicer_is_no_image(tmp_path: Path) -> None:
    segment = "Segment0_ID:=Segment_1\nSegment0_LabelValue:=1\n"
    for name, more in (("a.seg.nrrd", segment), ("b.nrrd", segment)):
        item = left(write(tmp_path / name, more=more))
        assert (item.reason, item.bad) == ("a label map (a mask) where a volume is expected", False)
    path = tmp_path / "layers.seg.nrrd"
    head = "NRRD0004\ntype: uchar\ndimension: 4\nsizes: 2 7 6 5\nspace: LPS\nspace directions: none (1,0,0) (0,1,0) (0,0,1)\n"
    path.write_bytes(f"{head}kinds: list domain domain domain\nencoding: raw\n{segment}\n".encode() + bytes(420))
    assert (left(path).reason, left(path).bad) == ("a label map (a mask) where a volume is expected", False)
    assert nifti.read(tmp_path / "b.nrrd")[0].max() == VALUES.max()  # as a mask it is read


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("sizes: 7 6 5", "sizes: 500 500 500"), "the file is truncated"),
        (("sizes: 7 6 5", "sizes: 7 6"), "number of axes"),
        (("sizes: 7 6 5", "sizes: 7 30 1"), "an image (2D)"),
        (("type: short", "type: block"), "type 'block' are not read"),
        (("encoding: raw", "encoding: zstd"), "encoding 'zstd' are not read"),
        (("(0,0,3)", "(0,1,3)"), "not at right angles"),
        (("(4,-5,6)", "(nan,-5,6)"), "damaged"),
    ],
)
def test_what_a_header_cannot_say(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    path = write(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(*(part.encode() for part in change), 1))
    assert reason in left(path).reason


@pytest.mark.parametrize("encoding", ["gzip", "bzip2"])
def test_a_stream_that_holds_more_is_stopped(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.nrrd", encoding=encoding)
    head = path.read_bytes().split(b"\n\n")[0] + b"\n\n"
    path.write_bytes(head + ENCODERS[encoding](bytes(3 * 2**20)))  # type: ignore[misc,operator]
    with pytest.raises(DataError, match="more than its header declares"):
        nifti.read(path)
    path.write_bytes(head + zlib.compress(b"short"))
    with pytest.raises(DataError):
        nifti.read(path)


def test_a_spacing_below_0_is_noted_and_0_is_none(tmp_path: Path) -> None:
    grid = nifti.read_header(write(tmp_path / "a.nrrd", place="spacings: 1 2 -3\n"))
    assert (grid.spacing, grid.notes) == ((1, 2, 3), ("a voxel spacing below 0: the axis is taken as reversed",))
    for steps in ("1 2 0", "1 2 nan"):
        assert nifti.read_header(write(tmp_path / "b.nrrd", place=f"spacings: {steps}\n")).spacing is None


def test_a_link_or_a_list_that_leaves_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(VALUES.astype("<i2").tobytes())
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "x.raw").symlink_to(tmp_path / "secret.raw")
    write(folder / "a.nhdr", more="data file: x.raw\n")
    assert "through a link" in left(folder / "a.nhdr").reason
    write(folder / "a.nhdr", more="data file: LIST\n/etc/hostname\n")
    assert "another folder" in left(folder / "a.nhdr").reason


@pytest.mark.parametrize(
    ("sizes", "encoding", "dtype", "reason"),
    [
        ("1000 1000 1000", "gzip", "<f8", "1000 x 1000 x 1000 voxels are more than the limit of 469,762,048"),
        ("512 512 1500", "gzip", "<f8", "393,216,000 voxels of 64 bits are more than the limit of 1,536 MiB"),
        ("512 512 300", "ascii", "<i2", "78,643,200 voxels as text are more than the limit of 16,777,216"),
    ],
)
def test_a_volume_is_weighed_by_its_header(tmp_path: Path, sizes: str, encoding: str, dtype: str, reason: str) -> None:
    path = write(tmp_path / "a.nrrd", dtype, encoding, place="spacings: 1 1 1\n")
    path.write_bytes(path.read_bytes().replace(b"sizes: 7 6 5", f"sizes: {sizes}".encode(), 1))
    assert reason in left(path).reason


def test_a_long_scan_of_512_pixels_is_within_the_limits(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nrrd", "<i2", place="spacings: 1 1 1\n")
    path.write_bytes(path.read_bytes().replace(b"sizes: 7 6 5", b"sizes: 512 512 1500", 1))
    assert left(path).reason == "the file is truncated"


def test_a_volume_that_cannot_be_decoded_is_tried_once_for_all_its_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.nrrd", "<i2")  # nothing below -200
    loader = VolumeFolder(window=1, stride=1, spacing=None, hounsfield=True)
    records = [item for item in loader.find(path) if isinstance(item, Record)]
    calls = 0
    decode = nifti.read

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return decode(*arguments)

    monkeypatch.setattr(nifti, "read", counted)
    for record in records:
        with pytest.raises(DataError, match="not Hounsfield units"):
            loader.read(record)
    assert (len(records), calls) == (5, 1)
