"""What names in a container say: masks as on a disk, patients and labels where they are given."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medcoss_cli.data.labelled import MASK, read_manifest, with_records
from medcoss_cli.data.read import find
from medcoss_cli.errors import DataError
from medcoss_cli.kit import ImageFolder, VolumeFolder
from medcoss_cli.kit.sources import zarr_store
from medcoss_cli.plugin import Record, Skipped
from medcoss_cli.registry.discovery import load_modality
from tests.kit.sources.test_sources import STACK, VOLUME, WRITERS, Arrays, as_hdf5, as_npz, as_zarr, png

GREY = ImageFolder()
PATIENTS = ["anna", "anna", "ben", "carl", "carl"]


def tar(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def groups(path: Path) -> dict[str, str | None]:
    records = [item for item in GREY.find(path) if isinstance(item, Record)]
    return {"/".join(map(str, (record.part or ())[1::2])): record.group for record in records}


def test_class_folders_of_a_tar_are_no_masks_and_folders_of_patients_are_groups(tmp_path: Path) -> None:
    picture = png(STACK[0])
    names = ("label_0/1.png", "label_1/2.png", "seg/3.png", "target volume/1.png")
    assert set(groups(tar(tmp_path / "a.tar", **dict.fromkeys(names, picture)))) == set(names)
    names = ("p01/a.png", "p01/b.2.png", "p02/a.png")
    assert groups(tar(tmp_path / "b.tar", **dict.fromkeys(names, picture))) == dict(
        zip(names, ("p01", "p01", "p02"), strict=True)
    )
    names = ("images/1.png", "images/2.png", "masks/1.png", "1.png", "1.target.png", "2.jpg", "2.seg.png")
    left = {
        item.reason
        for item in GREY.find(tar(tmp_path / "c.tar", **dict.fromkeys(names, picture)))
        if isinstance(item, Skipped)
    }
    assert left == {f"named as a mask or a label ({name})" for name in ("masks/1.png", "1.target.png", "2.seg.png")}


@pytest.mark.parametrize("writer", WRITERS)
def test_patients_beside_a_stack_are_those_of_its_samples(
    tmp_path: Path, writer: Callable[[Path, Arrays], Path]
) -> None:
    text = np.array(PATIENTS, "S8" if writer is as_hdf5 else "U8")
    path = writer(tmp_path / "a", {"images": STACK, "patient_id": text})
    assert groups(path) == {f"images/{n}": name for n, name in enumerate(PATIENTS)}
    more: Arrays = {
        "train_images": STACK,
        "test_images": STACK,
        "train_pids": np.arange(5.0),
        "test_pids": np.arange(5) + 7,
    }
    found = groups(writer(tmp_path / "b", more))
    assert (found["train_images/1"], found["test_images/1"]) == ("1", "8")
    one = writer(tmp_path / "c", {"images": STACK, "patient": np.array([12])})
    assert set(groups(one).values()) == {"12"}


def test_patients_in_attributes_and_folders_of_keys(tmp_path: Path) -> None:
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("one", data=STACK[0]).attrs["PatientID"] = "anna"
        for name in ("p01", "p02"):
            file.create_dataset(f"{name}/scan", data=STACK[1])
    assert groups(tmp_path / "a.h5")["one"] == "anna"
    root = zarr.open_group(str(tmp_path / "b.zarr"), mode="w")
    scan = root.create_group("scan")
    scan.attrs["patient"] = 7
    scan.create_array("image", data=STACK[0])
    assert groups(tmp_path / "b.zarr") == {"scan/image": "7"}
    path = as_npz(tmp_path / "c", {f"{name}/{n}": STACK[n] for name in ("p01", "p02") for n in range(2)})
    assert set(groups(path).values()) == {"p01", "p02"}


def test_a_patient_column_of_parquet(tmp_path: Path) -> None:
    pa, pq = (pytest.importorskip(name, exc_type=ImportError) for name in ("pyarrow", "pyarrow.parquet"))
    pictures = [{"bytes": png(image), "path": "x"} for image in STACK]
    pq.write_table(pa.table({"image": pictures, "patient": PATIENTS, "label": list("aabba")}), tmp_path / "a.parquet")
    assert list(groups(tmp_path / "a.parquet").values()) == PATIENTS


BAD: list[tuple[Any, str]] = [
    ([1.0, 1.0], "a spacing of 2 numbers where a volume has 3 axes"),
    ([1.0, 2.0, 3.0, 4.0], "a spacing of 4 numbers where a volume has 3 axes"),
    ([1.0, -2.0, 3.0], "cannot be"),
    ([1.0, 0.0, 3.0], "cannot be"),
    ([1.0, float("nan"), 3.0], "cannot be"),
    ("fine", "a spacing of 'fine', which is no numbers in mm"),
]


@pytest.mark.parametrize("kind", ["npz", "hdf5", "zarr"])
@pytest.mark.parametrize(("spacing", "reason"), BAD)
def test_a_spacing_that_cannot_be_is_one_sentence(tmp_path: Path, kind: str, spacing: Any, reason: str) -> None:
    if kind == "npz":
        path = as_npz(tmp_path / "a", {"scan": VOLUME, "spacing": np.array(spacing)})
    else:
        path = (as_hdf5 if kind == "hdf5" else as_zarr)(tmp_path / "a", {"scan": VOLUME})
        if kind == "hdf5":
            import h5py

            with h5py.File(path, "a") as file:
                file["scan"].attrs["spacing"] = spacing
        else:
            import zarr

            zarr.open_group(str(path))["scan"].attrs["spacing"] = (
                spacing if spacing != [1.0, float("nan"), 3.0] else "nan"
            )
    (item,) = VolumeFolder(spacing=None).find(path)
    assert isinstance(item, Skipped)
    assert item.bad
    assert reason in item.reason or "no numbers" in item.reason


def test_arrays_that_are_no_samples_are_named(tmp_path: Path) -> None:
    arrays: Arrays = {
        "none": STACK[:0],
        "complex": STACK[0] * 1j,
        "names": np.array(["x"] * 5),
        "objects": np.array([{}, 1]),
    }
    path = as_npz(tmp_path / "a", {"image": STACK[0], **arrays})
    assert {item.reason: item.bad for item in GREY.find(path) if isinstance(item, Skipped)} == {
        "an array of 0 x 20 x 24 where an image is expected": False,
        "an array of 20 x 24 (complex numbers) where an image is expected": False,
        "an array of 5 (text) where an image is expected": False,
        "its array holds Python objects, which are never loaded": False,
    }
    for key in ("gone", "image"):
        with pytest.raises(DataError, match=f"the array '{key}' is no longer in it, or is shorter"):
            GREY.read(Record(path, ("key", key, "index", 99)))


def test_metadata_of_a_store_are_not_searched_for_each_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_zarr(tmp_path / "a", {"images": STACK})
    records = [item for item in GREY.find(path) if isinstance(item, Record)]
    monkeypatch.setattr(zarr_store, "_check_codecs", lambda *_: pytest.fail("the whole store was searched"))
    assert [GREY.read(record).array[0].tolist() for record in records] == STACK.tolist()


@pytest.mark.parametrize("kind", ["npz", "hdf5", "zarr", "parquet", "tar"])
def test_labels_are_a_key_of_the_container(tmp_path: Path, kind: str) -> None:
    labels, splits = ["b", "b", "m", "m", "b"], ["train", "train", "train", "test", "test"]
    wanted = {"label": "label", "split": "split"}
    if kind == "tar":
        members = {f"{name}__{n}.{ending}": content for n, name in enumerate(PATIENTS) for ending, content in (
            ("png", png(STACK[n])), ("label", labels[n].encode()), ("split", splits[n].encode())
        )}  # fmt: skip
        path = tar(tmp_path / "a.tar", **members)
        wanted["group"] = "folder"
    elif kind == "parquet":
        pa, pq = (pytest.importorskip(name, exc_type=ImportError) for name in ("pyarrow", "pyarrow.parquet"))
        table = {"image": [png(image) for image in STACK], "label": labels, "split": splits, "patient": PATIENTS}
        pq.write_table(pa.table(table), tmp_path / "a.parquet")
        path = tmp_path / "a.parquet"
    else:
        code = "S8" if kind == "hdf5" else "U8"
        arrays: Arrays = {"images": STACK, "label": np.array(labels, code), "split": np.array(splits, code)}
        writer = {"npz": as_npz, "hdf5": as_hdf5, "zarr": as_zarr}[kind]
        path = writer(tmp_path / "a", {**arrays, "patient": np.array(PATIENTS, code)})
    cases = read_manifest(path, columns=wanted)
    matched = with_records(cases, find(load_modality("xray"), path, "all", columns=wanted), single=False)
    assert [(case.label, case.split, case.group) for case in matched] == list(
        zip(labels, splits, PATIENTS, strict=True)
    )
    assert all(
        np.array_equal(GREY.read(case.record).array[0], STACK[n]) for n, case in enumerate(matched) if case.record
    )
    with pytest.raises(DataError, match="name it: --columns label=KEY"):
        read_manifest(path)
    with pytest.raises(DataError, match="there is no 'finding' with an entry a sample in it; keys: "):
        read_manifest(path, columns={"label": "finding"})
    with pytest.raises(DataError, match="a container of arrays has no column mask of files"):
        read_manifest(path, MASK, columns=wanted)


def test_a_patient_on_two_sides_of_a_split_is_refused(tmp_path: Path) -> None:
    arrays: Arrays = {"images": STACK, "label": np.arange(5) % 2, "split": np.array(["train", "test"] + ["train"] * 3)}
    path = as_npz(tmp_path / "a", {**arrays, "patient": np.array(PATIENTS)})
    with pytest.raises(DataError, match="1 groups \\(patients\\) are in two splits, the first is 'anna'"):
        read_manifest(path, columns={"label": "label", "split": "split"})


@pytest.mark.parametrize("writer", WRITERS)
def test_labels_are_of_the_stack_that_is_called_as_they_are(
    tmp_path: Path, writer: Callable[[Path, Arrays], Path]
) -> None:
    """The first images of another stack would else be taken for theirs."""
    labels = np.array([0, 1, 0, 1, 1])
    path = writer(tmp_path / "a", {"train_images": STACK, "test_images": STACK[:3, ::-1], "train_labels": labels})
    listing = find(load_modality("xray"), path, "all")
    matched = with_records(read_manifest(path, columns={"label": "train_labels"}), listing, single=False)
    assert [case.record.part[1] for case in matched if case.record and case.record.part] == ["train_images"] * 5
    path = writer(tmp_path / "b", {"ct": STACK, "pet": STACK[:, ::-1], "labels": labels})
    with pytest.raises(DataError, match="the arrays ct, pet have 5 samples each, and 'labels' says not of which it is"):
        read_manifest(path, columns={"label": "labels"})
    path = writer(tmp_path / "c", {"images": STACK, "labels": labels[:4]})
    with pytest.raises(DataError, match="'labels' has 4 entries, and no array of images has as many"):
        read_manifest(path, columns={"label": "labels"})


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ["labels", "y", "patient_id"])
def test_three_grey_images_with_labels_are_no_colour_image(
    tmp_path: Path, writer: Callable[[Path, Arrays], Path], name: str
) -> None:
    path = writer(tmp_path / "a", {"images": STACK[:3], name: np.array([5, 6, 7])})
    records = [item for item in GREY.find(path) if isinstance(item, Record)]
    assert all(np.array_equal(GREY.read(record).array[0], STACK[n]) for n, record in enumerate(records))
    assert len(records) == 3
    for other in ("mean", "std"):  # of the three channels
        path = writer(tmp_path / other, {"images": STACK[:3], other: np.array([0.5, 0.4, 0.3])})
        assert len([item for item in GREY.find(path) if isinstance(item, Record)]) == 1


def test_a_tar_of_one_patient_is_one_group(tmp_path: Path) -> None:
    names = ("P001/a.png", "P001/b.png", "P001/c.png")
    assert set(groups(tar(tmp_path / "a.tar", **dict.fromkeys(names, png(STACK[0])))).values()) == {"P001"}
