"""The text vocabulary: BPE pieces learned from common words only, so that no surname becomes a token."""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import RecipeError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"  # a piece that goes on with the word before it
_PLAIN = {
    "normalizer": ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "BertNormalizer"),
    "pre_tokenizer": ("Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Punctuation", "Digits"),
}
"""Steps that take no pattern or table from the file: with one, a word can take hours or gigabytes, or stop the library."""
_MOST = 16  # steps in a row
_UNUSED = ("truncation", "padding", "post_processor", "decoder")
"""Parts of the library's JSON that `Codec` does without."""


def _blank(trained: Any = None) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(trained or models.BPE(unk_token="[UNK]", continuing_subword_prefix=CONTINUES))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def common_words(texts: Iterable[str], groups: Iterable[str | None]) -> Iterator[str]:
    """Each text reduced to its words without digits that occur in at least 20 groups (1 % of them in small sets, never
    fewer than 2), so that what a single patient's report holds is not learned.

    A text without a group is a group of its own.
    """
    normal = _blank().normalizer
    split = [re.findall(r"[^\W\d_]+|[^\w\s]", normal.normalize_str(text)) for text in texts]
    owners = [group if group is not None else number for number, group in enumerate(groups)]
    holders: dict[str, set[str | int]] = {}
    for words, owner in zip(split, owners, strict=True):
        for word in set(words):
            holders.setdefault(word, set()).add(owner)
    threshold = max(2, min(20, math.ceil(0.01 * len(set(owners)))))
    for words in split:
        yield " ".join(word for word in words if len(holders[word]) >= threshold)


def learn(texts: Iterable[str], groups: Iterable[str | None], size: int) -> str:
    """Learn at most `size` BPE pieces; returns the vocabulary as JSON text. The same texts give the same pieces."""
    from tokenizers import trainers

    words = list(common_words(texts, groups))
    letters = sorted(set(string.ascii_lowercase + string.digits + string.punctuation).union(*words) - {" "})
    # The trainer numbers `##x` letters in the order of a hash map, and ties follow the numbers: unless they are there.
    inside = [CONTINUES + letter for letter in letters]
    trainer = trainers.BpeTrainer(
        vocab_size=max(size, len(SPECIAL) + 2 * len(letters)),
        special_tokens=[*SPECIAL, *inside],
        initial_alphabet=letters,
        continuing_subword_prefix=CONTINUES,
        show_progress=False,
    )
    tokenizer = _blank()
    tokenizer.train_from_iterator(words, trainer)
    vocabulary = json.loads(tokenizer.to_str())
    vocabulary["added_tokens"] = [token for token in vocabulary["added_tokens"] if token["content"] in SPECIAL]
    return json.dumps(vocabulary, ensure_ascii=False)


def read_vocabulary(path: Path) -> str:
    """A vocabulary (JSON text) from a file: JSON of the `tokenizers` library, or BERT's vocab.txt, a word piece a line.

    Raises: RecipeError where it is neither, or lacks a special piece.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            "the vocabulary file cannot be read",
            where=path,
            fix="give the JSON file of a `tokenizers` vocabulary, or a vocab.txt",
        ) from error
    if not text.lstrip().startswith("{"):
        text = _word_pieces(text, path)
    Codec(text)
    return text


def _word_pieces(text: str, path: Path) -> str:
    """BERT's tokenizer for these pieces, a line each, which lower-cases as its library does unless told otherwise."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    pieces = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]  # a piece may be a space of Unicode
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    if len(vocabulary) < len(pieces):
        twice = next(piece for number, piece in enumerate(pieces) if vocabulary[piece] != number)
        raise RecipeError(f"the piece {twice!r} is there twice", where=path, fix="give the vocabulary as it was made")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", continuing_subword_prefix=CONTINUES))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return str(tokenizer.to_str())


