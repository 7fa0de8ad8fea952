"""The verbs `recipes list|show|validate|schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medcoss_cli.recipe.read import shipped_recipes
from medcoss_cli.registry import recipes
from tests.conftest import CommandLine


def test_list_names_every_recipe_and_the_verb_that_takes_it(command_line: CommandLine) -> None:
    answer = command_line("recipes", "list")
    lines = {line.split()[0]: line for line in answer.out.splitlines()[1:]}
    assert set(lines) == set(shipped_recipes()) >= {"demo", "mini", "medcoss", "extend"}
    assert "medcoss extend" in lines["extend"]
    assert "medcoss pretrain" in lines["mini"]
    assert "medcoss finetune" in lines["lits"]
    rows = json.loads(command_line("recipes", "list", "--json").out)
    assert {row["name"]: row["kind"] for row in rows}["extend"] == "extend"


def test_a_plugins_wrong_recipe_does_not_hide_the_others(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong.yaml").write_text("kind: pretrain\ncolour: red\n")
    monkeypatch.setattr(recipes, "plugin_recipes", lambda: {"wrong": tmp_path / "wrong.yaml"})
    answer = command_line("recipes", "list", "--json")
    assert answer.code == 0
    own = set(shipped_recipes()) - {"wrong"}
    assert {row["name"] for row in json.loads(answer.out)} == own >= {"demo", "mini", "medcoss", "extend", "lits"}
    assert "the recipe wrong is passed over" in answer.err
    assert "wrong.yaml:2: colour: unknown key" in answer.err


def test_show_prints_a_recipe_that_validates(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(command_line("recipes", "show", "mini").out)
    assert Path("mine.yaml").read_text() == shipped_recipes()["mini"].read_text()
    answer = command_line("recipes", "validate", "mine.yaml", "train.epochs=3", "--json")
    assert json.loads(answer.out)["train"]["epochs"] == 3
    answer = command_line("recipes", "validate", "mine.yaml")
    assert (answer.code, answer.out) == (0, "")
    assert "mine.yaml is a valid recipe to pretrain" in answer.err


def test_validate_tells_all_faults_at_once(command_line: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("kind: pretrain\nrehersal: {}\ntrain: {epochs: many}\nstages: [{modality: xray, data: x}]\n")
    answer = command_line("recipes", "validate", str(path), "sede=3")
    assert answer.code == 2
    assert answer.err.splitlines() == [
        "error: 3 faults in this recipe:",
        f"  {path}:2: rehersal: unknown key; did you mean rehearsal?",
        f"  {path}:3: train.epochs: 'many' where a number (above 0 and at most 100000) is allowed",
        "  override sede=3: sede: unknown key; did you mean seed?",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "kind: pretrain\nstages: [{modality: xary, data: x}]\n",
        "kind: finetune\ntask: classification\nmodality: xary\ndata: {folder: x}\ntrain: {lr: 0.1, batch: 1, steps: 1}\n",
    ],
    ids=["pretrain", "finetune"],
)
def test_validate_tells_a_modality_that_is_not_installed(command_line: CommandLine, tmp_path: Path, text: str) -> None:
    path = tmp_path / "far.yaml"
    path.write_text(text)
    answer = command_line("recipes", "validate", str(path))
    assert answer.code == 0
    assert answer.err.startswith("note: there is no modality 'xary'; installed are ")
    assert "did you mean xray?" in answer.err


@pytest.mark.parametrize("verb", ["show", "validate"])
def test_an_unknown_recipe_tells_the_nearest_and_all(command_line: CommandLine, verb: str) -> None:
    answer = command_line("recipes", verb, "recipes/minni.yaml")
    assert answer.code == 2
    assert "there is no recipe 'recipes/minni.yaml'; did you mean mini?" in answer.err
    assert all(name in answer.err for name in shipped_recipes())


def test_schema_is_json_schema_of_all_kinds(command_line: CommandLine) -> None:
    schema = json.loads(command_line("recipes", "schema").out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    kinds = {part["properties"]["kind"]["const"] for part in schema["$defs"].values() if "kind" in part["properties"]}
    assert kinds == {"pretrain", "extend", "finetune", "compare"}
