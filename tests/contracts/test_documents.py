"""What README and recipes say is so."""

from __future__ import annotations

import json
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from medcoss_cli import __version__, conformance, errors
from medcoss_cli.cli.app import VERBS, app
from medcoss_cli.kit import Patches
from medcoss_cli.plugin import PLUGIN_API, Modality
from medcoss_cli.recipe import parts as recipe_parts
from medcoss_cli.recipe.read import json_schema, read_recipe, shipped_recipes
from medcoss_cli.store import checkpoint
from tests.pretraining_runs import train, write_demo

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "plugins/README.md", "recipes/README.md")),
    *sorted(REPOSITORY.glob("plugins/medcoss-*/README.md")),
]


def commands() -> list[str]:
    """Every `medcoss ...` that a document shows."""
    found: list[str] = []
    for path in DOCUMENTS:
        text = path.read_text()
        found += re.findall(r"(?m)^(?:\$ |    )(medcoss .+?)(?:\s{2,}#.*)?$", text)
        found += re.findall(r"`(medcoss [a-z][^`]*)`", text)
    return found


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_a_command_in_the_documents_exists(command: str) -> None:
    words = shlex.split(command.partition(">")[0])[1:]
    group = get_command(app)
    verb = group.get_command(None, words[0])  # type: ignore[attr-defined]  # it is a group
    known = verb
    for word in words[1:]:
        if hasattr(known, "commands") and re.fullmatch(r"[a-z]+", word.rstrip(",")):
            assert word.rstrip(",") in known.commands, command
            known = known.commands[word.rstrip(",")]
            break
    options = {option for parameter in known.params for option in parameter.opts}
    for word in words[1:]:
        if word.startswith("--") and word != "--help":
            assert word in options, f"{word} in {command}"


def test_every_verb_has_help_with_an_example() -> None:
    group = get_command(app)
    for name in VERBS:
        verb = group.get_command(None, name)  # type: ignore[attr-defined]  # it is a group
        for command in getattr(verb, "commands", {name: verb}).values():
            assert "Example: medcoss " in (command.help or ""), command.name


def test_every_exit_code_is_documented() -> None:
    section = README.split("## Exit codes")[1].split("##")[0]
    documented = {int(code) for code in re.findall(r"(?m)^\| (\d+) \| [a-z]", section)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MedcossError)]
    assert documented == {0} | {kind.exit_code for kind in kinds}


def test_the_changelog_names_the_versions_of_the_contracts() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    assert re.findall(r"(?m)^## \[(\d[^]]*)\]", text)[0] == __version__
    for contract, version in (
        ("Plugin API", PLUGIN_API),
        ("Checkpoint schema", checkpoint.SCHEMA),
        ("Recipe schema", recipe_parts.SCHEMA),
    ):
        assert re.findall(rf"(?m)^- {contract} (\d+)", text)[:1] == [str(version)]


def test_the_modality_in_ten_lines_is_one() -> None:
    code = README.split("## A modality in ten lines")[1].split("```python")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    from medcoss_cli.registry import validate

    space: dict[str, object] = {}
    exec(compile(code, "README", "exec"), space)
    (modality,) = space["medcoss_modalities"]()  # type: ignore[operator]  # defined by the README
    assert isinstance(modality, Modality)
    assert validate.check(modality).tokenizer is not None


def test_the_features_that_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_demo(tmp_path / "data", report=20, xray=20)
    train(tmp_path, data, "train.epochs=0.2", "train.warmup=0", name="mine")
    write_demo(tmp_path, xray=4)
    (tmp_path / "xray").rename(tmp_path / "scans")
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    exec(compile(README.split("## What comes out")[1].split("```python")[1].split("```")[0], "README", "exec"), space)
    assert space["features"].shape == space["of_files"].shape == (4, 32)
    told = re.findall(r"(?m)^\| (`.*?) \| ", README.split("## What comes out")[1].split("```python")[0])[1:]
    for name in re.findall(r"`([^`]+)`", " ".join(told)):
        assert list(Path("runs/mine").glob(name.replace("<n>-<modality>", "*"))), name


def write_recordings(root: Path, count: int, seed: int) -> None:
    """A demo set for the loader that plugins/README.md shows."""
    root.mkdir(parents=True)
    rows = ["path,split,group"]
    for i in range(count):
        beat = np.sin(np.arange(600) / (9 + i + 7 * seed)) * np.arange(100, 1300, 100)[:, None]
        beat.astype(np.int16).tofile(root / f"{i}.rec")
        rows.append(f"{i}.rec,{'test' if i == 4 else 'train'},p{i}")
    (root / "manifest.csv").write_text("\n".join(rows))


def test_the_loader_that_authors_are_shown_conforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (REPOSITORY / "plugins" / "README.md").read_text()
    (tmp_path / "shown_loader.py").write_text(text.split("```python")[1].split("```")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        "medcoss_cli.conformance.modality.imported_by", lambda modules: {}
    )  # of this file: it imports numpy
    loader = import_module("shown_loader").Recordings()
    (tokenizer,) = re.findall(r'Patches\("(patch1d-16-ecg)", channels=12\)', text)
    parts: dict[str, Any] = {"tokenizer": Patches(tokenizer, channels=12), "demo": write_recordings}
    modality = Modality("ecg", "ECG", dims=1, size=(64,), channels=12, loader=loader, **parts)
    assert conformance.check(modality, tmp_path / "set") == []


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_is_valid_and_names_its_schema(name: str) -> None:
    path = shipped_recipes()[name]
    assert read_recipe(str(path)).title
    schema = "../schema.json" if "/" in name else "schema.json"
    assert path.read_text().startswith(f"# yaml-language-server: $schema={schema}\n")


def test_the_schema_file_is_up_to_date() -> None:
    assert json.loads((REPOSITORY / "recipes" / "schema.json").read_text()) == json_schema()


def test_every_recipe_key_is_documented() -> None:
    text = (REPOSITORY / "recipes" / "README.md").read_text()
    definitions = json_schema()["$defs"]
    for part, schema in definitions.items():
        for key in schema["properties"]:
            assert re.search(rf"[`.]{key}[`.\[]", text), f"{part}.{key}"
