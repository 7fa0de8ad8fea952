"""Tokenizers: how images, volumes, signals and words become tokens. Plain descriptions; networks are built on demand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medcoss_cli.errors import RecipeError
from medcoss_cli.plugin import Sample

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

_KEY = re.compile(r"patch([123])d-(\d+)(-[a-z0-9_-]+)?")


@dataclass(frozen=True)
class Patches:
    """Patches of a signal, image or volume, linearly embedded (ViT, MAE).

    Args:
        key: "patch2d-16" says it all: two dimensions, patches of 16 x 16. Modalities with the same key share one network;
            a word behind it, as in "patch1d-16-ecg", makes it a network of one's own, of other channels for example.
        size: edge of a patch; default: from the key.
        channels: of the projection; grey samples are repeated to them. Default: 3 in two dimensions, else 1.
        positions: "sincos", or "table": learned, one for each place of `grid` (imported weights).
    """

    key: str
    size: int | None = None
    channels: int = 0
    positions: str = "sincos"
    norm_eps: float = 1e-5
    grid: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        match = _KEY.fullmatch(self.key)
        if match is None:
            raise RecipeError(
                f"tokenizer key {self.key!r} is not of the form patch<dims>d-<edge>",
                fix="for example patch2d-16, or patch2d-16-mine for one of your own",
            )
        object.__setattr__(self, "size", self.size or int(match[2]))
        object.__setattr__(self, "channels", self.channels or (3 if self.dims == 2 else 1))

    @property
    def dims(self) -> int:
        return int(self.key[5])

    @property
    def patch(self) -> tuple[int, ...]:
        """Edge lengths of a patch, one per axis."""
        assert self.size is not None
        return (self.size,) * self.dims

    @property
    def spec(self) -> Mapping[str, Any]:
        return {
            "kind": "patches",
            "patch": list(self.patch),
            "channels": self.channels,
            "positions": self.positions,
            "cls": True,
            "causal": False,
            "norm_eps": self.norm_eps,
            **({"grid": list(self.grid)} if self.grid is not None else {}),
        }

    def with_spec(self, spec: Mapping[str, Any]) -> Patches:
        """The same part with a checkpoint's positions and epsilon; patch and channels are the plugin's own."""
        grid = tuple(spec["grid"]) if spec.get("grid") else None
        known = {key: spec[key] for key in ("positions", "norm_eps") if key in spec}
        return replace(self, **known, grid=grid)

    def with_key(self, key: str) -> Patches:
        """The same part under another key, and so with another patch; dims stay."""
        other = replace(self, key=key, size=None)
        if other.dims != self.dims:
            raise RecipeError(f"tokenizer {key!r} has {other.dims} dimensions where {self.dims} are needed")
        return other

    def build(self, width: int) -> nn.Module:
        from medcoss_cli.kit.pixels import PatchEmbedding

        return PatchEmbedding(self, width)


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
    def channels(self) -> int:
        return 0

    @property
    def spec(self) -> Mapping[str, Any]:
        return {
            "kind": "words",
            "positions": self.positions,
            "cls": False,
            "causal": self.causal,
            "norm_eps": self.norm_eps,
            **({"rows": self.rows} if self.rows is not None else {}),
        }

    def with_spec(self, spec: Mapping[str, Any]) -> Words:
        """The same part with a checkpoint's positions, epsilon and order of seeing."""
        known = {key: spec[key] for key in ("positions", "norm_eps", "causal") if key in spec}
        return replace(self, **known, rows=spec.get("rows"))

    @cached_property
    def _codec(self) -> Any:
        from medcoss_cli.kit.vocabulary import Codec

        if self.vocabulary is None:
            raise RecipeError("the vocabulary is not known yet", fix="give one with `vocabulary: FILE` in the stage")
        return Codec(self.vocabulary)

    def with_key(self, key: str) -> Words:
        return replace(self, key=key)

    def with_size(self, size: tuple[int, ...]) -> Words:
        return replace(self, length=size[0])

    def with_vocabulary(self, vocabulary: str) -> Words:
        return replace(self, vocabulary=vocabulary)

    def learn(self, texts: Iterable[str], groups: Iterable[str | None]) -> str:
        """Learn a vocabulary (JSON text) from words without digits that occur in enough groups; see kit/vocabulary.py."""
        from medcoss_cli.kit.vocabulary import learn

        return learn(texts, groups, self.vocabulary_size)

    def encode(self, sample: Sample) -> tuple[np.ndarray[Any, Any], float, float]:
        return self._codec.encode(sample.array, self.length), 1.0, 0.0

    def notes(self, sample: Sample) -> tuple[str, ...]:
        """What happens to a sample that a careful user wants to know: a long text is cut."""
        if self.vocabulary is None or self._codec.count(sample.array) <= self.length:
            return ()
        return (f"longer than {self.length} word pieces, the rest left out",)

    def decode(self, integers: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        return integers.long()

    def text(self, ids: Iterable[int]) -> list[str]:
        """The pieces of one sample, padding left out; for previews."""
        pieces: list[str] = self._codec.pieces(list(ids))
        return pieces

    def build(self, width: int) -> nn.Module:
        from medcoss_cli.kit.words import WordEmbedding

        return WordEmbedding(self, self._codec, width)

    def __getstate__(self) -> dict[str, Any]:  # the codec is rebuilt in a worker process
        return {k: v for k, v in self.__dict__.items() if k != "_codec"}
