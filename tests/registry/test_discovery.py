"""Broken plugins break nothing but themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from medcoss_cli.errors import PluginError, UsageError
from medcoss_cli.recipe.read import read_recipe
from medcoss_cli.registry import discovery, recipes
from tests.toy_plugins import MODALITY, install, medcoss, modality

FUTURE = "API 2, this medcoss speaks 1"
SPEC = 'Patches(key="patch2d-16", channels=1)'
ODD = """from medcoss_cli.plugin import TokenizerSpec
    class Odd:
        def __init__(self, key, **spec): self.key, self.given = key, spec
        @property
        def spec(self): return TokenizerSpec("odd", **self.given)
        def with_key(self, key): return self
        def with_spec(self, spec): return self
        def build(self, width): pass
    """
BROKEN = {
    "raises": ("raise RuntimeError('no licence server')", "cannot be imported (RuntimeError: no licence server)"),
    "leaves": ("import sys; sys.exit(3)", "cannot be imported (SystemExit"),
    "endless": ("def again(): again()\nagain()", "cannot be imported (RecursionError: maximum recursion"),
    "syntax": ("def broken(:", "cannot be imported (SyntaxError"),
    "absent": (None, "cannot be imported (ModuleNotFoundError"),
    "shouts": ("print('hello'); raise KeyError", "cannot be imported (KeyError)"),
    "aborts": ("raise BaseException('enough')", "cannot be imported (BaseException: enough)"),
    "nothing": (MODALITY.format(api=1, body="return []"), "medcoss_modalities is missing or returns nothing"),
    "unhooked": ("PLUGIN_API = 1", "medcoss_modalities is missing or returns nothing"),
    "arguments": (
        MODALITY.format(api=1, body=modality("arguments")).replace("modalities()", "modalities(x)"),
        "cannot be registered (PluginValidationError",
    ),
    "classy": (
        MODALITY.format(api=1, body=modality("classy", loader="ImageFolder")),
        "loader is the class ImageFolder, not an object of it",
    ),
    "square": (MODALITY.format(api=1, body=modality("square", size="(32,)")), "size is (32,), not 2 positive"),
    "flat": (MODALITY.format(api=1, body=modality("flat", dims="0")), "dims is 0, not 1, 2 or 3"),
    "odd_size": (MODALITY.format(api=1, body=modality("odd_size", size="(40, 32)")), "no multiple of its tokenizer's"),
    "two_tone": (
        MODALITY.format(api=1, body=modality("two_tone", channels="2")),
        'its tokenizer 3; 2 need a tokenizer of their own: Patches("patch2d-16-two_tone", channels=2)',
    ),
    "misfit": (
        MODALITY.format(api=1, body=modality("misfit", tokenizer="Patches('patch3d-16')")),
        "no multiple of its tokenizer's patch (16, 16, 16)",
    ),
    "badkey": (
        MODALITY.format(api=1, body=modality("badkey", tokenizer="Patches('patch 2.d')")),
        "hook medcoss_modalities fails (tokenizer key 'patch 2.d'",
    ),
    "dotted": (
        MODALITY.format(api=1, body=ODD + modality("dotted", tokenizer="Odd('a.b', patch=(8, 8))")),
        "without a dot",
    ),
    "coded": (
        MODALITY.format(api=1, body=ODD + modality("coded", tokenizer="Odd('a', extra={'f': print})")),
        "no plain value",
    ),
    "patchless": (MODALITY.format(api=1, body=ODD + modality("patchless", tokenizer="Odd('a')")), "spec says no patch"),
    "deaf": (
        MODALITY.format(api=1, body=ODD + modality("deaf", tokenizer="Odd('patch2d-16', patch=(8, 8), channels=3)")),
        "its tokenizer's key patch2d-16 says a patch of (16, 16), its spec (8, 8)",
    ),
    "explosive": (
        MODALITY.format(api=1, body=ODD + modality("explosive", tokenizer="Odd('a', size=3)")),
        "cannot be looked at (TypeError",
    ),
    "silent": ("x = 1", "does not say PLUGIN_API = 1"),
    "partless": (
        MODALITY.format(api=1, body=modality("partless", loader="object()")),
        "its loader object lacks find and read (medcoss_cli.plugin.Loader describes them)",
    ),
    "wrong": (MODALITY.format(api=1, body="return ['a string']"), "returns str, not Modality"),
    "hookless": (MODALITY.format(api=1, body="return 1 / 0"), "hook medcoss_modalities fails (ZeroDivisionError"),
    "xray": (MODALITY.format(api=1, body=modality("xray")), "the name xray is taken by medcoss 0.1.0"),
    "othername": (
        MODALITY.format(api=1, body=modality("another")),
        "brings another, but its entry point is called othername",
    ),
    "otherspec": (MODALITY.format(api=1, body=modality("otherspec", tokenizer=SPEC)), "as in patch2d-16-otherspec"),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed distributions, each broken in its own way, and one that works."""
    folder = tmp_path_factory.mktemp("site")
    for name, (code, _) in BROKEN.items():
        install(folder, name, code)
    install(folder, "good", MODALITY.format(api=1, body=modality("good")))
    leads = {"dims": "1", "size": "(64,)", "channels": "12", "tokenizer": "Patches('patch1d-16-leads', channels=12)"}
    install(folder, "leads", MODALITY.format(api=1, body=modality("leads", **leads)))
    install(folder, "future", MODALITY.format(api=2, body=modality("future")))
    return folder


