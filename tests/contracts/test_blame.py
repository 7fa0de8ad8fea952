"""What a plugin's own code does wrong is told as its fault, in one sentence; what it prints never spoils an answer."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcoss_cli.registry import discovery
from tests.conftest import CommandLine
from tests.toy_plugins import MODALITY, install, medcoss, modality, put

TOY = """
import os, sys
from dataclasses import dataclass
from medcoss_cli.kit import Grey8, Mirror
@dataclass(frozen=True)
class Wild:
    def __call__(self, batch, generator):
        {augment}
@dataclass(frozen=True)
class Rule(Grey8):
    def decode(self, integers, scale, offset):
        {decode}
@dataclass(frozen=True)
class Folder(ImageFolder):
    def read(self, record):
        {read}
        return super().read(record)
@dataclass(frozen=True)
class Pieces(Patches):
    def build(self, width):
        network = super().build(width)
        def embed(inputs, keep=None, known=network.embed):
            {embed}
            return known(inputs, keep)
        network.embed = embed
        return network
"""
PARTS = {"loader": "Folder()", "intensity": "Rule()", "augment": "Wild()", "tokenizer": "Pieces('patch2d-8')"}
RECIPE = """\
kind: pretrain
encoder: {width: 32, depth: 1, heads: 2}
decoder: {width: 16, depth: 1, heads: 2}
train: {epochs: 1, warmup: 0, batch: 32, precision: fp32}
stages: [{modality: toy, data: toy}]
"""


def toy(**bodies: str) -> str:
    """The plugin, with these bodies in place of harmless ones."""
    given = {
        "augment": "return batch",
        "decode": "return super().decode(integers, scale, offset)",
        "read": "pass",
        "embed": "pass",
        **bodies,
    }
    head, body = MODALITY.split("PLUGIN_API", 1)
    return head + TOY.format(**given) + "PLUGIN_API" + body.format(api=1, body=modality("toy", **PARTS))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with 70 images, enough for worker processes, a recipe, and plugins that are installed there."""
    (tmp_path / "toy").mkdir()
    rng = np.random.default_rng(0)
    for number in range(70):
        Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(tmp_path / "toy" / f"{number}.png")
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    monkeypatch.undo()
    sys.modules.pop("medcoss_x_toy", None)
    discovery.forget()


PRETRAIN = ("pretrain", "tiny.yaml", "--data-root", ".", "data.workers=1")


@pytest.mark.parametrize(
    ("body", "workers", "told"),
    [
        ({"augment": "raise ValueError('no view')"}, 0, r"fails in Wild.__call__ (ValueError: no view)"),
        ({"augment": "raise ValueError('no view')"}, 2, r"fails in Wild.__call__ (ValueError: no view)"),
        ({"augment": "sys.exit(5)"}, 2, r"fails in Wild.__call__ (SystemExit: 5)"),
        ({"augment": "os._exit(7)"}, 2, "a process that reads toy was ended "),
        ({"decode": "return integers.nothing"}, 0, r"fails in Rule.decode (AttributeError"),
        ({"embed": "sys.exit()"}, 0, r"fails in Pieces.build.<locals>.embed (SystemExit)"),
        ({"embed": "return 1 / 0"}, 0, r"fails in Pieces.build.<locals>.embed (ZeroDivisionError: division by zero)"),
    ],
)
def test_what_fails_in_training_is_the_plugins_fault(
    command_line: CommandLine, place: Path, body: dict[str, str], workers: int, told: str
) -> None:
    put(place, "toy", toy(**body))
    answer = command_line(*PRETRAIN, f"train.workers={workers}")
    assert answer.code == 3, answer.err
    last = answer.err.splitlines()[-1]
    assert told in last
    assert "plugin" in last
    assert "toy" in last


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_loader_that_exits_does_not_end_medcoss(command_line: CommandLine, place: Path, workers: str) -> None:
    put(place, "toy", toy(read="sys.exit(0)"))
    answer = command_line("data", "prepare", "toy", "--modality", "toy", "--workers", workers)
    assert answer.code == 3, answer.err
    assert "the plugin toy fails in Folder.read (SystemExit: 0)" in answer.err


@pytest.mark.parametrize(
    ("code", "told"),
    [("0", "with code (0|255)"), ("9", "with code (9|255)")],  # 255: it ended before its parent could read the code
    ids=["0", "9"],
)
def test_a_worker_that_a_loader_ends_is_told(command_line: CommandLine, place: Path, code: str, told: str) -> None:
    put(place, "toy", toy(read=f"os._exit({code})"))
    answer = command_line("data", "prepare", "toy", "--modality", "toy", "--workers", "2")
    assert answer.code == 3, answer.err
    assert re.search(f"a process that reads toy was ended {told} by its plugin", answer.err)


def test_a_worker_that_is_killed_is_told_as_want_of_memory(command_line: CommandLine, place: Path) -> None:
    put(place, "toy", toy(read="os.kill(os.getpid(), 9)"))
    answer = command_line("data", "prepare", "toy", "--modality", "toy", "--workers", "2")
    assert answer.code == 6, answer.err
    assert "possibly out of memory" in answer.err


def test_what_a_plugin_prints_goes_to_standard_error_and_debug_shows_its_own_traceback(place: Path) -> None:
    loud = "print('hello'); os.system('echo from a shell')"
    install(place, "toy", toy(read=loud, augment=f"{loud}; return batch"))
    answer = medcoss(place, "data", "prepare", "toy", "--modality", "toy", "--json", "--workers", "2")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)
    assert "hello" in answer.stderr
    assert "from a shell" in answer.stderr
    install(place, "toy", toy(augment="raise ValueError('no view')"))
    answer = medcoss(place, *PRETRAIN, "train.workers=1", "--debug")
    assert answer.returncode == 3
    assert "raise ValueError('no view')" in answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("error: ")
