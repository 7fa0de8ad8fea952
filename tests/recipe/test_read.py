"""Recipes: what is read, what is overridden, and that every fault has its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from medcoss_cli.errors import RecipeError
from medcoss_cli.recipe.read import find_recipe, read_recipe, shipped_recipes
from medcoss_cli.recipe.schema import PretrainRecipe

SMALL = "kind: pretrain\nstages:\n  - {modality: xray, data: here}\n"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def pretrain(path: Path, *overrides: str) -> PretrainRecipe:
    recipe = read_recipe(str(path), overrides)
    assert isinstance(recipe, PretrainRecipe)
    return recipe


def test_the_defaults_are_the_papers(small: Path) -> None:
    recipe = pretrain(small)
    assert (recipe.encoder.width, recipe.encoder.depth, recipe.encoder.heads) == (768, 12, 12)
    assert (recipe.decoder.width, recipe.decoder.depth, recipe.decoder.heads) == (512, 8, 16)
    assert (recipe.masking.patches, recipe.masking.words) == (0.75, 0.15)
    assert (recipe.train.epochs, recipe.train.warmup, recipe.train.batch, recipe.train.lr) == (300, 40, 512, 1.5e-4)
    assert (recipe.rehearsal.ratio, recipe.rehearsal.share, recipe.rehearsal.centers) == (0.05, "proportional", 0.01)
    assert recipe.train.weight_decay == 0.05


def test_overrides_reach_every_depth_and_are_yaml(small: Path) -> None:
    recipe = pretrain(
        small,
        "train.lr=1e-3",
        "stages.0.size=[64, 32]",
        "encoder=tiny",
        "rehearsal.share=0.25",
        "data.root=null",
        "mixup=false",
    )
    assert recipe.train.lr == 1e-3
    assert recipe.stages[0].size == [64, 32]
    assert recipe.encoder.width == 192
    assert recipe.rehearsal.share == 0.25
    assert recipe.mixup is False


def test_a_shipped_recipe_goes_by_name_with_and_without_folder_and_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = shipped_recipes()["mini"]
    assert {find_recipe(name) for name in ("mini", "mini.yaml", "recipes/mini", "recipes/mini.yaml")} == {known}


def test_a_local_file_wins_over_a_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini.yaml").write_text(SMALL)
    assert len(pretrain(Path("mini.yaml")).stages) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: pretrain\nstages: [\n", r"x.yaml:3: this is not YAML"),
        ("", r"x.yaml: the recipe holds no keys"),
        ("- 1\n", r"holds no keys"),
        ("kind: pretrian\n", r"x.yaml:1: kind: 'pretrian' is none of pretrain, extend"),
        ("kind: pretrain\n", r"stages: this key is needed"),
        ("kind: pretrain\nstages: []\n", r"x.yaml:2: stages: "),
        (SMALL + "seed: 1\nseed: 2\n", r"x.yaml:5: seed: the key stands here twice"),
        (SMALL + "train: {lr: fast}\n", r"x.yaml:4: train.lr: 'fast': "),
        (SMALL + "train: {epoch: 3}\n", r"x.yaml:4: train.epoch: there is no such key; did you mean epochs\?"),
        (SMALL + "rehearsal:\n  share: most\n", r"x.yaml:5: rehearsal.share: 'most'"),
        (SMALL + "encoder: huge\n", r"x.yaml:4: encoder: 'huge' is none of tiny, small, base, large"),
        (SMALL + "encoder: {width: 100, heads: 3}\n", r"x.yaml:4: encoder: .*width 100 is no multiple of heads 3"),
        (SMALL + "strategy: magic\n", r"x.yaml:4: strategy: 'magic' is none of er, medcoss, sequential"),
        (SMALL + "schema: 2\n", r"x.yaml:4: schema: 2"),
        ("kind: pretrain\nstages:\n  - {modality: xray}\n", r"x.yaml:3: stages.0.data: this key is needed"),
        ("kind: extend\ntrain: !!python/object/apply:os.system [ls]\n", r"x.yaml:2: this is not YAML"),
    ],
)
def test_every_fault_has_its_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=told):
        read_recipe(str(path))


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(SMALL + "train: {epochs: many, btach: 3}\ncolour: red\nseed: -1\n")
    with pytest.raises(RecipeError, match="4 faults") as found:
        read_recipe(str(path))
    assert len(str(found.value).splitlines()) == 5


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("epochs", "not of the form key=value"),
        ("stages.4.size=[1]", "there is no stages.4"),
        ("train.lr=fast", "override train.lr=fast: train.lr: 'fast'"),
        ("trian.lr=1", "override trian.lr=1: trian: there is no such key; did you mean train"),
        ("seed=[", "is not YAML"),
    ],
)
def test_a_wrong_override_is_told(small: Path, override: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        read_recipe(str(small), [override])


def test_the_kind_must_suit_the_verb(small: Path) -> None:
    with pytest.raises(RecipeError, match="a recipe to pretrain, not to extend"):
        read_recipe(str(small), kind="extend")
    with pytest.raises(RecipeError, match="did you mean mini"):
        read_recipe("minni")
