"""Two runs in one folder, and signals before training; what a kill -9 leaves is a part of the campaign."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pretraining_runs import RECIPE, write_demo


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