def test_each_is_listed_with_its_reason_and_the_good_ones_work(broken: Path) -> None:
    answer = medcoss(broken, "plugins", "list", "--json")
    assert answer.returncode == 0, answer.stderr
    found = {(row["distribution"], row["name"]): row["status"] for row in json.loads(answer.stdout)["modalities"]}
    for name, (_, reason) in BROKEN.items():
        status = found[(f"medcoss-x-{name}", name)]
        assert status.startswith("clash: " if name in ("xray", "otherspec") else "broken: "), name
        assert reason in status, status
    assert found[("medcoss-x-future", "future")] == FUTURE
    assert found[("medcoss-x-good", "good")] == found[("medcoss-x-leads", "leads")] == "ok"
    assert found[("medcoss", "xray")] == "ok"


def test_those_that_cannot_be_used_are_listed_apart(broken: Path) -> None:
    usable, _, others = medcoss(broken, "plugins", "list").stdout.partition("These cannot be used\n")
    heads = ("modality ", "strategy ", "task ")
    assert all(line.endswith(" ok") for line in usable.splitlines() if not line.startswith(heads))
    assert any(line.startswith("good ") for line in usable.splitlines())
    assert len(others.splitlines()) == 1 + len(BROKEN) + 1  # the head, and future
    assert "medcoss-x-raises 1.0" in others


@pytest.mark.parametrize(
    "arguments",
    [
        ["recipes", "list"],
        ["recipes", "validate", "mini"],
        ["plugins", "info", "xray"],
        ["data", "demo", "xray", "out", "--count", "2"],
        ["--help"],
    ],
)
def test_every_other_verb_still_works(broken: Path, arguments: list[str]) -> None:
    answer = medcoss(broken, *arguments)
    assert answer.returncode == 0, answer.stderr


def test_doctor_tells_both_of_one_name(broken: Path) -> None:
    answer = medcoss(broken, "doctor", "--json")
    assert answer.returncode == 0, answer.stderr
    plugins = json.loads(answer.stdout)["plugins"]
    assert plugins["xray"].endswith(": ok")
    assert plugins["xray (medcoss-x-xray)"].endswith("clash: the name xray is taken by medcoss 0.1.0")


def test_check_tells_what_a_plugin_is_beside_the_others(broken: Path) -> None:
    answer = medcoss(broken, "plugins", "check", "otherspec")
    assert answer.returncode == 3
    assert "its tokenizer patch2d-16 differs from that of" in answer.stderr


