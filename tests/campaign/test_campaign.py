"""The campaign finds what it is there to find. A cut of it, another one each day, is a step of .ci/run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.campaign import attempts, kinds, mutated

pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")


def test_a_part_finds_the_bug_that_is_planted_for_it() -> None:
    """In a process of its own, since it forks. The other parts: python -m tests.campaign --seeded."""
    command = [sys.executable, "-m", "tests.campaign", "--only", "mutated", "--seeded", "--seed", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Found by try" in ended.stdout


def test_a_kind_keeps_its_numbers_where_others_are_passed_over() -> None:
    """So that a failure can be repeated alone."""
    entries = [SimpleNamespace(name=name) for name in "abc"]
    whole = list(attempts.turns(entries, 9, 5))
    assert sorted(entry.name for _, entry, _ in whole) == sorted("abc" * 3)
    one = list(attempts.turns(entries, 3, 5, ["b"]))
    of_whole = [(number, rng.integers(2**60)) for number, entry, rng in whole if entry.name == "b"]
    assert [(number, rng.integers(2**60)) for number, _, rng in one] == of_whole
    with pytest.raises(SystemExit, match="no kind is called d; there are a, b, c"):
        list(attempts.turns(entries, 3, 5, ["d"]))


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
