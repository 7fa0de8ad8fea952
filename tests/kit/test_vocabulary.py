"""Vocabularies that others give: what is taken, and what would harm is refused before the library reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medcoss_cli.errors import RecipeError
from medcoss_cli.kit.text import Words
from medcoss_cli.kit.vocabulary import SPECIAL, Codec, learn, read_vocabulary

TEXT = "the lung is clear"
REPLACE = {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}
SPLIT = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


@pytest.fixture(scope="module")
def own() -> str:
    return learn([TEXT] * 5, [None] * 5, 200)


def changed(vocabulary: str, **parts: Any) -> str:
    return json.dumps(json.loads(vocabulary) | parts)


def numbered(vocabulary: str, piece: str, number: int) -> str:
    """The same with another number for a piece."""
    content = json.loads(vocabulary)
    content["model"]["vocab"][piece] = number
    for token in content["added_tokens"]:
        if token["content"] == piece:
            token["id"] = number
    return json.dumps(content)


def in_sequence(part: str, *steps: Any) -> dict[str, Any]:
    return {"type": "Sequence", part: list(steps)}


HARMFUL: dict[str, Callable[[str], str]] = {
    "CLS 5000": lambda v: numbered(v, "[CLS]", 5000),
    "CLS beyond int32": lambda v: numbered(v, "[CLS]", 2**31 + 5),
    "letter 5000": lambda v: numbered(v, "a", 5000),
    "letter twice": lambda v: numbered(v, "a", 7),
    "precompiled": lambda v: changed(v, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "replaced": lambda v: changed(v, normalizer=in_sequence("normalizers", *[REPLACE] * 22)),
    "nested": lambda v: changed(v, normalizer=in_sequence("normalizers", in_sequence("normalizers", REPLACE))),
    "many": lambda v: changed(v, normalizer=in_sequence("normalizers", *[{"type": "NFC"}] * 17)),
    "untyped": lambda v: changed(v, normalizer={"pattern": {"String": "e"}, "content": "ee"}),
    "split": lambda v: changed(v, pre_tokenizer=SPLIT),
    "split in two": lambda v: changed(v, pre_tokenizer=in_sequence("pretokenizers", SPLIT) | {"normalizers": []}),
    "merges": lambda v: changed(v, model=json.loads(v)["model"] | {"merges": [["t", "h"]]}),  # the library panics
    "deep": lambda v: "[" * 100_000,
    "list": lambda v: "[]",
}


@pytest.mark.parametrize("name", HARMFUL)
def test_a_vocabulary_that_would_harm_is_refused(own: str, name: str) -> None:
    with pytest.raises(RecipeError, match=r"the vocabulary cannot be read|are not numbered 0 to "):
        Codec(HARMFUL[name](own))


@pytest.mark.parametrize(
    "part",
    [
        {"truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 9}},
        {
            "padding": {
                "strategy": {"Fixed": 20_000_000},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            }
        },
        {"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}},
        {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}},
        {"normalizer": None},
        {"normalizer": in_sequence("normalizers", {"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"})},
        {"pre_tokenizer": in_sequence("pretokenizers", {"type": "WhitespaceSplit"}, {"type": "BertPreTokenizer"})},
    ],
)
def test_what_others_write_beside_the_pieces_changes_no_id(own: str, part: dict[str, Any]) -> None:
    codec = Codec(changed(own, **part))
    assert codec.encode(TEXT, 32).tolist() == Codec(own).encode(TEXT, 32).tolist()
    assert codec.count(TEXT) == Codec(own).count(TEXT)


def test_special_pieces_may_be_the_last(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["lung", "clear", *reversed(SPECIAL)]))
    words = Words(length=6, vocabulary=read_vocabulary(tmp_path / "vocab.txt"))
    ids = torch.from_numpy(words.codec.encode("lung clear", 6))[None].long()
    draw = torch.full(ids.shape, 0.85)  # an action that puts a random word
    hidden, targets = words.build(16).hide(ids, draw, draw, torch.full(ids.shape, 0.999), 1.0)
    assert targets.sum() == 2
    assert hidden.max() < words.codec.size
