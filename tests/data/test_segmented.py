"""Masks and the samples they lie on, for loaders that follow the contract alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its users' name for it

from medcoss_cli.console import Screen
from medcoss_cli.data.geometry import Layout
from medcoss_cli.data.labelled import MASK, Case
from medcoss_cli.data.segmented import SegmentedSet, check_grid, prepare_masks, read_case
from medcoss_cli.errors import DataError, PluginError
from medcoss_cli.finetuning.dataset import find_cases
from medcoss_cli.kit import entries
from medcoss_cli.kit.readers import nifti
from medcoss_cli.kit.readers.volume import whole_volume
from medcoss_cli.plugin import CompleteModality, Modality, Record, Sample, Skipped
from medcoss_cli.registry import configure, discovery, validate
from tests.finetuning_runs import MASKS, begin
from tests.pretraining_runs import write_demo
from tests.toy_plugins import code_of, put


@dataclass(frozen=True)
class Turned:
    """Volumes of one's own, on the contract's axes."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record | Skipped]:
        for entry in entries(root, split):
            yield entry if isinstance(entry, Skipped) else Record(entry.path, None, entry.group)

    def read(self, record: Record) -> Sample:
        return whole_volume(*nifti.read(record.source))


class AsStored(Turned):
    """Takes the array as the file has it, and says where it lies: or does not."""

    def read(self, record: Record) -> Sample:
        array, grid = nifti.read(record.source)
        return Sample(np.float32(array)[None], stored=grid)


class Unplaced(Turned):
    def read(self, record: Record) -> Sample:
        return replace(super().read(record), stored=None)


SCAN = Modality("scan", "Scan", dims=3, size=(16, 32, 32), channels=1, loader=Turned())
UNPLACED = replace(SCAN, loader=Unplaced())


def modality(loader: Turned) -> CompleteModality:
    return validate.check(replace(SCAN, loader=loader))


def case(root: Path, orientation: str, mask: str) -> Case:
    """A volume stored in an orientation, and what is bright in it as a mask that is stored in another."""
    root.mkdir(exist_ok=True)
    values = np.random.default_rng(0).integers(0, 99, (16, 16, 16)).astype(np.int16)
    image = sitk.DICOMOrient(sitk.GetImageFromArray(values), orientation)
    sitk.WriteImage(image, str(root / "scan.nii.gz"))
    sitk.WriteImage(sitk.DICOMOrient(sitk.Cast(image > 50, sitk.sitkUInt8), mask), str(root / "mask.nii.gz"))
    record = Record(root / "scan.nii.gz")
    return Case(record.source, "train", "p", "manifest.csv:2", mask=root / "mask.nii.gz", record=record)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PSL"])
@pytest.mark.parametrize("mask", ["LPS", "RAS", "SAR"])
def test_a_mask_lies_on_its_volume_however_both_are_stored(tmp_path: Path, orientation: str, mask: str) -> None:
    sample, labels = read_case(modality(Turned()), case(tmp_path, orientation, mask), {"a": "any"})
    assert np.array_equal(labels > 0, sample.array[0] > 50)


@pytest.mark.parametrize("mask", ["LPS", "RAS"])
def test_an_array_that_was_not_turned_is_refused_and_not_laid_under_a_turned_mask(tmp_path: Path, mask: str) -> None:
    with pytest.raises(PluginError, match=r"axes of the file lie .* and not how those of its array do"):
        read_case(modality(AsStored()), case(tmp_path, "RAS", mask), {"a": "any"})
    sample, labels = read_case(modality(AsStored()), case(tmp_path, "LPS", mask), {"a": "any"})
    assert np.array_equal(labels > 0, sample.array[0] > 50), "nothing to turn"


def test_a_mask_is_compared_with_the_stored_grid_where_the_sample_says_nothing(tmp_path: Path) -> None:
    row = case(tmp_path, "LPS", "LPS")
    moved = sitk.ReadImage(str(row.mask))
    moved.SetOrigin((0.0, 0.0, 9.0))
    sitk.WriteImage(moved, str(row.mask))
    with pytest.raises(DataError, match=r"the mask begins at \(0, 0, 9\) mm, the image at \(0, 0, 0\) mm"):
        read_case(modality(AsStored()), row, {"a": "any"})


def test_volumes_without_a_grid_are_refused(tmp_path: Path) -> None:
    row = case(tmp_path, "LPS", "LPS")
    with pytest.raises(PluginError, match=r"the scan plugin: the loader gives no grid \(Sample.stored\)"):
        check_grid(modality(Unplaced()), [row])
    with pytest.raises(PluginError, match="no grid"):
        read_case(modality(Unplaced()), row, {"a": "any"})
    check_grid(modality(Turned()), [row])


def test_the_run_is_refused_before_it_begins(tmp_path: Path) -> None:
    case(tmp_path / "scan", "LPS", "LPS")
    (tmp_path / "scan" / "manifest.csv").write_text("path,split,mask\nscan.nii.gz,train,mask.nii.gz\n")
    text = MASKS.replace("modality: ct", "modality: scan").replace("folder: ct", "folder: scan")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "site"))
        put(tmp_path / "site", "scan", code_of(__name__, "UNPLACED"))
        with pytest.raises(PluginError, match="the loader gives no grid"):
            begin(tmp_path, tmp_path, text, screen=Screen())
    discovery.forget()
    assert not (tmp_path / "runs").exists()
    assert not list(tmp_path.rglob("*.image.npy"))


HARM: dict[str, tuple[str, Any]] = {
    "index": ("index.json", b'{"data_hash": "x", "cases": [{"file": "../../x"}]}'),
    "no JSON": ("index.json", b"\xff"),
    "voxels of more classes": ("index.json", {"voxels": [1, 2]}),
    "more voxels than there can be": ("index.json", {"voxels": [10**400]}),
    "a split of its own": ("index.json", {"split": "training"}),
    "facts": ("case-00000.json", b"[]"),
    "facts of no class": ("case-00000.json", {"voxels": []}),
    "a hash of half a character": ("case-00000.json", {"hash": "\ud800"}),
    "an image of another order of bytes": ("case-00000.image.npy", np.zeros((1, 3, 4, 5), ">i2")),
    "an empty image": ("case-00000.image.npy", b""),
    "a mask of another size": ("case-00000.mask.npy", np.zeros((3, 4, 5), np.uint8)),
    "places of objects": ("case-00000.points.npy", b"\x93NUMPY\x01\x00"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_set_is_a_sentence(tmp_path: Path, harm: str) -> None:
    name, content = HARM[harm]
    write_demo(tmp_path, ct=2)
    windows: Any = configure.for_stage("ct", {}, Screen())
    modality = replace(windows, loader=windows.loader.whole())
    cases, _ = find_cases(modality, tmp_path / "ct", MASK, screen=Screen())
    layout = Layout(spacing=(6.0, 8.0, 8.0))

    def prepared() -> SegmentedSet:
        return prepare_masks(
            modality, cases, {"a": "any"}, layout, tmp_path / "out", workers=1, bad_share=0, screen=Screen()
        )

    def read(opened: SegmentedSet) -> None:
        opened.points(0)
        opened.image(0)
        opened.mask(0)

    path = prepared().folder / name
    if name.startswith("case-00000.json"):
        (path.parent / "index.json").unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        written = json.loads(path.read_text())
        (written["cases"][0] if "cases" in written else written).update(content)
        path.write_text(json.dumps(written))
    else:
        np.save(path, content)
    with pytest.raises(DataError, match="damaged") as refused:
        read(prepared())
    assert refused.value.where == str(path)
    assert refused.value.fix == f"delete {path.parent} and prepare again"