def padded(vocabulary: str, size: int) -> str:
    """The same vocabulary with pieces that no text has behind its own, up to `size`: imported tables may be longer."""
    content = json.loads(vocabulary)
    pieces = content["model"].get("vocab")
    if not isinstance(pieces, dict):
        raise RecipeError(
            "the vocabulary is shorter than the weights' table, and of a kind that cannot be made longer",
            fix="give one of word pieces or BPE, such as a vocab.txt",
        )
    pieces |= {f"[unused {number}]": number for number in range(Codec(vocabulary).size, size)}
    return json.dumps(content, ensure_ascii=False)


def _steps(part: Any, inside: str) -> Iterator[str]:
    """The steps of a normalizer or pre-tokenizer in the library's JSON; a sequence has its own under `inside`."""
    if part is None:
        return
    if part["type"] != "Sequence":
        yield part["type"]
        return
    for step in part[inside]:
        yield from _steps(step, inside)


def _checked(vocabulary: str) -> str:
    """What is used of a vocabulary, written anew: the library reads no more than what was looked at.

    Raises: ValueError for a step that is not plain, and what json and `_steps` raise for another form.
    """
    content = json.loads(vocabulary) | dict.fromkeys(_UNUSED)
    for part, plain in _PLAIN.items():
        steps = list(_steps(content.get(part), part.replace("_", "") + "s"))
        if other := [step for step in steps if step not in plain]:
            raise ValueError(f"its {part} is {other[0]!r:.40}, none of {', '.join(plain)}")
        if len(steps) > _MOST:
            raise ValueError(f"its {part} has {len(steps)} steps, more than {_MOST}")
    return json.dumps(content)


class Codec:
    """A vocabulary ready to encode: text to ids and back.

    Args:
        vocabulary: JSON text of the `tokenizers` library with the special pieces [PAD] [UNK] [CLS] [SEP] [MASK].

    Raises: RecipeError if it is not such a vocabulary.
    """

    def __init__(self, vocabulary: str) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_str(_checked(vocabulary))
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of Rust, no Exception
                raise
            raise RecipeError(
                f"the vocabulary cannot be read ({error})",
                fix="give the JSON file of a `tokenizers` vocabulary, or a vocab.txt",
            ) from error
        self.size: int = self._tokenizer.get_vocab_size()
        if sorted(self._tokenizer.get_vocab().values()) != list(range(self.size)):
            raise RecipeError(
                f"the {self.size} pieces of the vocabulary are not numbered 0 to {self.size - 1}",
                fix="give the vocabulary as it was made",
            )
        ids: list[Any] = [self._tokenizer.token_to_id(piece) for piece in SPECIAL]
        if None in ids:
            missing = SPECIAL[ids.index(None)]
            raise RecipeError(f"the vocabulary has no {missing} piece", fix=f"it needs {' '.join(SPECIAL)}")
        self.pad, self.unknown, self.cls, self.sep, self.mask = ids
        self.used = self.size  # without the pieces that `padded` put behind
        while self._tokenizer.id_to_token(self.used - 1) == f"[unused {self.used - 1}]":
            self.used -= 1

    def encode(self, text: str, length: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        """[CLS] pieces [SEP] [PAD]... as (length,) int32; what is too long is cut."""
        pieces = self._tokenizer.encode(text, add_special_tokens=False).ids[: length - 2]
        ids = np.full(length, self.pad, np.int32)
        ids[: len(pieces) + 2] = [self.cls, *pieces, self.sep]
        return ids

    def count(self, text: str) -> int:
        """Pieces of a text, [CLS] and [SEP] included."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids) + 2

    def pieces(self, ids: list[int]) -> list[str]:
        return [self._tokenizer.id_to_token(i) for i in ids if i != self.pad]

    def starts_word(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(size,) bool, True where a piece begins a word, that is, has no `##` in front."""
        pieces = [self._tokenizer.id_to_token(i) or "" for i in range(self.size)]
        return np.array([not piece.startswith(CONTINUES) for piece in pieces])
