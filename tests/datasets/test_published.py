"""The nine published sets, from their own layout through `data manifest` to a step of the recipe of that name."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from medcoss_cli.console import Screen
from medcoss_cli.datasets import LABELLED, build, counts
from medcoss_cli.errors import DataError, RecipeError, UsageError
from medcoss_cli.finetune import finetune
from medcoss_cli.finetuning.setup import begin_finetune
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.read import read_recipe
from tests.datasets.layouts import NAMES, save, write
from tests.pretraining_runs import options


class Listening(Screen):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


def rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("profile", ["paper", "official"])
@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_has_every_case_once_and_no_patient_twice(tmp_path: Path, name: str, profile: str) -> None:
    root, screen = write(name, tmp_path / "set"), Listening()
    manifest = build(name, root, profile, screen=screen)
    listed = rows(manifest)
    assert len({(row["path"], row.get("index", "")) for row in listed}) == len(listed)
    assert all((root / row["path"]).is_file() for row in listed)
    splits: dict[str, set[str]] = {}
    for row in listed:
        splits.setdefault(row["group"], set()).add(row["split"])
    assert all(len(own) == 1 for own in splits.values())
    assert {row["split"] for row in listed} >= {"train", "test"}
    assert sum(count.cases for count in counts(manifest)) == len(listed)
    assert any("paper" in line for line in screen.said), "counts that differ from the paper's are told"


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_of_that_name_trains_on_it(tmp_path: Path, name: str) -> None:
    """One step with a small encoder and small inputs; everything else is the recipe's own."""
    shipped = read_recipe(name, [], kind="finetune")
    assert isinstance(shipped, FinetuneRecipe)
    root = write(name, tmp_path / "data" / shipped.data.folder)
    build(name, root)
    sizes = {1: "[32]", 2: "[32,32]", 3: "[16,32,32]"}
    small = [
        "encoder={width: 24, depth: 4, heads: 2}",
        f"input.size={sizes[len(shipped.input.size or [])]}",
        "train.steps=1",
        "train.batch=2",
        *(["head.features=2", "predict.mirror=false"] if shipped.task == "segmentation" else []),
        *(["vocabulary_size=300"] if len(shipped.input.size or []) == 1 else []),
    ]
    recipe = read_recipe(name, small, kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    job = begin_finetune(recipe, name, "scratch", [0], options(tmp_path, tmp_path / "data"), Screen())
    results = finetune(job)
    job.run.close()
    assert results["seeds"][0]["test"]["samples"] == len(
        [r for r in rows(root / "manifest.csv") if r["split"] == "test"]
    )


TABLE_5: Sequence[tuple[str, str, list[int], float, int, int]] = (
    ("pubmed20k", "classification", [112], 2e-4, 64, 14_065),
    ("chestxr", "classification", [224, 224], 5e-5, 32, 35_840),
    ("qata", "segmentation", [224, 224], 1e-4, 16, 25_000),
    ("ricord", "classification", [64, 192, 192], 1e-5, 8, 9_600),
    ("lits", "segmentation", [64, 192, 192], 1e-4, 2, 25_000),
    ("vs", "segmentation", [64, 192, 192], 1e-4, 2, 25_000),
    ("la", "segmentation", [64, 192, 192], 5e-5, 2, 25_000),
    ("nch", "classification", [224, 224], 1e-4, 32, 24_990),
    ("glas", "segmentation", [512, 512], 1e-4, 4, 25_000),
)


@pytest.mark.parametrize(("name", "task", "size", "lr", "batch", "steps"), TABLE_5)
def test_recipes_are_table_5(name: str, task: str, size: list[int], lr: float, batch: int, steps: int) -> None:
    recipe = read_recipe(name, [], kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    assert (recipe.task_kind().name, recipe.input.size) == (task, size)
    assert (recipe.train.lr, recipe.train.batch, recipe.train.steps) == (lr, batch, steps)
    assert (recipe.train.weight_decay, recipe.train.clip, recipe.train.schedule) == (1e-4, 12.0, "poly")


@pytest.mark.parametrize(("name", "steps"), [("ricord", 4_800), ("la", 20_000)])
def test_the_official_profile_has_the_authors_lengths(name: str, steps: int) -> None:
    recipe = read_recipe(name, ["profile=official"], kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    assert (recipe.train.steps, recipe.head.drop_path) == (steps, 0.1)
    assert recipe.encoder is not None
    assert recipe.encoder.layer_scale == 1e-3  # from scratch as the authors; a checkpoint's encoder is its own


def test_an_encoder_given_by_a_word_keeps_its_dimensions_under_the_official_profile() -> None:
    recipe = read_recipe("la", ["profile=official", "encoder=tiny"], kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    assert recipe.encoder is not None
    assert (recipe.encoder.width, recipe.encoder.layer_scale) == (192, 1e-3)
    with pytest.raises(RecipeError, match="'smal' is not one of"):
        read_recipe("la", ["profile=official", "encoder=smal"], kind="finetune")


@pytest.mark.parametrize("name", NAMES)
def test_another_layout_is_refused_and_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("not a set")
    with pytest.raises(DataError):
        build(name, tmp_path)


def test_a_manifest_that_is_there_is_kept(tmp_path: Path) -> None:
    root = write("nch", tmp_path)
    first = build("nch", root).read_bytes()
    with pytest.raises(UsageError, match="a manifest already exists"):
        build("nch", root)
    assert build("nch", root, overwrite=True).read_bytes() == first


def test_folders_of_classes_of_ones_own(tmp_path: Path) -> None:
    root = write("nch", tmp_path, cases=10) / "NCT-CRC-HE-100K"
    manifest = build("folder", root, val=0.2, test=0.3)
    known = rows(manifest)
    assert {row["label"] for row in known} == {path.name for path in root.iterdir() if path.is_dir()}
    shares = {split: sum(row["split"] == split for row in known) / len(known) for split in ("train", "val", "test")}
    assert shares == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.06)


@pytest.mark.parametrize("split", ["", "train/"])
def test_classes_that_are_numbers_are_no_patients(tmp_path: Path, split: str) -> None:
    """Taken for patients, a whole class would be in one split."""
    for label in ("1001", "1002", *map(str, range(10))):
        for n in range(10):
            save(tmp_path / f"{split}{label}/{n}.png", np.full((8, 8), n))
    listed = rows(build("folder", tmp_path))
    assert len({row["group"] for row in listed}) == len(listed) == 120
    assert {(row["label"], row["split"]) for row in listed} >= {("1001", of) for of in ("train", "val", "test")}


def test_masks_in_the_folder_of_a_class_are_no_cases_and_a_class_may_be_called_mask(tmp_path: Path) -> None:
    for label in ("mask", "no mask"):
        for n in range(1, 7):
            save(tmp_path / f"{label}/{label} ({n}).png", np.arange(256).reshape(16, 16))
    for n in range(1, 4):
        save(tmp_path / f"no mask/no mask ({n})_mask.png", np.zeros((16, 16)))
    save(tmp_path / "no mask/no mask (1)_mask_1.png", np.zeros((16, 16)))
    screen = Listening()
    listed = rows(build("folder", tmp_path, screen=screen))
    assert sorted(row["path"] for row in listed) == [
        f"{c}/{c} ({n}).png" for c in ("mask", "no mask") for n in range(1, 7)
    ]
    assert {row["path"]: row["mask"] for row in listed if row["mask"]} == {
        f"no mask/no mask ({n}).png": f"no mask/no mask ({n})_mask.png" for n in (2, 3)
    }
    assert any("2 files are masks of images beside them, left out" in line for line in screen.said)
    assert any("1 images have several masks" in line for line in screen.said)


def test_labels_of_a_table_as_pandas_writes_them(tmp_path: Path) -> None:
    lines = [
        f"report {n},{label},{group}"
        for n, (label, group) in enumerate(zip("01" * 8, ["nan", "7", "7.0", "8"] * 4, strict=True))
    ]
    (tmp_path / "all.csv").write_text("\n".join(["text,label,group", *lines, "a,1.0,9", "b,nan,10", "c,None,11"]))
    listed = rows(build("folder", tmp_path))
    assert {row["label"] for row in listed} == {"0", "1"}
    assert len(listed) == 17
    assert {row["group"] for row in listed if not row["group"].startswith("all.csv")} == {"7", "8", "9"}


def test_every_published_set_has_a_recipe_and_a_layout() -> None:
    assert set(NAMES) == set(LABELLED) - {"folder"}
    for name in NAMES:
        assert read_recipe(name, [], kind="finetune").title  # type: ignore[union-attr]  # all kinds have one


def test_a_folder_of_nnunet_has_its_masks_and_its_patients(tmp_path: Path) -> None:
    (tmp_path / "imagesTs").mkdir()
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
        for case in range(10):
            for channel in ("_0000", "_0001") if name == "imagesTr" else ("",):
                (tmp_path / name / f"liver_{case:03d}{channel}.nii.gz").write_bytes(b"\x1f\x8b")
    listed = rows(build("folder", tmp_path))
    assert len(listed) == 20
    for row in listed:
        case = row["group"]
        assert row["mask"] == f"labelsTr/{case}.nii.gz"
        assert row["path"] in {f"imagesTr/{case}_000{channel}.nii.gz" for channel in range(2)}
    assert len({row["group"] for row in listed}) == 10
