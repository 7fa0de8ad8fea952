"""What a modality leaves out gets the kit's part for its dims and pretext."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from medcoss_cli.kit.augment import CropAndFlip, Mirror, Unchanged
from medcoss_cli.kit.decoders import PixelDecoder, WordDecoder
from medcoss_cli.kit.intensity import Colour8, Grey8, ZScore
from medcoss_cli.kit.patches import Patches
from medcoss_cli.kit.text import Words
from medcoss_cli.plugin import Augment, CompleteModality, Modality


def complete(modality: Modality) -> CompleteModality:
    """The same modality with every part in place."""
    if modality.pretext == "masked_words":
        words = Words() if modality.tokenizer is None else modality.tokenizer  # tokenizer and intensity in one
        parts: dict[str, Any] = {
            "tokenizer": words,
            "intensity": words,
            "augment": Unchanged(),
            "decoder": WordDecoder(),
        }
    else:
        grey_or_colour = Colour8() if modality.channels == 3 else Grey8()
        augments: dict[int, Augment] = {1: Unchanged(), 2: CropAndFlip(), 3: Mirror()}
        parts = {
            "tokenizer": Patches(f"patch{modality.dims}d-16"),
            "intensity": grey_or_colour if modality.dims == 2 else ZScore(),
            "augment": augments[modality.dims],
            "decoder": PixelDecoder(),
        }
    values: dict[str, Any] = {field.name: getattr(modality, field.name) for field in fields(Modality)}
    missing = {name: part for name, part in parts.items() if values[name] is None}
    completed = CompleteModality(**values | missing)
    return completed.with_size(completed.size)
