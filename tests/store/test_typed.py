"""Files that are read back: damage of any form is one sentence with the file and the key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from medcoss_cli.errors import CheckpointError, DataError
from medcoss_cli.store import typed


@dataclass(frozen=True)
class Numbers:
    count: int
    names: list[str]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"count": 1, "names": ["a"]', "damaged"),
        ('{"count": 1, "count": 2, "names": []}', "'count' stands twice"),
        ('{"names": []}', "count: Field required"),
        ('{"count": "x", "names": []}', "count: "),
        ('{"count": 1, "names": [[]]}', "names.0: "),
        ("[" * 100_000, "nested too deeply"),
        ('{"count": 1, "names": ["\\ud800"]}', "half of a character"),
        ('{"count": 1, "names": [], "\\udfff": 0}', "half of a character"),
        ("null", "damaged"),
        ("\x00", "damaged"),
    ],
)
def test_damage_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "numbers.json"
    path.write_text(text)
    with pytest.raises(CheckpointError) as refused:
        typed.read_json(Numbers, path, fix="copy it again", what="the table")
    assert said in refused.value.what
    assert refused.value.where == str(path)
    assert refused.value.fix == "copy it again"


def test_what_is_whole_is_read_and_what_is_absent_is_not_damage(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.write_text(json.dumps({"count": 3, "names": ["a"]}))
    assert typed.read_json(Numbers, path, fix="") == Numbers(3, ["a"])
    with pytest.raises(FileNotFoundError):
        typed.read_json(Numbers, tmp_path / "absent", fix="")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError):
        typed.read_json(Numbers, tmp_path / "bytes.json", fix="", error=DataError)


def test_a_name_in_another_encoding_and_a_character_in_two_halves_are_read() -> None:
    assert typed.loads('["\\udcff.png", "\\ud83d\\ude00"]') == ["\udcff.png", "\U0001f600"]
