"""Absolute paths, wherever they are planted."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from medcoss_cli.store.scrubbed import scrubbed

RESULTS: dict[str, Any] = {
    "kind": "finetune",
    "title": "Colon tissue",
    "start": {"from": "checkpoint", "sha256": "ab", "strategy": "er", "settings": {"name": "er"}, "stages": ["xray"]},
    "recipe": {"data": {"folder": "labels", "split": "train"}, "classes": ["a", "b"], "input": {"size": [32, 32]}},
    "classes": ["a", "b"],
    "data": {"test": {"samples": 3, "classes": {"a": 1, "b": 2}}},
    "versions": {"medcoss": "0.1.0", "xray": "medcoss 0.1.0"},
    "seeds": [{"seed": 0, "test": {"metrics": {"dice_a": 0.5, "dice_b": None}, "cases": [{"dice_a": 0.5}]}}],
}
PATHS = [
    "/home/Zuckerbrodt/scans",
    "/Zuckerbrodt",
    "C:\\Users\\Zuckerbrodt\\my scans",
    "D:/Zuckerbrodt",
    "~/Zuckerbrodt",
    "~Zuckerbrodt/scans",
    "\\\\server\\Zuckerbrodt",
    "//server/Zuckerbrodt",
    "file:///data/Zuckerbrodt",
    "/data/My Patients/Zuckerbrodt",
]


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is a value or a key."""
    if above:
        yield above
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(entry, (*above, key))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("around", ["{}", "of {}", "dice_{}", "see={}", "({})"])
def test_no_field_and_no_key_holds_a_path(path: str, around: str) -> None:
    everywhere = list(places(RESULTS))
    assert len(everywhere) > 30
    for place in everywhere:
        for as_key in (False, True):
            planted = copy.deepcopy(RESULTS)
            inner = planted
            for key in place[:-1]:
                inner = inner[key]
            if as_key and isinstance(inner, dict):
                inner[around.format(path)] = inner.pop(place[-1])
            else:
                inner[place[-1]] = around.format(path)
            assert "Zuckerbrodt" not in json.dumps(scrubbed(planted))


def test_what_is_no_path_stays_and_two_paths_stay_two() -> None:
    assert scrubbed(RESULTS) == RESULTS
    for text in ("normal/benign", "mm/s", "a / b", "https://example.org/x", "1/2", "medcoss 0.1.0", "labels/set-1"):
        assert scrubbed(text) == text
    assert scrubbed({"/a/x": 1, "/a/y": 2, "both": ["/a/y", "/a/x"]}) == {
        "(path 1)": 1,
        "(path 2)": 2,
        "both": ["(path 2)", "(path 1)"],
    }
