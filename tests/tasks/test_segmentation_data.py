"""Patches as training sees them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its users' name for it

from medcoss_cli.errors import DataError
from medcoss_cli.recipe.read import read_recipe
from tests.finetuning_runs import MASKS, begin

COUNT = 200


def volume_with_a_corner(root: Path) -> None:
    """A case of 64 slices whose class is in the first four."""
    root.mkdir()
    values = np.random.default_rng(0).integers(-900, 100, (64, 32, 32)).astype(np.int16)
    mask = np.zeros(values.shape, np.uint8)
    mask[:4] = 1
    for name, array in {"scan": values, "mask": mask}.items():
        sitk.WriteImage(sitk.GetImageFromArray(array), str(root / f"{name}.nii.gz"))
    (root / "manifest.csv").write_text("path,split,mask\nscan.nii.gz,train,mask.nii.gz\n")


def share_with_class(folder: Path, *overrides: str) -> float:
    job = begin(folder, folder / "data", MASKS, "input.spacing=null", *overrides, name=f"run{len(overrides)}")
    job.run.close()
    mask = job.data.prepared.mask(0)  # type: ignore[attr-defined]
    parts = (job.data.crop(0, (0, number)) for number in range(COUNT))  # type: ignore[attr-defined]
    return sum(bool(mask[part].any()) for part in parts) / COUNT


def test_patches_come_from_anywhere_where_the_recipe_wants_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    volume_with_a_corner(tmp_path / "data" / "ct")
    anywhere = share_with_class(tmp_path, "task.foreground=0.0")
    assert anywhere < 0.15, "4 of 49 places"
    assert 0.4 < share_with_class(tmp_path) < 0.65, "half of them around the class"


@pytest.mark.parametrize("left", ["none", "val"])
def test_without_a_training_case_it_does_not_begin(tmp_path: Path, left: str) -> None:
    (tmp_path / "data").mkdir()
    volume_with_a_corner(tmp_path / "data" / "ct")
    share_with_class(tmp_path)
    (path,) = tmp_path.rglob("index.json")
    index = json.loads(path.read_text())
    index["cases"] = [case | {"split": left} for case in index["cases"] if left != "none"]
    path.write_text(json.dumps(index))
    with pytest.raises(DataError, match="no training case is left"):
        share_with_class(tmp_path)


def test_the_atrium_recipe_takes_uniform_patches_as_its_source_does() -> None:
    shares = {name: read_recipe(name).task_kind().settings.foreground for name in ("la", "lits", "vs")}  # type: ignore[union-attr]
    assert shares == {"la": 0, "lits": 0.5, "vs": 0.5}
