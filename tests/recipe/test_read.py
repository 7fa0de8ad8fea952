"""Recipes: what is read, what is overridden, and that every fault has its place."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medcoss_cli.errors import RecipeError
from medcoss_cli.pretraining.rehearsal import CENTERS
from medcoss_cli.recipe.finetuning import FinetuneRecipe
from medcoss_cli.recipe.read import find_recipe, json_schema, read_recipe, shipped_recipes
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
    assert (recipe.rehearsal.ratio, recipe.rehearsal.share) == (0.05, "proportional")
    assert (recipe.selection, recipe.rehearsal.centers, CENTERS) == ("kmeans", None, 0.01)
    assert recipe.train.weight_decay == 0.05


def test_overrides_reach_every_depth_and_are_yaml(small: Path) -> None:
    recipe = pretrain(
        small,
        "train.lr=1e-3",
        "stages.0.size=[64, 32]",
        "encoder=tiny",
        "rehearsal.share=0.25",
        "data.root=null",
        "strategy.mixup=false",
    )
    assert recipe.train.lr == 1e-3
    assert recipe.stages[0].size == [64, 32]
    assert recipe.encoder.width == 192
    assert recipe.rehearsal.share == 0.25
    assert recipe.strategy.settings.mixup is False


def test_what_looks_like_a_date_or_a_number_is_read_as_people_mean_it(small: Path) -> None:
    recipe = pretrain(small, "title=2024-13-45", "train.lr=2e-4", "train.weight_decay=5.E-2", "rehearsal.ratio=.1e0")
    assert recipe.title == "2024-13-45"
    assert (recipe.train.lr, recipe.train.weight_decay, recipe.rehearsal.ratio) == (2e-4, 0.05, 0.1)


def test_a_shipped_recipe_goes_by_name_with_and_without_folder_and_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = shipped_recipes()["mini"]
    assert {find_recipe(name) for name in ("mini", "mini.yaml", "recipes/mini", "recipes/mini.yaml")} == {known}


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], r"needs modality and data.folder from you; medcoss finetune classify modality=\.\.\. data.folder=\.\.\.$"),
        (["modality=xray", "train.steps=9"], r"needs data.folder from you; .* modality=xray train.steps=9 data.folder"),
    ],
)
def test_what_a_recipe_leaves_to_the_user_is_named_in_one_sentence(overrides: list[str], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        read_recipe("classify", overrides, kind="finetune")
    assert read_recipe("classify", overrides).title  # to be looked at it needs nothing
    recipe = read_recipe("segment", ["modality=ct", "data.folder=x", "classes={tumour: [2]}"], kind="finetune")
    assert isinstance(recipe, FinetuneRecipe)
    assert (recipe.modality, recipe.data.folder, recipe.classes) == ("ct", "x", {"tumour": [2]})


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
        (
            "kind: pretrian\n",
            r"x.yaml:1: kind: 'pretrian' is none of pretrain, extend, finetune, compare; did you mean pretrain\?",
        ),
        ("kind: [extend]\n", r"x.yaml:1: kind: \['extend'\] is none of"),
        ("kind: pretrain\n", r"stages: this key is required: a list with at least 1 entry"),
        ("kind: pretrain\nstages: []\n", r"x.yaml:2: stages: an empty list where a list with at least 1 entry is"),
        (SMALL + "seed: 1\nseed: 2\n", r"x.yaml:5: seed: the key appears twice"),
        (SMALL + "train: {lr: fast}\n", r"x.yaml:4: train.lr: 'fast' where a number \(above 0\) is allowed"),
        (SMALL + "train: {lr: .inf}\n", r"x.yaml:4: train.lr: inf where a number \(above 0\) is allowed"),
        (SMALL + "train: {lr: .nan}\n", r"x.yaml:4: train.lr: nan where"),
        (SMALL + "train: {epoch: 3}\n", r"x.yaml:4: train.epoch: unknown key; did you mean epochs\?"),
        (SMALL + "train:\n", r"x.yaml:4: train: nothing where a part with keys \(epochs, warmup, batch"),
        (SMALL + "seed: true\n", r"x.yaml:4: seed: true where a whole number \(at least 0\) is allowed"),
        (SMALL + "seed: '3'\n", r"x.yaml:4: seed: '3' where a whole number"),
        (SMALL + "strategy: {mixup: 'no'}\n", r"x.yaml:4: strategy.mixup: 'no' where true or false or null is allowed"),
        (SMALL + "7: 3\n", r"x.yaml:4: 7: unknown key; allowed are profile, official, schema, title"),
        (SMALL + "? [a]\n: 3\n", r"x.yaml:4: this is not YAML \(a key is not a word\)"),
        (SMALL + "title: !!timestamp never\n", r"x.yaml: this is not YAML"),
        (SMALL + "title: \x01\n", r"x.yaml: this is not YAML \(special characters are not allowed\)"),
        (SMALL + 'title: "\\ud800"\n', r"x.yaml:4: this is not YAML \(a text holds half of a character\)"),
        (SMALL + "rehearsal:\n  share: most\n", r"x.yaml:5: rehearsal.share: 'most' where 'proportional' or a number"),
        (SMALL + "rehearsal:\n  share: 0.95\n", r"share: 0.95 where 'proportional' or .* at most 0.9"),
        (SMALL + "encoder: huge\n", r"x.yaml:4: encoder: 'huge' is not one of tiny, small, base, large"),
        (SMALL + "encoder: 5\n", r"x.yaml:4: encoder: 5 where 'tiny' or 'small' or 'base' or 'large' or a part with"),
        (SMALL + "encoder: {width: 100, heads: 3}\n", r"x.yaml:4: encoder: .*width 100 is no multiple of heads 3"),
        (SMALL + "strategy: magic\n", r"x.yaml:4: strategy: 'magic' is none of .*er, .*medcoss, .*sequential"),
        (SMALL + "schema: 2\n", r"x.yaml:4: schema: 2 where 1 is allowed"),
        ("kind: pretrain\nstages:\n  - {modality: xray}\n", r"x.yaml:3: stages.0.data: this key is required: text"),
        ("kind: pretrain\nstages: [xray]\n", r"x.yaml:2: stages.0: 'xray' where a part with keys \(modality, data"),
        ("kind: extend\nencoder: tiny\n", r"x.yaml:2: encoder: unknown key"),
        ("kind: extend\ntrain: !!python/object/apply:os.system [ls]\n", r"x.yaml:2: this is not YAML"),
    ],
)
def test_every_fault_has_its_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=told):
        read_recipe(str(path))


def test_all_faults_are_told_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("knid: pretrain\n" + SMALL[15:] + "train: {epochs: many, btach: 3}\nseed: 0\nseed: -1\n")
    with pytest.raises(RecipeError, match="8 faults") as found:
        read_recipe(str(path), ["data.rot=here", "stages.1.lr=1"])
    lines = str(found.value).splitlines()[1:]
    places = [line.strip().removeprefix(f"{path}:").partition(":")[0] for line in lines]
    assert places[1:6] == ["1", "4", "4", "6", "6"]
    assert "kind: this key is required: pretrain, extend" in lines[0]
    assert lines[-2:] == [
        "  override data.rot=here: data.rot: unknown key; did you mean root?",
        "  override stages.1.lr=1: there is no stages.1; stages has 1, counted from 0",
    ]


@pytest.mark.parametrize("grow", [9, 2000])
def test_aliases_that_grow_without_end_and_deep_nests_are_refused_at_once(tmp_path: Path, grow: int) -> None:
    path = tmp_path / "x.yaml"
    nest = "title: " + "[" * grow + "]" * grow
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghij"))
    for text in (bomb, "data: &d {root: *d}", nest if grow > 20 else bomb):
        path.write_text(SMALL + text)
        with pytest.raises(RecipeError, match="nested too deeply"):
            read_recipe(str(path))


@given(st.text(max_size=60), st.sampled_from(["", SMALL, SMALL + "train: "]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_brings_anything_but_a_recipe_or_an_error(tmp_path: Path, text: str, before: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(before + text, encoding="utf-8", newline="")
    with suppress(RecipeError):
        assert read_recipe(str(path)).kind in ("pretrain", "extend")


@given(st.text(max_size=20), st.text("[]{}:,&*!|>-1ae. '\"\n", max_size=12))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_override_brings_anything_but_a_recipe_or_an_error(small: Path, key: str, value: str) -> None:
    for override in (f"{key}={value}", f"stages.0.{key}={value}", f"train.lr={value}"):
        with suppress(RecipeError):
            read_recipe(str(small), [override])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("epochs", "override epochs: this is not of the form key=value"),
        ("train..lr=3", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("stages.4.size=[1]", "there is no stages.4; stages has 1, counted from 0"),
        ("stages.x=1", "there is no stages.x"),
        ("stages.0.modality.name=1", "stages.0.modality is 'xray', which has no keys"),
        ("train.lr=fast", "override train.lr=fast: train.lr: 'fast'"),
        ("trian.lr=1", "override trian.lr=1: trian: unknown key; did you mean train"),
        ("seed=[", "override seed=\\[: seed: the value is not YAML"),
        ("seed=!!python/name:os.system", "the value is not YAML"),
        ("encoder.width=100", "override encoder.width=100: encoder: width 100 is no multiple of heads 12"),
    ],
)
def test_a_wrong_override_is_told(small: Path, override: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        read_recipe(str(small), [override])


def test_an_override_keeps_what_a_preset_said(small: Path) -> None:
    recipe = pretrain(small, "encoder=tiny", "encoder.depth=2")
    assert (recipe.encoder.width, recipe.encoder.depth, recipe.encoder.heads) == (192, 2, 3)


def test_an_override_of_one_stage_spares_those_that_share_its_alias(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "kind: pretrain\nstages:\n  - &a {modality: xray, data: here, size: &s [64, 64]}\n"
        "  - {<<: *a, modality: ct}\n  - {modality: mri, data: there, size: *s}\n"
    )
    recipe = pretrain(path, "stages.0.size.0=32", "stages.1.data=elsewhere")
    assert [stage.size for stage in recipe.stages] == [[32, 64], [64, 64], [64, 64]]
    assert [stage.data for stage in recipe.stages] == ["here", "elsewhere", "there"]
    assert recipe.stages[1].modality == "ct"


def test_the_kind_must_suit_the_verb(small: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"this recipe is for pretrain, not for extend; run medcoss pretrain .*small.yaml"
    ):
        read_recipe(str(small), kind="extend")
    with pytest.raises(RecipeError, match="not for pretrain; run medcoss extend --recipe extend --modality NAME"):
        read_recipe("extend", kind="pretrain")
    with pytest.raises(RecipeError, match="did you mean mini"):
        read_recipe("minni")


def test_a_resolved_recipe_reads_as_itself(tmp_path: Path) -> None:
    for name in shipped_recipes():
        recipe = read_recipe(name)
        (tmp_path / "again.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        assert read_recipe(str(tmp_path / "again.yaml")) == recipe


def test_the_papers_schedule() -> None:
    recipe = pretrain(Path("medcoss"))
    stages = [(stage.modality, stage.size) for stage in recipe.stages]
    volume, image = [16, 192, 192], [224, 224]
    assert stages == [("report", [112]), ("xray", image), ("ct", volume), ("mri", volume), ("pathology", image)]
    assert (recipe.train.epochs, recipe.train.warmup, recipe.train.batch) == (300, 40, 512)
    assert (recipe.rehearsal.ratio, recipe.rehearsal.share, recipe.encoder.width) == (0.05, "proportional", 768)


def test_editors_accept_a_word_for_the_encoder_and_complete_its_keys() -> None:
    parts = json_schema()["$defs"]
    word, keys = parts["PretrainRecipe"]["properties"]["encoder"]["anyOf"]
    assert word["enum"] == ["tiny", "small", "base", "large"]
    assert set(parts[keys["$ref"].rpartition("/")[2]]["properties"]) >= {"width", "depth", "heads"}


def table_3() -> list[tuple[tuple[bool, ...], list[str]]]:
    """The rows of recipes/README.md: what is in use, and the settings."""
    lines = (Path(__file__).parents[2] / "recipes" / "README.md").read_text().split("| FD |")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()[2:]]
    return [
        (tuple(cell == "yes" for cell in row[:3]), [] if row[3] == "none" else row[3].strip("`").split())
        for row in cells
    ]


def test_the_rows_of_table_3_are_what_they_say() -> None:
    assert len(table_3()) == 5
    for (distill, kmeans, mixup), ways in table_3():
        recipe = read_recipe("medcoss", ways, kind="pretrain")
        assert isinstance(recipe, PretrainRecipe)
        strategy = recipe.strategy.make()
        assert recipe.selection == ("kmeans" if kmeans else "random")
        assert strategy.partners == mixup
        assert getattr(recipe.strategy.settings, "distill", False) == distill


def test_a_setting_of_k_means_is_refused_where_samples_are_chosen_at_random() -> None:
    for ways in (["strategy=er"], ["rehearsal.select=random"]):
        with pytest.raises(RecipeError, match=r"rehearsal.centers has no effect with .*, which chooses at random"):
            read_recipe("mini", [*ways, "rehearsal.centers=0.02"])
    assert read_recipe("mini", ["strategy=er", "rehearsal.select=kmeans", "rehearsal.centers=0.02"])


def test_the_official_profile_of_pretraining_is_what_the_authors_code_does() -> None:
    recipe = read_recipe("medcoss", ["profile=official"], kind="pretrain")
    assert isinstance(recipe, PretrainRecipe)
    train, paper = recipe.train, read_recipe("medcoss").train
    assert (recipe.encoder.width, recipe.encoder.layer_scale) == (768, 1e-3)
    assert (recipe.positions, recipe.decoder.positions, recipe.decoder.width) == ("table", "table", 512)
    assert (train.drop_path, train.mix, train.accumulate, train.batch) == (0.1, True, 4, 512)
    assert train.peak(None, None) == pytest.approx(3e-4), "1.5e-4 * 512 / 256"
    assert train.peak(2e-4, 128) == pytest.approx(1e-4), "of a stage of its own"
    assert recipe.strategy.settings.decoders == "fresh"  # type: ignore[attr-defined]
    assert isinstance(paper, type(train))
    assert (paper.peak(None, None), paper.drop_path, paper.mix) == (1.5e-4, 0.0, False)


def test_a_profile_without_effect_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"profile: official needs the key `official`"):
        read_recipe("mini", ["profile=official"])
