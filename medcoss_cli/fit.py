"""A plugin's modality, with what a recipe, a checkpoint or an exported file says differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from medcoss_cli.errors import RecipeError
from medcoss_cli.model.patches import grid_of
from medcoss_cli.plugin import Modality


def resized(modality: Modality) -> str | None:
    """What to say where positions that were learned on one grid (imported weights) are used on another."""
    part: Any = modality.tokenizer
    grid = part.spec.get("grid") if part is not None else None
    if grid is None or tuple(grid) == (own := grid_of(modality.size, part.patch)):
        return None
    places = [" x ".join(map(str, sides)) for sides in (grid, own)]
    return f"positions of {part.key}, learned on {places[0]} places, are resized to {places[1]} for {modality.name}"


def fit(
    modality: Modality,
    *,
    tokenizer: str | None = None,
    spec: Mapping[str, Any] | None = None,
    size: tuple[int, ...] | None = None,
    decoder: Mapping[str, int] | None = None,
    vocabulary: str | None = None,
    vocabulary_size: int | None = None,
) -> Modality:
    """A complete modality with what a recipe or a checkpoint says differently.

    Args:
        tokenizer: its key.
        spec: a checkpoint's; imported weights have other positions than the plugin's own.

    Raises: RecipeError where the size does not suit the modality or the tokenizer's patch.
    """
    part: Any = modality.tokenizer
    if tokenizer is not None and tokenizer != part.key:
        if not hasattr(part, "with_key"):
            raise RecipeError(f"the tokenizer {part.key} of {modality.name} comes in one form only", where="tokenizer")
        part = part.with_key(tokenizer)
    if spec is not None and hasattr(part, "with_spec"):
        part = part.with_spec(spec)
    if vocabulary_size is not None and hasattr(part, "vocabulary_size"):
        part = replace(part, vocabulary_size=vocabulary_size)
    same: Any = modality.intensity  # words are both
    modality = replace(modality, tokenizer=part, intensity=part if same is modality.tokenizer else same)
    if size is not None and len(size) != modality.dims:
        raise RecipeError(
            f"size {list(size)} has {len(size)} numbers, {modality.name} has {modality.dims} axes",
            fix=f"give it {modality.dims}, as in {list(modality.size)}",
        )
    modality = modality.with_size(size or modality.size)
    if hasattr(part, "patch"):
        try:
            grid_of(modality.size, part.patch)
        except ValueError as error:
            raise RecipeError(
                f"{error} of tokenizer {part.key} ({modality.name})", fix="choose multiples of the patch"
            ) from error
    rows = part.spec.get("rows") if part is not None else None
    if rows is not None and modality.size[0] > rows:
        raise RecipeError(
            f"a size of {modality.size[0]} is more than the {rows} positions that the tokenizer {part.key} has learned",
            fix=f"give at most [{rows}]",
        )
    if decoder and modality.decoder is not None:
        known = {k: v for k, v in decoder.items() if hasattr(modality.decoder, k)}
        modality = replace(modality, decoder=replace(modality.decoder, **known))  # type: ignore[type-var]  # parts are dataclasses
    return modality if vocabulary is None else modality.with_vocabulary(vocabulary)
