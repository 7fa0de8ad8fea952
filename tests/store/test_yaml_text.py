"""YAML of anybody: values or a reason, whatever its anchors and tags want."""

from __future__ import annotations

import pytest

from medcoss_cli.store import yaml_text

MERGES = "m0: &m0 {k: 1}\n" + "\n".join(
    f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}], k{n}: 1}}" for n in range(1, 12)
)
LAUGHS = "a0: &a0 [x, x]\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))


def test_values_are_plain_and_nothing_stands_in_two_places() -> None:
    content = yaml_text.read("a: &a [1, 2.5, 1e-3]\nb: *a\nc: {<<: {x: 1}, y: 2001-01-01}\n")
    assert content == {"a": [1, 2.5, 0.001], "b": [1, 2.5, 0.001], "c": {"x": 1, "y": "2001-01-01"}}
    assert content["a"] is not content["b"]
    assert yaml_text.read("") is None


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: &a\n  <<: *a\n",
        MERGES,
        LAUGHS,
        "a: " + "[" * 5000 + "]" * 5000,
        "a: !!python/object/apply:os.getpid []",
        "? [a]\n: 1",
        "a: [",
        "a: \x00",
        'a: "\\ud800"',
        '{"\\udfff": 1}',
    ],
)
def test_what_would_grow_or_run_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        yaml_text.read(text)


def test_a_name_in_another_encoding_is_read() -> None:
    assert yaml_text.read('a: "\\udcff.png"') == {"a": "\udcff.png"}


def test_a_character_that_json_writes_as_two_halves_is_one() -> None:
    assert yaml_text.read('{"a": "\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}
