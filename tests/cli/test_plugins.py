"""The verbs `plugins list|info|new|check`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medcoss_cli.registry import discovery
from tests.conftest import CommandLine


def test_list_tells_what_is_installed(command_line: CommandLine) -> None:
    answer = command_line("plugins", "list")
    assert answer.code == 0
    lines = {line.split()[0]: line for line in answer.out.splitlines()}
    assert set(lines) == {
        *("modality", "strategy", "task"),
        *(*discovery.names(), *discovery.strategy_names(), *discovery.task_names()),
    }
    assert "16 x 192 x 192" in lines["ct"]
    assert "patch3d-16" in lines["ct"]
    assert lines["ct"].endswith("ok")
    groups = json.loads(command_line("plugins", "list", "--json").out)
    rows = groups["modalities"]
    assert [row["name"] for row in rows] == discovery.names()
    assert [row["name"] for row in groups["strategies"]] == discovery.strategy_names()
    assert {row["distribution"] for row in groups["strategies"]} == {"medcoss"}
    assert next(row for row in rows if row["name"] == "report")["size"] == [112]


def test_info_tells_every_part(command_line: CommandLine) -> None:
    answer = command_line("plugins", "info", "xray", "--json")
    facts = json.loads(answer.out)
    assert facts["tokenizer"]["key"] == "patch2d-16"
    assert facts["loader"].startswith("ImageFolder(")
    assert {"loader", "intensity", "augment", "tokenizer", "decoder", "demo"} <= set(facts)
    plain = command_line("plugins", "info", "xray").out
    assert [line.split()[0] for line in plain.splitlines()] == list(facts)


@pytest.mark.parametrize("verb", ["info", "check"])
def test_an_unknown_name_tells_the_nearest_and_names_nothing_to_install(command_line: CommandLine, verb: str) -> None:
    answer = command_line("plugins", verb, "xrya")
    assert answer.code == 3
    assert answer.err.startswith("error: there is no modality 'xrya'; installed are ")
    assert "did you mean xray?" in answer.err
    assert "pip" not in answer.err  # a mistyped name could be anybody's package


def test_new_writes_images_unless_told_otherwise(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = command_line("plugins", "new", "endoscopy")
    assert answer.code == 0
    assert "pip install -e medcoss-endoscopy" in answer.err
    assert "dims=2" in Path("medcoss-endoscopy/medcoss_endoscopy/__init__.py").read_text()
    assert command_line("plugins", "new", "ecg", "--dims", "1", "--where", "mine").code == 0
    assert "SignalFolder()" in Path("mine/medcoss-ecg/medcoss_ecg/__init__.py").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ECG"], "'ECG' cannot name a modality"),
        (["../ecg"], "cannot name a modality"),
        (["ct"], "the name ct is taken by an installed modality"),
        (["ecg", "--dims", "4"], "--dims"),
        (["there"], "the folder is there already"),
    ],
)
def test_new_refuses_with_one_sentence(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("medcoss-there").mkdir()
    answer = command_line("plugins", "new", *arguments)
    assert answer.code == 2
    assert told in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["medcoss-there"]


def test_check_tells_whether_a_modality_conforms(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = discovery.load_modality("xray").with_size((32, 32))
    monkeypatch.setattr(discovery, "load_modality", lambda name: small)
    answer = command_line("plugins", "check", "xray")
    assert (answer.code, answer.out) == (0, "")
    assert "xray conforms to plugin API 1" in answer.err
    monkeypatch.setattr(discovery, "load_modality", lambda name: replace(small, demo=None))
    answer = command_line("plugins", "check", "xray", "--json")
    assert answer.code == 3
    assert "error: xray does not conform" in answer.err
    told = json.loads(answer.out)
    assert told["conforms"] is False
    assert "it has no demo" in told["faults"][0]
    assert "medcoss plugins check xray --data DIR" in told["faults"][0]
    assert small.demo is not None
    small.demo(tmp_path / "scans", 8, 0)
    answer = command_line("plugins", "check", "xray", "--data", str(tmp_path / "scans"))
    assert answer.code == 0, answer.err
    answer = command_line("plugins", "check", "xray", "--data", str(tmp_path / "nowhere"))
    assert answer.code == 2
    assert "there is no such folder" in answer.err
