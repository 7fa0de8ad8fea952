"""A small cut of the campaign, another one each day, and that it finds what it is there to find."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tests.campaign import kinds, mutated

pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")


def test_mutated_files_are_read_as_others_read_them_or_refused() -> None:
    seed = int(date.today().strftime("%Y%m%d"))
    failed = [attempt for attempt in mutated.run(330, seed) if attempt.failed]
    assert not failed, f"repeat it with: python -m tests.campaign --only mutated --count 330 --seed {seed}"


def test_runs_that_are_killed_end_as_others_do() -> None:
    seed = int(date.today().strftime("%Y%m%d"))
    cut("kills", "--count", "4", "--kind", "pretrain", "--kind", "extend", "--seed", str(seed))


def test_tampered_files_are_a_sentence() -> None:
    cut("tampered", "--count", "32", "--seed", "20261127")  # a seed of its own each day when all of them pass


def cut(part: str, *options: str) -> None:
    """Run a part in a process of its own, since it forks."""
    command = [sys.executable, "-m", "tests.campaign", "--only", part, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_kind_is_read_before_it_is_mutated(tmp_path: Path) -> None:
    for kind in kinds.KINDS:
        path = tmp_path / kind.name
        path.write_bytes(kind.make(np.random.default_rng(0)))
        assert mutated.attempt(kind, path) == ("read", ""), kind.name


def test_a_wrong_value_a_traceback_and_a_hang_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = kinds.KINDS[0]
    path = tmp_path / kind.name
    path.write_bytes(kind.make(np.random.default_rng(0)))
    wrong = kinds.Kind(kind.name, kind.make, lambda p: (kind.read(p)[0] + 1, ()), kind.other)
    assert mutated.attempt(wrong, path)[0] == "differs"
    monkeypatch.setattr(mutated, "SECONDS", 0.0)
    assert {attempt.outcome for attempt in mutated.run(2, 0)} == {"hangs"}
    broken = kinds.Kind(kind.name, kind.make, lambda p: {}[p], kind.other)  # type: ignore[misc]
    with pytest.raises(KeyError):
        mutated.attempt(broken, path)
