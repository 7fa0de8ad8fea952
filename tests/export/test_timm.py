"""`export --format timm`: plain timm, with the words of the card, gives the features that medcoss gives."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from medcoss_cli.pretraining.state import read_state
from medcoss_cli.store import checkpoint
from tests.conftest import CommandLine
from tests.pretraining_runs import train, write_demo


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timm")
    data = write_demo(tmp_path_factory.mktemp("data"), report=40, xray=40)
    train(folder, data, "train.lr=1e-2")
    return folder / "runs" / "run" / "ckpt.pt"


@pytest.fixture
def medcoss(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    return command_line


def of_card(path: Path) -> Any:
    """The model that the card's line makes."""
    line = next(line for line in path.read_text().splitlines() if line.startswith("model = timm.create_model("))
    call = ast.parse(line).body[0].value  # type: ignore[attr-defined]  # an assignment of a call
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    return timm.create_model(ast.literal_eval(call.args[0]), **given).eval()


@torch.no_grad()
def test_plain_timm_gives_the_same_features(medcoss: CommandLine, start: Path, tmp_path: Path) -> None:
    answer = medcoss("export", str(start), "--modality", "xray", "--format", "timm", "-o", "xray.safetensors")
    assert answer.code == 0, answer.err
    model, theirs = read_state(start).model.eval(), of_card(tmp_path / "xray.safetensors.md")
    images = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    grey = images.expand(-1, 3, -1, -1)
    ours, found = model.encode("xray", images), theirs.forward_features(grey)
    torch.testing.assert_close(found[:, 1:], ours[:, 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(theirs(grey), model.pooled("xray", images), rtol=0, atol=1e-5)
    apart = ours[:, 0] - found[:, 0]
    assert apart.std() < 1e-5
    lacks = float((tmp_path / "xray.safetensors.md").read_text().split("they lack ")[1].split()[0])
    assert float(apart.mean()) == pytest.approx(lacks, abs=1e-5)


def test_the_card_and_the_file_hold_nothing_private(medcoss: CommandLine, start: Path, tmp_path: Path) -> None:
    assert medcoss("export", str(start), "--modality", "xray", "--format", "timm", "-o", "x.safetensors").code == 0
    for path in tmp_path.iterdir():
        assert str(start.parent).encode() not in path.read_bytes(), path


def test_what_timm_cannot_be(medcoss: CommandLine, start: Path, tmp_path: Path) -> None:
    common = ("export", str(start), "--format", "timm", "-o", "x.safetensors")
    answer = medcoss(*common, "--modality", "report")
    assert answer.code == 8
    assert "three channels" in answer.err
    assert medcoss(*common).code == 2
    assert medcoss(*common, "--modality", "xray", "--precision", "int8").code == 2
    assert medcoss("export", str(start), "--format", "timm", "--modality", "xray", "-o", "x.onnx").code == 2
    assert medcoss("export", str(start), "--format", "tflite").code == 2
    known = checkpoint.load(start)
    known.weights["encoder.cls"] = known.weights["encoder.cls"] + 50 * torch.randn(1, 1, 32)
    checkpoint.save(known, tmp_path / "loud.pt")
    answer = medcoss("export", "loud.pt", "--format", "timm", "--modality", "xray", "-o", "x.safetensors")
    assert answer.code == 8
    assert "cls token" in answer.err
    assert not (tmp_path / "x.safetensors").exists()
