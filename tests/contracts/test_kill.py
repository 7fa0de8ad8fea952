"""kill -9 at random moments of training, saving and resuming: the final weights are those of an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medcoss_cli.store import checkpoint
from tests.pretraining_runs import RECIPE, write_demo

KILLS = int(os.environ.get("MEDCOSS_TEST_KILLS", "2"))


def start(folder: Path, data: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MEDCOSS_DATA": str(data),
        "MEDCOSS_PREPARED": str(data / "prepared"),
    }
    command = [sys.executable, "-m", "medcoss_cli", "pretrain", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / "runs" / "tiny" / "ckpt.pt").weights


def test_killed_again_and_again(tmp_path: Path) -> None:
    data = write_demo(tmp_path / "data", report=80, xray=60)
    often = RECIPE.replace("save_minutes: 1000", "save_minutes: 0.002").replace("epochs: 2", "epochs: 12")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tiny.yaml").write_text(often)
    began = time.monotonic()
    whole = start(tmp_path / "whole", data, "tiny.yaml")
    assert whole.wait(300) == 0, whole.stderr.read() if whole.stderr else ""
    seconds = time.monotonic() - began

    chance = random.Random(0)
    run = tmp_path / "killed" / "runs" / "tiny"
    done = 0
    while done < KILLS:
        resume = (run / "run.json").exists()
        process = start(
            tmp_path / "killed",
            data,
            *(["--resume", str(run)] if resume else ["tiny.yaml", "--overwrite", "--name", "tiny"]),
        )
        time.sleep(chance.uniform(0.3, 1.2) * seconds)
        process.send_signal(signal.SIGKILL)
        code = process.wait(60)
        if code == 0:  # it finished first; begin again, there is still something to kill
            (run / "run.json").unlink()
            continue
        assert code == -signal.SIGKILL, process.stderr.read() if process.stderr else ""
        done += 1
    resume = (run / "run.json").exists()
    last = start(
        tmp_path / "killed",
        data,
        *(["--resume", str(run)] if resume else ["tiny.yaml", "--overwrite", "--name", "tiny"]),
    )
    assert last.wait(300) == 0, last.stderr.read() if last.stderr else ""
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not list(run.glob(".unfinished-*"))


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    data = write_demo(tmp_path / "data", report=80, xray=60)
    (tmp_path / "tiny.yaml").write_text(RECIPE.replace("epochs: 2", "epochs: 2000"))
    first = start(tmp_path, data, "tiny.yaml")
    try:
        for _ in range(200):
            if (tmp_path / "runs" / "tiny" / "metrics.jsonl").exists():
                break
            time.sleep(0.1)
        second = start(tmp_path, data, "--resume", "runs/tiny")
        assert second.stderr is not None
        told = second.stderr.read().decode()
        assert second.wait(60) == 6
        assert "another run is using this folder" in told
    finally:
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_training_ends_without_a_traceback(tmp_path: Path, number: signal.Signals) -> None:
    data = write_demo(tmp_path / "data", report=80, xray=60)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    process = start(tmp_path, data, "tiny.yaml")
    time.sleep(1.0)
    process.send_signal(number)
    assert process.stderr is not None
    told = process.stderr.read().decode()
    # -number: Python itself still starts; -SIGINT: its way to end when a handled interruption had hit an exec()
    assert process.wait(60) in (130, -number, -signal.SIGINT)
    assert "Traceback" not in told or process.returncode == -number
