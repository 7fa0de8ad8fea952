"""What a modality leaves out gets the kit's part for its dims and pretext."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from medcoss_cli.kit.augment import CropAndFlip, Mirror, Unchanged
from medcoss_cli.kit.decoders import PixelDecoder, WordDecoder
from medcoss_cli.kit.intensity import Colour8, Grey8, ZScore
from medcoss_cli.kit.tokenizers import Patches, Words
from medcoss_cli.plugin import Augment, Intensity, Modality


def complete(modality: Modality) -> Modality:
    """The same modality with every part in place."""
    if modality.pretext == "masked_words":
        words: Any = modality.tokenizer or Words()  # tokenizer and intensity in one
        modality = replace(
            modality,
            tokenizer=words,
            intensity=modality.intensity or words,
            augment=modality.augment or Unchanged(),
            decoder=modality.decoder or WordDecoder(),
        )
        return modality.with_size(modality.size)
    intensity: Intensity = (Colour8() if modality.channels == 3 else Grey8()) if modality.dims == 2 else ZScore()
    augments: dict[int, Augment] = {1: Unchanged(), 2: CropAndFlip(), 3: Mirror()}
    return replace(
        modality,
        tokenizer=modality.tokenizer or Patches(f"patch{modality.dims}d-16"),
        intensity=modality.intensity or intensity,
        augment=modality.augment or augments[modality.dims],
        decoder=modality.decoder or PixelDecoder(),
    )
