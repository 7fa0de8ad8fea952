"""What is kept of the heads of a demonstration."""

from __future__ import annotations

from pathlib import Path

import pytest

from medcoss_cli.demonstration.accuracy import Accuracies, Head
from medcoss_cli.errors import CheckpointError, UsageError


def test_it_is_kept_from_one_call_to_the_next(tmp_path: Path) -> None:
    first = Accuracies(tmp_path, 3)
    first.heads = {"with": {"a": Head("A", 10, 0.5, 0.9, {"a": 0.8})}}
    first.write()
    assert Accuracies(tmp_path, 3).heads == first.heads
    with pytest.raises(UsageError, match="begun with seed 3, not 4"):
        Accuracies(tmp_path, 4)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seed": 0, "heads": {"with": {"a": {"title": 1}}}}', "[" * 100_000])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "accuracy.json").write_text(text)
    with pytest.raises(CheckpointError, match="what is known of the heads is damaged"):
        Accuracies(tmp_path, 0)
