"""Words: how text becomes tokens. A plain description; its network is built on demand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medcoss_cli.errors import RecipeError
from medcoss_cli.plugin import Sample, TokenizerSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from medcoss_cli.kit.text_networks import WordEmbedding
    from medcoss_cli.kit.vocabulary import Codec


@dataclass(frozen=True)
class Words:
    """Words of a text as BPE pieces; the vocabulary is learned from the first stage's texts, or given.

    It is the tokenizer and, because ids are what is stored, the intensity rule of a text modality as well.

    Args:
        key: modalities with the same key share one embedding and one vocabulary.
        length: tokens of a sample, [CLS] and [SEP] included; longer texts are cut. Set from the modality's size.
        vocabulary_size: pieces to learn at most.
        vocabulary: the learned or given vocabulary, JSON text of the `tokenizers` library; None before it is known.
        positions: "sincos", or "table": learned, one for each of `rows` places (imported weights).
        causal: a word sees those before it alone (imported weights).
    """

    key: str = "words"
    length: int = 112
    vocabulary_size: int = 8192
    vocabulary: str | None = None
    positions: str = "sincos"
    norm_eps: float = 1e-5
    causal: bool = False
    rows: int | None = None

    @property
    def spec(self) -> TokenizerSpec:
        """As a checkpoint keeps it."""
        return TokenizerSpec(
            "words",
            cls=False,
            causal=self.causal,
            positions=self.positions,
            norm_eps=self.norm_eps,
            rows=self.rows,
        )

    def with_spec(self, spec: TokenizerSpec) -> Words:
        """The same with a checkpoint's positions, rows, epsilon and order of attention."""
        return replace(self, positions=spec.positions, norm_eps=spec.norm_eps, causal=spec.causal, rows=spec.rows)

    @cached_property
    def codec(self) -> Codec:
        """Its vocabulary, ready to encode. Raises: RecipeError before there is one."""
        from medcoss_cli.kit.vocabulary import Codec

        if self.vocabulary is None:
            raise RecipeError(
                "the vocabulary has not been learned yet", fix="give one with `vocabulary: FILE` in the stage"
            )
        return Codec(self.vocabulary)

    @property
    def pieces(self) -> int | None:
        """How many ids there are; None before there is a vocabulary."""
        return None if self.vocabulary is None else self.codec.size

    def with_key(self, key: str) -> Words:
        """The same with an embedding and a vocabulary of another name."""
        return replace(self, key=key)

    def with_size(self, size: tuple[int, ...]) -> Words:
        """The same for texts of (L,) tokens."""
        return replace(self, length=size[0])

    def with_vocabulary(self, vocabulary: str) -> Words:
        """The same with this vocabulary (JSON text)."""
        return replace(self, vocabulary=vocabulary)

    def with_vocabulary_size(self, size: int) -> Words:
        """The same, learning at most so many pieces."""
        return replace(self, vocabulary_size=size)

    def learn(self, texts: Iterable[str], groups: Iterable[str | None]) -> str:
        """Learn a vocabulary (JSON text) from words without digits that occur in enough groups; see kit/vocabulary.py."""
        from medcoss_cli.kit.vocabulary import learn

        return learn(texts, groups, self.vocabulary_size)

    def encode(self, sample: Sample) -> tuple[np.ndarray[Any, Any], float, float]:
        """(ids (L,) int32, 1, 0)."""
        return self.codec.encode(sample.array, self.length), 1.0, 0.0

    def notes(self, sample: Sample) -> tuple[str, ...]:
        """What happens to a sample that a user should know: a long text is cut."""
        if self.vocabulary is None or self.codec.count(sample.array) <= self.length:
            return ()
        return (f"longer than {self.length} tokens; the rest is cut",)

    def decode(self, integers: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """Ids (N, L) int64."""
        return integers.long()

    def text(self, ids: Iterable[int]) -> list[str]:
        """The pieces of one sample, padding left out; for previews."""
        return self.codec.pieces(list(ids))

    def build(self, width: int) -> WordEmbedding:
        """Its network, for tokens of this width. Raises: RecipeError before there is a vocabulary."""
        from medcoss_cli.kit.text_networks import WordEmbedding

        return WordEmbedding(self.spec, self.codec, self.length, width)

    def __getstate__(self) -> dict[str, Any]:  # the codec is rebuilt in a worker process
        return {k: v for k, v in self.__dict__.items() if k != "codec"}
