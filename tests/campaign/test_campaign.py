"""The campaign finds what it is there to find, and a small cut of it passes, another one each day."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.campaign import kinds, mutated

pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")


def test_mutated_files_are_read_as_others_read_them_or_refused() -> None:
    cut("mutated", "--count", "330")


def test_runs_that_are_killed_end_as_others_do() -> None:
    cut("kills", "--count", "4", "--kind", "pretrain", "--kind", "extend")


def test_tampered_files_are_a_sentence() -> None:
    cut("tampered", "--count", "34", "--seed", "20261127")  # a seed of its own each day when all of them pass


def test_a_part_finds_the_bug_that_is_planted_for_it() -> None:
    assert "Found by try" in cut("mutated", "--seeded")  # the others: python -m tests.campaign --seeded


def cut(part: str, *options: str) -> str:
    """Run a part in a process of its own, since it forks; with today's date as its seed, unless another is given."""
    command = [sys.executable, "-m", "tests.campaign", "--only", part, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


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
