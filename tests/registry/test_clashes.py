"""Two plugins that bring one name: both are named, neither is silently taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.toy_plugins import MODALITY, install, medcoss, modality

GOOD = MODALITY.format(api=1, body=modality("twin"))
STRATEGY = """
from medcoss_cli.plugin import hookimpl
from medcoss_cli.strategies import Strategy
PLUGIN_API = 1
class Careful(Strategy):
    pass
@hookimpl
def medcoss_strategies():
    return [Careful]
"""
RECIPES = """
from pathlib import Path
from medcoss_cli.plugin import hookimpl
PLUGIN_API = 1
@hookimpl
def medcoss_recipes():
    return [Path(__file__).parent / {folder!r} / "shared.yaml"]
"""
TINY = """\
kind: pretrain
encoder: {width: 32, depth: 1, heads: 2}
stages: [{modality: twin, data: here}]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, "one", GOOD, called="twin")
    install(folder, "two", GOOD, called="twin", version="2.0")
    for name, channels in (("left", 1), ("right", 2)):
        body = modality(name, channels=str(channels), tokenizer=f"Patches('patch2d-8-own', channels={channels})")
        install(folder, name, MODALITY.format(api=1, body=body))
    for name in ("calm", "shy"):
        install(folder, name, STRATEGY, "medcoss.strategies", "careful")
    install(folder, "greedy", STRATEGY.replace("Careful", "MedCoSS"), "medcoss.strategies", "medcoss")
    for name in ("here", "there"):
        install(folder, f"recipes_{name}", RECIPES.format(folder=name), "medcoss.recipes", name)
        (folder / name).mkdir()
        (folder / name / "shared.yaml").write_text(TINY)
    for name in ("kind", "kin"):
        install(folder, name, "x = 1", "medcoss.tasks", "kind")
    install(folder, "unkind", "1 / 0", "medcoss.tasks")
    (folder / "tiny.yaml").write_text(TINY)
    return folder


def test_every_clash_is_listed_with_both_distributions(site: Path) -> None:
    answer = medcoss(site, "plugins", "list", "--json")
    assert answer.returncode == 0, answer.stderr
    groups = json.loads(answer.stdout)
    found = {
        (kind, row["distribution"], row["name"]): row["status"]
        for kind in groups
        for row in groups[kind]
        if row["distribution"] not in ("medcoss", "medcoss-ultrasound", "medcoss-slides", "medcoss-cine")
    }
    assert found == {
        ("modalities", "medcoss-x-one", "twin"): "clash: medcoss-x-two 2.0 brings the name twin as well",
        ("modalities", "medcoss-x-two", "twin"): "clash: medcoss-x-one 1.0 brings the name twin as well",
        ("modalities", "medcoss-x-left", "left"): "clash: its tokenizer patch2d-8-own differs from that of right "
        "(medcoss-x-right 1.0); one of its own needs a key of its own, as in patch2d-8-own-left",
        ("modalities", "medcoss-x-right", "right"): "clash: its tokenizer patch2d-8-own differs from that of left "
        "(medcoss-x-left 1.0); one of its own needs a key of its own, as in patch2d-8-own-right",
        ("strategies", "medcoss-x-calm", "careful"): "clash: medcoss-x-shy 1.0 brings the name careful as well",
        ("strategies", "medcoss-x-shy", "careful"): "clash: medcoss-x-calm 1.0 brings the name careful as well",
        ("strategies", "medcoss-x-greedy", "medcoss"): "clash: the name medcoss is taken by medcoss 0.1.0",
        ("tasks", "medcoss-x-kin", "kind"): "clash: medcoss-x-kind 1.0 brings the name kind as well",
        ("tasks", "medcoss-x-kind", "kind"): "clash: medcoss-x-kin 1.0 brings the name kind as well",
        ("tasks", "medcoss-x-unkind", "unkind"): "broken: it cannot be imported (ZeroDivisionError: division by zero)",
        (
            "recipes",
            "medcoss-x-recipes_here",
            "shared",
        ): "clash: medcoss-x-recipes_there 1.0 brings the name shared as well",
        (
            "recipes",
            "medcoss-x-recipes_there",
            "shared",
        ): "clash: medcoss-x-recipes_here 1.0 brings the name shared as well",
    }
    lines = medcoss(site, "plugins", "list").stdout
    assert "medcoss-x-two 2.0 brings the name twin as well" in lines
    assert "medcoss-x-kind 1.0" in lines


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plugins", "info", "twin"], "medcoss-x-one 1.0 and medcoss-x-two 2.0 both bring a modality 'twin'"),
        (["pretrain", "tiny.yaml"], "medcoss-x-one 1.0 and medcoss-x-two 2.0 both bring a modality 'twin'"),
        (
            ["recipes", "show", "shared"],
            "medcoss-x-recipes_here 1.0 and medcoss-x-recipes_there 1.0 both bring a recipe 'shared'",
        ),
        (
            ["pretrain", "mini", "strategy=careful", "--data-root", "."],
            "medcoss-x-calm 1.0 and medcoss-x-shy 1.0 both bring a strategy 'careful'",
        ),
    ],
)
def test_a_name_that_two_bring_is_refused_naming_both(site: Path, arguments: list[str], told: str) -> None:
    answer = medcoss(site, *arguments)
    assert answer.returncode == 3, answer.stderr
    assert told in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_same_distribution_twice_on_the_path_is_no_clash(site: Path, tmp_path: Path) -> None:
    install(tmp_path, "good", MODALITY.format(api=1, body=modality("good")))
    shutil.copytree(tmp_path, tmp_path / "again", ignore=shutil.ignore_patterns("again"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path / "again"))
        rows = json.loads(medcoss(tmp_path, "plugins", "list", "--json").stdout)["modalities"]
    assert [row["status"] for row in rows if row["name"] == "good"] == ["ok"]