@pytest.mark.parametrize(
    ("name", "told"), [("future", FUTURE), *((name, BROKEN[name][1]) for name in ("raises", "leaves", "partless"))]
)
def test_naming_a_broken_one_tells_why(broken: Path, name: str, told: str) -> None:
    answer = medcoss(broken, "plugins", "info", name)
    assert answer.returncode == 3
    assert told in answer.stderr
    assert f"pip install --upgrade {'medcoss ' if told == FUTURE else ''}medcoss-x-{name}" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_what_a_plugin_prints_does_not_spoil_an_answer(broken: Path) -> None:
    answer = medcoss(broken, "plugins", "list", "--json")
    assert "hello" not in answer.stdout
    assert "hello" in answer.stderr


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to install into, seen by this process."""
    monkeypatch.syspath_prepend(str(tmp_path))
    discovery.forget()
    yield tmp_path
    monkeypatch.undo()
    discovery.forget()


def test_unreadable_metadata_hides_no_other_plugin(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = discovery.names()
    install(site, "spoilt", None)
    (site / "medcoss_x_spoilt-1.0.dist-info" / "entry_points.txt").write_text("[medcoss]\nno equals sign\n")
    discovery.forget()
    assert discovery.names() == before


def test_a_strategy_comes_as_a_class_or_through_the_hook(site: Path) -> None:
    hook = """
from medcoss_cli.plugin import hookimpl
from medcoss_cli.strategies import Strategy
PLUGIN_API = 1
class Careful(Strategy):
    pass
class Bold(Strategy):
    name = "very_bold"
@hookimpl
def medcoss_strategies():
    return [Careful, Bold]
"""
    install(site, "one", hook, "medcoss.strategies", "careful")
    install(site, "two", hook, "medcoss.strategies", "very_bold")
    install(site, "three", hook, "medcoss.strategies", "shy")
    install(site, "four", "PLUGIN_API = 1", "medcoss.strategies", "empty")
    install(site, "five", hook, "medcoss.strategies", "direct")
    entry = site / "medcoss_x_five-1.0.dist-info" / "entry_points.txt"
    entry.write_text("[medcoss.strategies]\ndirect = medcoss_x_five:Careful\nwrong = medcoss_x_five:hookimpl\n")
    discovery.forget()
    assert {"careful", "very_bold", "shy", "empty", "direct", "medcoss"} <= set(discovery.strategy_names())
    assert discovery.load_strategy("careful").__name__ == "Careful"
    assert discovery.load_strategy("very_bold").__name__ == "Bold"
    assert discovery.load_strategy("direct").__name__ == "Careful"
    with pytest.raises(PluginError, match="it brings careful, very_bold, but its entry point is called shy"):
        discovery.load_strategy("shy")
    with pytest.raises(PluginError, match="missing or returns nothing"):
        discovery.load_strategy("empty")
    with pytest.raises(PluginError, match="does not say PLUGIN_API"):
        discovery.load_strategy("wrong")


def test_recipes_come_through_the_hook_and_never_replace_medcosss_own(site: Path) -> None:
    text = "kind: pretrain\ntitle: From a plugin\nstages: [{modality: good, data: here}]\n"
    for name in ("mini.yaml", "mine.yaml"):
        (site / name).write_text(text)
    hook = f"""
from pathlib import Path
from medcoss_cli.plugin import hookimpl
PLUGIN_API = 1
@hookimpl
def medcoss_recipes():
    return [Path({str(site)!r}) / name for name in ("mini.yaml", "mine.yaml")]
"""
    install(site, "brings", hook, "medcoss.recipes")
    install(site, "forgets", hook.replace("mine", "lost"), "medcoss.recipes")
    install(site, "fails", "1 / 0", "medcoss.recipes")
    discovery.forget()
    assert read_recipe("mine").title == "From a plugin"
    assert read_recipe("mini").title != "From a plugin"
    statuses = {status.name: status.status for status in recipes.recipe_statuses()}
    assert statuses["mine"] == "ok"
    assert statuses["mini"] == "clash: the name mini is taken by medcoss"
    assert statuses["forgets"] == "broken: its recipe lost.yaml is not there"
    assert statuses["fails"].startswith("broken: it cannot be imported (ZeroDivisionError")


def test_names_come_from_metadata_alone() -> None:
    assert {"report", "xray", "ct", "mri", "pathology"} <= set(discovery.names())
    assert discovery.distribution_of("xray").startswith("medcoss ")


def test_an_unknown_modality_or_strategy_is_told() -> None:
    with pytest.raises(PluginError, match="did you mean pathology"):
        discovery.load_modality("patology")
    with pytest.raises(PluginError, match=r"installed are .*xray") as refused:
        discovery.load_modality("sonar")
    assert "pip install" not in str(refused.value)
    with pytest.raises(UsageError, match="there is no strategy"):
        discovery.load_strategy("magic")
    assert {"medcoss", "sequential", "er"} <= set(discovery.strategy_names())
