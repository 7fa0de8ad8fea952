"""Samples in containers: the same values as in files of their own, masks and other arrays left out."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medcoss_cli.errors import DataError
from medcoss_cli.kit import ImageFolder, TextFolder, VolumeFolder
from medcoss_cli.kit.readers.image import as_eight_bits
from medcoss_cli.plugin import Record, Sample, Skipped
from tests.conftest import CommandLine

GREY, COLOUR = ImageFolder(), ImageFolder(grey=False)
WHOLE = VolumeFolder(window=64, stride=64, spacing=None)
RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 255, (5, 20, 24)).astype(np.uint8)
TILES = RNG.integers(0, 255, (3, 20, 24, 3)).astype(np.uint8)
VOLUME = RNG.normal(0, 300, (9, 10, 12)).astype(np.float32)
Arrays = dict[str, np.ndarray[Any, Any]]


def as_npz(path: Path, arrays: Arrays) -> Path:
    np.savez(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]  # names of arrays, not options
    return path.with_suffix(".npz")


def as_hdf5(path: Path, arrays: Arrays) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=True, compression="gzip")
    return path.with_suffix(".h5")


def as_zarr(path: Path, arrays: Arrays) -> Path:
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(str(path.with_suffix(".zarr")), mode="w")
    for name, array in arrays.items():
        root.create_array(name, data=array)
    return path.with_suffix(".zarr")


WRITERS: list[Callable[[Path, Arrays], Path]] = [as_npz, as_hdf5, as_zarr]


def read(loader: Any, path: Path) -> tuple[dict[Any, Sample], list[Skipped]]:
    items = list(loader.find(path))
    samples = {item.part: loader.read(item) for item in items if isinstance(item, Record)}
    return samples, [item for item in items if isinstance(item, Skipped)]


@pytest.mark.parametrize("writer", WRITERS)
def test_stacks_and_single_images_in_arrays(tmp_path: Path, writer: Callable[[Path, Arrays], Path]) -> None:
    deep = (STACK[0].astype(np.uint16) * 16)[..., None]
    arrays = {"train_images": STACK, "one": deep, "ids": np.arange(5), "train_labels": STACK[:, :8, :8]}
    writer(tmp_path / "set", {**arrays, "flags": STACK[0] > 9})
    samples, skipped = read(GREY, tmp_path)
    assert list(samples) == [("key", "one"), *(("key", "train_images", "index", n) for n in range(5))] or set(
        samples
    ) >= {
        ("key", "one"),
        ("key", "train_images", "index", 4),
    }
    assert all(np.array_equal(samples["key", "train_images", "index", n].array[0], STACK[n]) for n in range(5))
    assert np.array_equal(samples["key", "one"].array, as_eight_bits(deep[None, ..., 0]))
    reasons = {item.reason for item in skipped}
    assert "an array of 5 where an image is expected" in reasons
    assert "named as a mask or a label (train_labels)" in reasons
    assert "an array of 20 x 24 (true or false) where an image is expected" in reasons
    assert not any(item.bad for item in skipped)
    path = writer(tmp_path / "colour", {"tiles": TILES})
    records = [item for item in COLOUR.find(path) if isinstance(item, Record)]
    for item, tile in zip(records, TILES, strict=True):
        assert np.array_equal(np.moveaxis(COLOUR.read(item).array, 0, -1), tile)
    assert len({item.recording for item in records}) == 3


def test_grey_is_not_read_as_colour_nor_colour_as_grey(tmp_path: Path) -> None:
    as_npz(tmp_path / "a", {"tile": TILES[0], "grey": STACK[0]})
    for loader, refused in ((GREY, "tile"), (COLOUR, "grey")):
        for item in loader.find(tmp_path):
            assert isinstance(item, Record)
            if item.part == ("key", refused):
                with pytest.raises(DataError, match=r"where (grey|colour) is expected"):
                    loader.read(item)
            else:
                loader.read(item)


@pytest.mark.parametrize("writer", WRITERS)
def test_volumes_in_arrays(tmp_path: Path, writer: Callable[[Path, Arrays], Path]) -> None:
    writer(
        tmp_path / "set", {"scan": VOLUME, "more": np.stack([VOLUME, VOLUME + 1])[:, None][:, 0], "mask": VOLUME > 0}
    )
    samples, skipped = read(WHOLE, tmp_path)
    assert len(skipped) == 1
    assert np.array_equal(samples["key", "scan", "window", 0, 9].array[0], VOLUME)
    assert np.array_equal(samples["key", "more", "index", 1, "window", 0, 9].array[0], VOLUME + 1)
    windows = VolumeFolder(window=4, stride=4, spacing=None)
    cut = [windows.read(item) for item in windows.find(tmp_path) if isinstance(item, Record) and item.part[1] == "scan"]  # type: ignore[index]
    assert [sample.array.shape[1] for sample in cut] == [4, 4, 4]
    assert np.array_equal(cut[0].array[0], VOLUME[:4])


def test_a_spacing_beside_the_array_is_used(tmp_path: Path) -> None:
    as_npz(tmp_path / "a", {"scan": VOLUME, "spacing": np.array([3.0, 2.0, 1.0])})
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("scan", data=VOLUME).attrs["spacing"] = (3.0, 2.0, 1.0)
    array = zarr.create_array(str(tmp_path / "c.zarr"), data=VOLUME)
    array.attrs["spacing"] = [3.0, 2.0, 1.0]
    found = [WHOLE.read(item) for item in WHOLE.find(tmp_path) if isinstance(item, Record)]
    assert [sample.spacing for sample in found] == [(3.0, 2.0, 1.0)] * 3
    fine = VolumeFolder(window=64, stride=64, spacing=1.0)
    assert {fine.read(item).array.shape for item in fine.find(tmp_path) if isinstance(item, Record)} == {
        (1, 27, 20, 12)
    }
    np.save(tmp_path / "d.npy", VOLUME)
    (item,) = fine.find(tmp_path / "d.npy")
    assert isinstance(item, Skipped)
    assert "no voxel spacing" in item.reason


def test_one_array_of_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", STACK)
    np.save(tmp_path / "image.npy", STACK[2].astype(np.float64))
    samples, _ = read(GREY, tmp_path)
    assert len(samples) == 6
    assert np.array_equal(samples["key", "", "index", 3].array[0], STACK[3])


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (ran,)

    np.save(tmp_path / "a.npy", np.array([Evil(), 1], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", x=np.array([Evil(), 1], dtype=object))
    ran.unlink(missing_ok=True)
    for loader in (GREY, WHOLE):
        samples, skipped = read(loader, tmp_path)
        assert not samples
        assert {item.reason for item in skipped} == {"its array holds Python objects, which are never loaded"}
        assert all(item.bad for item in skipped)
    assert not ran.exists()


def test_a_zarr_store_cannot_bring_code_of_its_own(tmp_path: Path) -> None:
    """Zarr decodes chunks with any codec that the metadata name, pickle among them."""
    pytest.importorskip("zarr")
    ran, store = tmp_path / "ran", tmp_path / "a.zarr"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (ran,)

    store.mkdir()
    head = {"zarr_format": 2, "shape": [20, 24], "chunks": [20, 24], "dtype": "<f4", "fill_value": 0, "order": "C"}
    (store / ".zarray").write_text(
        json.dumps({**head, "compressor": None, "filters": [{"id": "pickle", "protocol": 5}]})
    )
    (store / "0.0").write_bytes(pickle.dumps(Evil()))
    (item,) = GREY.find(store)
    assert isinstance(item, Skipped)
    assert (item.reason, item.bad) == ("the codec 'pickle' is not read", True)
    with pytest.raises(DataError, match="the codec 'pickle' is not read"):
        GREY.read(Record(store, ("key", "")))
    assert not ran.exists()


@pytest.mark.parametrize("version", [2, 3])
def test_compressed_zarr_stores_of_both_versions(tmp_path: Path, version: int) -> None:
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=version)
    root.create_group("deep").create_array("stack", data=STACK, chunks=(2, 20, 24))
    samples, _ = read(GREY, tmp_path)
    assert [sample.array[0].tolist() for sample in samples.values()] == STACK.tolist()
    assert next(iter(samples)) == ("key", "deep/stack", "index", 0)


def png(array: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def test_files_in_a_tar_as_webdataset_writes_them(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard-000.tar", "w") as archive:
        for n in range(3):
            for ending, data in (("png", png(STACK[n])), ("cls", b"1"), ("mask.png", png(STACK[n]))):
                member = tarfile.TarInfo(f"folder/p{n}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    samples, skipped = read(GREY, tmp_path)
    assert {part: sample.array[0].tolist() for part, sample in samples.items()} == {
        ("key", f"folder/p{n}.png"): STACK[n].tolist() for n in range(3)
    }
    groups = [item.group for item in GREY.find(tmp_path) if isinstance(item, Record)]
    assert groups == ["folder/p0", "folder/p1", "folder/p2"]
    assert len(skipped) == 6
    data = (tmp_path / "shard-000.tar").read_bytes()
    (tmp_path / "shard-000.tar").write_bytes(data[:900])
    (item,) = GREY.find(tmp_path)
    assert isinstance(item, Skipped)
    assert item.bad


def test_volumes_in_a_tar(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(VOLUME.T, np.diag([-1.0, -1.0, 2.0, 1.0])), tmp_path / "a.nii.gz")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(tmp_path / "a.nii.gz", "p0.nii.gz")
    alone, _ = read(WHOLE, tmp_path / "a.nii.gz")
    inside, _ = read(WHOLE, tmp_path / "set.tar")
    (one,), (other,) = alone.values(), inside.values()
    assert np.array_equal(one.array, other.array)
    assert (one.spacing, one.origin, one.direction) == (other.spacing, other.origin, other.direction)
    assert list(inside) == [("key", "p0.nii.gz", "window", 0, 9)]


def test_images_and_texts_in_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", exc_type=ImportError)  # of a release that needs a newer numpy
    pq = pytest.importorskip("pyarrow.parquet", exc_type=ImportError)
    pictures = [{"bytes": png(STACK[n]), "path": f"{n}.png"} for n in range(5)]
    texts = ["no effusion", "", "small nodule", None, "clear lungs"]
    table = pa.table({"image": pictures, "text": texts, "id": ["a", "a", "b", "b", "c"]})
    pq.write_table(table, tmp_path / "set.parquet", row_group_size=2)
    samples, _ = read(GREY, tmp_path)
    assert all(np.array_equal(samples["key", f"image/{n}"].array[0], STACK[n]) for n in range(5))
    loader = TextFolder()
    records = [item for item in loader.find(tmp_path) if isinstance(item, Record)]
    assert [(item.part, item.group) for item in records] == [(("row", 0), "a"), (("row", 2), "b"), (("row", 4), "c")]
    assert [loader.read(item).array for item in records] == ["no effusion", "small nodule", "clear lungs"]


def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    monkeypatch.delitem(__import__("sys").modules, "medcoss_cli.kit.sources.hdf5", raising=False)
    (item,) = GREY.find(tmp_path / "a.h5")
    assert isinstance(item, Skipped)
    assert item.reason == 'an HDF5 file, which is read with h5py: pip install "medcoss[hdf5]"'


@pytest.mark.parametrize("name", ["a.npz", "b.h5", "c.parquet", "d.tar", "e.npy"])
def test_broken_containers_are_bad_files(tmp_path: Path, name: str) -> None:
    heads = {
        "a.npz": b"PK\x03\x04" + bytes(22) + b"\5\0\0\0x.npy",
        "b.h5": b"\x89HDF\r\n\x1a\n",
        "c.parquet": b"PAR1",
        "d.tar": bytes(257) + b"ustar",
        "e.npy": b"\x93NUMPY\1\0",
    }
    (tmp_path / name).write_bytes(heads[name] + b"x" * 300)
    for loader in (GREY, WHOLE):
        (item,) = loader.find(tmp_path)
        assert isinstance(item, Skipped)
        assert item.bad
        assert len(item.reason) < 250


def test_a_container_is_prepared_and_checked(tmp_path: Path, command_line: CommandLine) -> None:
    (tmp_path / "data").mkdir()
    as_npz(tmp_path / "data" / "set", {"train_images": np.repeat(STACK, 3, 1)[:, :48]})
    answer = command_line("data", "check", str(tmp_path / "data"), "--modality", "xray")
    assert answer.code == 0
    assert "5 read, 0 left out, 0 refused" in answer.out + answer.err
    prepared = ["--modality", "xray", "--size", "32x32", "--prepared", str(tmp_path / "p"), "--json"]
    answer = command_line("data", "prepare", str(tmp_path / "data"), *prepared)
    assert answer.code == 0
    assert '"rows": 5' in answer.out
