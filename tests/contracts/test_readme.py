"""Every command of README.md that uses data runs, one after the other, in a fresh folder.

They are split as a shell splits them and run in this process, where torch is imported once; those that train get fewer
steps and a small input at the end of the line, so that this takes seconds.
"""

from __future__ import annotations

import csv
import shlex
import shutil
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.pretraining_runs import write_demo

README = Path(__file__).parents[2] / "README.md"


def lines_of(section: str) -> list[list[str]]:
    """The words of each command of a section, as a shell hands them on: without the comment behind them."""
    text = README.read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    return [shlex.split(line[2:], comments=True) for line in text.splitlines() if line.startswith("$ ")]


def your_own_data(root: Path) -> None:
    """What the README's reader has: X-rays and CT scans in folders, and X-rays sorted into a subfolder per class."""
    write_demo(root, xray=24, ct=4)
    shutil.move(root / "xray" / "images", root / "my-xrays")
    shutil.move(root / "ct", root / "my-cts")
    (root / "my-cts" / "manifest.csv").unlink()
    shutil.rmtree(root / "my-cts" / "masks", ignore_errors=True)
    with (root / "xray" / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            folder = root / "my-labels" / row["label"]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / "my-xrays" / Path(row["path"]).name, folder)
    shutil.rmtree(root / "xray")


SHORT = {
    "pretrain": ["train.epochs=1", "train.warmup=0", "stages.0.size=[64,64]"],
    "extend": ["train.epochs=1", "train.warmup=0", "train.batch=16"],
    "finetune": ["train.steps=4", "train.warmup=0", "train.batch=8"],
}


@pytest.mark.parametrize("section", ["With your own data", "With synthetic data"])
def test_the_commands_run_as_typed(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    if section == "With your own data":
        your_own_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = lines_of(section)
    assert len(commands) >= 6
    for program, verb, *rest in commands:
        assert program == "medcoss"
        answer = command_line(verb, *rest, *SHORT.get(verb, []))
        assert answer.code == 0, f"{verb} {shlex.join(rest)}\n{answer.out}\n{answer.err}"
