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
from tests.conftest import CommandLine
from tests.pretraining_runs import write_demo

SBATCH = """#!{python}
import pathlib, sys
jobs = pathlib.Path({folder!r}) / "jobs"
number = 100 + len(jobs.read_text().splitlines() if jobs.exists() else [])
with jobs.open("a") as file:
    file.write("\\t".join(sys.argv[1:]) + "\\n")
print(f"{{number}};cluster")
"""


@pytest.fixture
def here(tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in a folder with a tiny recipe and its data."""
    write(tmp_path)
    write_demo(tmp_path / "data", report=12, pathology=20)
    monkeypatch.chdir(tmp_path)
    return command_line


def test_each_cell_is_a_job_behind_those_it_needs(
    tmp_path: Path, here: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH.format(python=sys.executable, folder=str(tmp_path)))
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    answer = here("compare", "tiny.yaml", "--submit", "slurm", "--sbatch=--gres=gpu:1 --time=1:00", "--only", "medcoss")
    assert answer.code == 0, answer.err
    jobs = [line.split("\t") for line in (tmp_path / "jobs").read_text().splitlines()]
    names = {
        word.removeprefix("--job-name="): 100 + i for i, job in enumerate(jobs) for word in job if "--job-name" in word
    }
    assert f"{len(jobs)} jobs submitted" in answer.err
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


def test_without_slurm_it_says_so(tmp_path: Path, here: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = here("compare", "tiny.yaml", "--submit", "slurm")
    assert answer.code == 6
    assert "there is no sbatch on this machine" in answer.err
