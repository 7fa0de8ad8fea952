"""Patches of clips: two frames, 16 x 16 pixels. Time is not depth, so no network is shared with volumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from medcoss_cli.errors import RecipeError
from medcoss_cli.kit import Patches

SUFFIX = "-cine"


@dataclass(frozen=True)
class ClipPatches(Patches):
    """As Patches, under keys that end in "-cine": `tokenizer=patch3d-4x16x16-cine` is another patch, still of its own."""

    def with_key(self, key: str) -> Self:
        """The same under another key. Raises: RecipeError for one that volumes may have, or of other dimensions."""
        if not key.endswith(SUFFIX):
            raise RecipeError(
                f"the tokenizer {key} may be that of volumes, and the first axis of a clip is time",
                fix=f"write {key}{SUFFIX}",
            )
        return super().with_key(key)
