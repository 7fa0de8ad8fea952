"""Decoders: the throw-away heads of the pretext tasks. Plain descriptions; networks are built on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PixelDecoder:
    """MAE's small transformer that predicts the pixels of removed patches; 8 x 512 in the paper.

    Args:
        positions: "sincos", or "table": learned, the cls token's among them (imported weights).
    """

    width: int = 512
    depth: int = 8
    heads: int = 16
    positions: str = "sincos"

    def build(self, width: int, tokenizer: Any, size: tuple[int, ...]) -> nn.Module:
        from medcoss_cli.kit.pixels import PixelHead

        return PixelHead(self, width, tokenizer, size)


@dataclass(frozen=True)
class WordDecoder:
    """BERT's head that predicts hidden words."""

    def build(self, width: int, tokenizer: Any, size: tuple[int, ...]) -> nn.Module:
        from medcoss_cli.kit.vocabulary import Codec
        from medcoss_cli.kit.words import WordHead

        return WordHead(width, Codec(tokenizer.vocabulary))
