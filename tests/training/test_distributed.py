"""Two processes under torchrun give the loss curve of one at the same global batch, and only the first writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pretraining_runs import RECIPE, train, write_demo

REPOSITORY = Path(__file__).parents[2]
MIXED = ("train.mix=true", "train.accumulate=2", "train.drop_path=0.2")


def two_ranks(folder: Path, data: Path, *overrides: str) -> list[dict[str, float]]:
    """Train in `folder` with the command line, on two ranks; returns metrics.jsonl."""
    folder.mkdir()
    (folder / "tiny.yaml").write_text(RECIPE)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "-m", "medcoss_cli", "pretrain", "tiny.yaml", *overrides]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        "MEDCOSS_DATA": str(data),
        "MEDCOSS_PREPARED": str(data / "prepared"),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("stage 1 of 2") == 1
    assert [path.name for path in (folder / "runs").iterdir()] == ["tiny"]
    return metrics(folder / "runs" / "tiny")


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


PAIRS = [("medcoss", MIXED), ("ewc", ()), ("derpp", ())]  # rehearsal and mixed steps, memory, several terms


@pytest.mark.parametrize(("strategy", "ways"), PAIRS)
def test_two_ranks_give_the_curve_of_one(tmp_path: Path, strategy: str, ways: tuple[str, ...]) -> None:
    data = write_demo(tmp_path / "data", report=80, xray=60)
    double = two_ranks(tmp_path / "two", data, f"strategy={strategy}", *ways)
    train(tmp_path, data, f"strategy={strategy}", *ways)
    single = metrics(tmp_path / "runs" / "run")
    assert [(row["stage"], row["step"], row["modality"]) for row in double] == [
        (row["stage"], row["step"], row["modality"]) for row in single
    ]
    for row, other in zip(double, single, strict=True):
        terms, others = ([each["loss"], *each.get("terms", [])] for each in (row, other))
        assert terms == pytest.approx(others, rel=1e-4, abs=1e-6)
