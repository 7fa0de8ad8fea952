"""Masks that are colour images: a class is a colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcoss_cli.data.masks import read_mask
from medcoss_cli.data.segmented import labels_of
from medcoss_cli.errors import DataError, RecipeError
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.read import read_recipe

RED, GREEN = (255, 0, 0), (0, 200, 16)


def write(folder: Path, ending: str) -> tuple[Path, np.ndarray]:  # type: ignore[type-arg]  # of labels
    labels = np.zeros((20, 24), int)
    labels[3:9, 4:10], labels[11:15, 12:20] = 1, 2
    picture = np.array([(0, 0, 0), RED, GREEN], np.uint8)[labels]
    path = folder / f"mask.{ending}"
    Image.fromarray(picture).save(path)
    return path, labels


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
def test_colours_are_classes(tmp_path: Path, ending: str) -> None:
    path, labels = write(tmp_path, ending)
    mask, _ = read_mask(path, 2)
    assert np.array_equal(labels_of(mask, {"tumour": [0xFF0000], "stroma": [0x00C810]}, ""), labels)
    assert np.array_equal(labels_of(mask, {"any": "any"}, ""), labels > 0)
    with pytest.raises(DataError, match="the mask has the value #00c810, the recipe's classes have #ff0000"):
        labels_of(mask, {"tumour": [0xFF0000]}, "")


def test_a_recipe_writes_colours_as_people_do(tmp_path: Path) -> None:
    text = (
        "kind: finetune\ntask: segmentation\nmodality: pathology\nfrom: scratch\ndata: {folder: a}\n"
        'classes: {tumour: ["#ff0000"], stroma: ["#00C810", 7]}\ntrain: {lr: 1e-3, batch: 2, steps: 2}\n'
    )
    (tmp_path / "a.yaml").write_text(text)
    recipe = read_recipe(str(tmp_path / "a.yaml"), [], kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    assert recipe.classes == {"tumour": [0xFF0000], "stroma": [0x00C810, 7]}
    (tmp_path / "b.yaml").write_text(text.replace("#ff0000", "red"))
    with pytest.raises(RecipeError, match="classes"):
        read_recipe(str(tmp_path / "b.yaml"), [], kind="finetune")
