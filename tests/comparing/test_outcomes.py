"""What a cell gave, read back: checked, since everything else is computed from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medcoss_cli.comparing import outcomes
from medcoss_cli.comparing.outcomes import Place
from medcoss_cli.errors import CheckpointError

DONE = {"status": "done", "seconds": 1.5, "peak_memory_gib": 0.4}
TRAINED = {**DONE, "retention": [{"after": "a"}], "steps": 3, "own_steps": 3, "step_seconds": 0.1, "hash": "x"}
LATER = {**DONE, "metrics": {"2": {"accuracy": 0.5, "f1": None}}}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, tmp_path, tmp_path)


@pytest.mark.parametrize(("key", "content"), [("pretrain-1", TRAINED), ("later-1", LATER), ("tune-1", None)])
def test_what_was_written_is_read_and_what_is_not_there_is_none(
    place: Place, key: str, content: dict[str, Any] | None
) -> None:
    if content is not None:
        outcomes.write(place, key, content)
    assert outcomes.read(place, key) == content
    assert outcomes.done(place, key) is (content is not None)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("pretrain-1", ""),
        ("pretrain-1", "[]"),
        ("pretrain-1", json.dumps(TRAINED)[:-9]),
        ("pretrain-1", "[" * 100_000),
        ("pretrain-1", json.dumps({**TRAINED, "seconds": "soon"})),
        ("pretrain-1", json.dumps({**TRAINED, "retention": [{"a": {"loss": 1, "loss_then": 0, "relative_then": 1}}]})),
        ("later-1", json.dumps({**LATER, "metrics": {"2": [0.5]}})),
        ("simple-1", json.dumps({**DONE, "metrics": {"accuracy": "all"}})),
        ("tune-1", json.dumps(DONE)),
        ("tune-1", json.dumps({"status": "failed"})),
        ("tune-1", json.dumps({"status": "soon"})),
    ],
)
def test_a_damaged_one_is_named(place: Place, key: str, text: str) -> None:
    path = place.outcome(key)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(CheckpointError, match="what a cell gave is damaged") as refused:
        outcomes.read(place, key)
    assert refused.value.where == str(path)
