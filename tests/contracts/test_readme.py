"""Every command of README.md that uses data runs, one after the other, in a fresh folder.

They run as typed; those that train get fewer steps at the end of the line, so that this takes seconds.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pretraining_runs import write_demo

README = Path(__file__).parents[2] / "README.md"


def lines_of(section: str) -> list[str]:
    """The commands of a section, as a reader copies them, without the comment behind them."""
    text = README.read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    return [re.split(r"\s{2,}#", line[2:])[0] for line in text.splitlines() if line.startswith("$ ")]


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
    "medcoss pretrain": " train.epochs=1 train.warmup=0",
    "medcoss extend": " train.epochs=1 train.warmup=0 train.batch=16",
    "medcoss finetune": " train.steps=4 train.warmup=0 train.batch=8",
}


@pytest.mark.parametrize("section", ["With your own data", "With synthetic data"])
def test_the_commands_run_as_typed(section: str, tmp_path: Path) -> None:
    if section == "With your own data":
        your_own_data(tmp_path)
    commands = lines_of(section)
    assert len(commands) >= 6
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for typed in commands:
        command = typed + SHORT.get(" ".join(typed.split()[:2]), "")
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
