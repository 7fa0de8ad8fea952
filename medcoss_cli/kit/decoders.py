"""Decoders: the throw-away heads of the pretext tasks. Plain descriptions; networks are built on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medcoss_cli.errors import RecipeError
from medcoss_cli.plugin import CompleteModality

if TYPE_CHECKING:
    from medcoss_cli.kit.patch_networks import PixelHead
    from medcoss_cli.kit.text_networks import WordHead


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

    def build(self, width: int, modality: CompleteModality) -> PixelHead:
        """Its network, for features of this width."""
        from medcoss_cli.kit.patch_networks import PixelHead

        return PixelHead(
            width,
            modality.tokenizer.spec,
            modality.size,
            inner=self.width,
            depth=self.depth,
            heads=self.heads,
            positions=self.positions,
        )


@dataclass(frozen=True)
class WordDecoder:
    """BERT's head that predicts hidden words."""

    def build(self, width: int, modality: CompleteModality) -> WordHead:
        """Its network, for features of this width. Raises: RecipeError before there is a vocabulary."""
        from medcoss_cli.kit.text_networks import WordHead
        from medcoss_cli.kit.vocabulary import Codec

        if modality.vocabulary is None:
            raise RecipeError(
                "the vocabulary has not been learned yet", fix="give one with `vocabulary: FILE` in the stage"
            )
        return WordHead(width, Codec(modality.vocabulary))
