"""Cells as jobs of a cluster: a stand-in for sbatch writes down what it is given, or does it at once."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.comparisons import write
from tests.pretraining_runs import write_demo

SBATCH = """#!{python}
import pathlib, sys
jobs = pathlib.Path({folder!r}) / "jobs"
number = 100 + len(jobs.read_text().splitlines() if jobs.exists() else [])
with jobs.open("a") as file:
    file.write("\\t".join(sys.argv[1:]) + "\\n")
print(f"{{number}};cluster")
"""


def compare(folder: Path, data: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path + os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "medcoss_cli", "compare", "tiny.yaml", "--data-root", str(data), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_each_cell_is_a_job_behind_those_it_needs(tmp_path: Path) -> None:
    data = write_demo(tmp_path / "data", report=12, pathology=20)
    write(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH.format(python=sys.executable, folder=str(tmp_path)))
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    answer = compare(
        tmp_path,
        data,
        "--submit",
        "slurm",
        "--sbatch=--gres=gpu:1 --time=1:00",
        "--only",
        "medcoss",
        path=f"{tmp_path}/bin:",
    )
    assert answer.returncode == 0, answer.stderr
    jobs = [line.split("\t") for line in (tmp_path / "jobs").read_text().splitlines()]
    names = {
        word.removeprefix("--job-name="): 100 + i for i, job in enumerate(jobs) for word in job if "--job-name" in word
    }
    assert f"{len(jobs)} jobs submitted" in answer.stderr
    for job in jobs:
        assert {"--parsable", "--gres=gpu:1", "--time=1:00"} <= set(job)
        wrapped = shlex.split(next(word.removeprefix("--wrap=") for word in job if word.startswith("--wrap=")))
        assert wrapped[-2] == "--cell"
        assert wrapped[-1] in names
        assert not {"--submit", "--sbatch", "--only", "slurm", "medcoss"} & set(wrapped[3:])
        needed = [int(n) for word in job if "--dependency" in word for n in re.findall(r":(\d+)", word)]
        assert all(n < names[wrapped[-1]] for n in needed)
    assert sum("--dependency" in word for job in jobs for word in job) >= 3
    first = shlex.split(next(word.removeprefix("--wrap=") for word in jobs[0] if word.startswith("--wrap=")))
    done = subprocess.run(first, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "compare-tiny" / "cells" / f"{first[-1]}.json").exists()


def test_without_slurm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_demo(tmp_path / "data", report=12, pathology=20)
    write(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = compare(tmp_path, data, "--submit", "slurm")
    assert answer.returncode == 6
    assert "there is no sbatch on this machine" in answer.stderr
