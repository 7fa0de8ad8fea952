"""`checkpoint show|strip` as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medcoss_cli.cli import app
from medcoss_cli.store import checkpoint
from tests.store.example import example


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *a: None)
    checkpoint.save(example(), tmp_path / "ckpt.pt")
    return tmp_path / "ckpt.pt"


def medcoss(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["medcoss", "checkpoint", *arguments])
    try:
        app.main()
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def test_show_says_first_what_is_private(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medcoss(monkeypatch, "show", "ckpt.pt") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Private: holds 10 real samples (5 from xray, 5 from pathology)")
    text = "\n".join(lines)
    assert "8 x 8" in text
    table = [line.split() for line in lines]
    columns = [
        "stage",
        "modality",
        "strategy",
        "trained",
        "on",
        "epochs",
        "steps",
        "of",
        "them",
        "old",
        "loss",
        "least",
        "remembered",
    ]
    assert columns in table
    assert ["1", "xray", "medcoss", "10", "3", "4", "1", "0.5"] in table
    assert ["2", "pathology", "medcoss", "10", "7", "4", "1", "0.5", "0.9"] in table
    assert "Vocabulary words: 2 pieces" in lines
    assert "Least remembered: xray, 0.900" in lines
    assert "Written with medcoss 0.1.0, torch 2.10" in lines


def test_show_takes_a_run_folder_and_answers_programs(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medcoss(monkeypatch, "show", str(path.parent), "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["modalities"]["xray"]["buffer"] == 3
    assert facts["modalities"]["xray"]["anchors"] == 2
    assert facts["weights"] == 8 + 256 + 128
    assert facts["lowest"] == ["xray", 0.9]
    assert [stage["epochs"] for stage in facts["stages"]] == [3, 7]


def test_show_of_a_checkpoint_before_its_first_stage_and_of_a_strangers(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(path, weights_only=True)
    content["history"] = []
    content["vocabularies"] = {"words": "no JSON"}
    content["modalities"]["xray"]["distribution"] = "\x1b[2Jcleared"
    torch.save(content, path)
    assert medcoss(monkeypatch, "show", "ckpt.pt") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "Least remembered" not in out
    assert "Written with" not in out


def test_strip_writes_a_shareable_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medcoss(monkeypatch, "strip", "ckpt.pt", "encoder.safetensors") == 0
    assert "encoder.safetensors" in capsys.readouterr().err
    assert Path("encoder.safetensors").exists()
    assert medcoss(monkeypatch, "strip", "ckpt.pt", "ckpt.pt") == 2
    checkpoint.load(path)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "nowhere.pt"], 5, "does not exist"),
        (["show", "bad.pt"], 5, "not a checkpoint"),
        (["strip", "bad.pt", "out.safetensors"], 5, "bad.pt"),
        (["strip", "ckpt.pt"], 2, ""),
        (["show", "folder"], 5, "no ckpt.pt in this folder"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_an_exit_code(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    Path("bad.pt").write_bytes(b"no checkpoint")
    Path("folder").mkdir()
    assert medcoss(monkeypatch, *arguments) == code
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert not Path("out.safetensors").exists()


def test_help_has_examples_and_imports_no_torch() -> None:
    code = (
        "import sys\nfrom medcoss_cli.cli.app import main\n"
        "sys.argv = ['medcoss', 'checkpoint', sys.argv[1], '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    )
    for verb in ("show", "strip"):
        done = subprocess.run([sys.executable, "-c", code, verb], capture_output=True, text=True, check=True)
        assert f"Example: medcoss checkpoint {verb}" in done.stdout
