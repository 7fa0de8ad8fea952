"""Broken plugins break nothing but themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medcoss_cli import discovery
from medcoss_cli.errors import PluginError, UsageError

MODALITY = """
from medcoss_cli.kit import ImageFolder, Patches
from medcoss_cli.plugin import Modality, hookimpl
PLUGIN_API = {api}
@hookimpl
def medcoss_modalities():
    {body}
"""


def modality(name: str, **parts: str) -> str:
    given = {"title": repr(name), "dims": "2", "size": "(32, 32)", "channels": "1", "loader": "ImageFolder()", **parts}
    arguments = ", ".join(f"{key}={value}" for key, value in given.items())
    return f"return [Modality(name={name!r}, {arguments})]"


SPEC = 'Patches(key="patch2d-16", channels=1)'
BROKEN = {
    "raises": ("raise RuntimeError('no licence server')", "cannot be imported (RuntimeError: no licence server)"),
    "leaves": ("import sys; sys.exit(3)", "cannot be imported (SystemExit"),
    "syntax": ("def broken(:", "cannot be imported (SyntaxError"),
    "absent": (None, "cannot be imported (ModuleNotFoundError"),
    "future": (MODALITY.format(api=2, body=modality("future")), "speaks plugin API 2, this medcoss speaks 1"),
    "silent": ("x = 1", "does not say PLUGIN_API = 1"),
    "partless": (
        MODALITY.format(api=1, body=modality("partless", loader="object()")),
        "loader is object, which lacks a part",
    ),
    "wrong": (MODALITY.format(api=1, body="return ['a string']"), "returns str, not Modality"),
    "hookless": (MODALITY.format(api=1, body="return 1 / 0"), "hook medcoss_modalities fails (ZeroDivisionError"),
    "xray": (MODALITY.format(api=1, body=modality("xray")), "the name is taken by medcoss"),
    "othername": (
        MODALITY.format(api=1, body=modality("another")),
        "brings another, but its entry point is called othername",
    ),
    "otherspec": (MODALITY.format(api=1, body=modality("otherspec", tokenizer=SPEC)), "tokenizer patch2d-16 differs"),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed distributions, each broken in its own way, and one that works."""
    folder = tmp_path_factory.mktemp("site")
    good = {"good": (MODALITY.format(api=1, body=modality("good")), "")}
    for name, (code, _) in {**BROKEN, **good}.items():
        info = folder / f"medcoss_x_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: medcoss-x-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[medcoss]\n{name} = medcoss_x_{name}\n")
        if code is not None:
            (folder / f"medcoss_x_{name}.py").write_text(code)
    return folder


def medcoss(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "medcoss_cli", *arguments]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, cwd=site, capture_output=True, text=True, check=False
    )


def test_each_is_listed_with_its_reason_and_the_good_ones_work(broken: Path) -> None:
    answer = medcoss(broken, "plugins", "list", "--json")
    assert answer.returncode == 0, answer.stderr
    found = {(row["distribution"], row["name"]): row["status"] for row in json.loads(answer.stdout)}
    for name, (_, reason) in BROKEN.items():
        status = found[(f"medcoss-x-{name}", name)]
        assert status.startswith("broken: "), name
        assert reason in status, status
    assert found[("medcoss-x-good", "good")] == "ok"
    assert found[("medcoss", "xray")] == "ok"


@pytest.mark.parametrize(
    "arguments",
    [
        ["recipes", "list"],
        ["recipes", "validate", "mini"],
        ["plugins", "info", "xray"],
        ["data", "demo", "xray", "out", "--count", "2"],
        ["doctor", "--json"],
        ["--help"],
    ],
)
def test_every_other_verb_still_works(broken: Path, arguments: list[str]) -> None:
    answer = medcoss(broken, *arguments)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", ["raises", "future", "partless"])
def test_naming_a_broken_one_tells_why(broken: Path, name: str) -> None:
    answer = medcoss(broken, "plugins", "info", name)
    assert answer.returncode == 3
    assert BROKEN[name][1] in answer.stderr
    assert "Traceback" not in answer.stderr


def test_names_come_from_metadata_alone() -> None:
    assert {"report", "xray", "ct", "mri", "pathology"} <= set(discovery.names())
    assert discovery.distribution_of("xray").startswith("medcoss ")


def test_an_unknown_modality_or_strategy_is_told() -> None:
    with pytest.raises(PluginError, match="did you mean pathology"):
        discovery.load_modality("patology")
    with pytest.raises(UsageError, match="there is no strategy"):
        discovery.load_strategy("magic")
    assert {"medcoss", "sequential", "er"} <= set(discovery.strategy_names())
