"""A plugin's modality, with what a recipe, a checkpoint or an exported file says differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.errors import RecipeError
from medcoss_cli.kit.vocabulary import read_vocabulary
from medcoss_cli.model.patches import grid_of
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.registry.discovery import load_modality


def resized(modality: CompleteModality) -> str | None:
    """What to say where positions that were learned on one grid (imported weights) are used on another."""
    part: Any = modality.tokenizer
    grid = part.spec.get("grid") if part is not None else None
    if grid is None or tuple(grid) == (own := grid_of(modality.size, part.patch)):
        return None
    places = [" x ".join(map(str, sides)) for sides in (grid, own)]
    return f"positions of {part.key}, learned on {places[0]} places, are resized to {places[1]} for {modality.name}"


def fit(
    modality: CompleteModality,
    *,
    tokenizer: str | None = None,
    spec: Mapping[str, Any] | None = None,
    size: tuple[int, ...] | None = None,
    decoder: Mapping[str, int] | None = None,
    vocabulary: str | None = None,
    vocabulary_size: int | None = None,
) -> CompleteModality:
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


def for_stage(
    name: str,
    known: Mapping[str, CompleteModality],
    screen: Screen,
    *,
    size: Sequence[int] | None = None,
    tokenizer: str | None = None,
    vocabulary: str | None = None,
    vocabulary_size: int | None = None,
    decoder: Mapping[str, int] | None = None,
    offered: Mapping[str, CompleteModality] | None = None,
) -> CompleteModality:
    """The plugin's modality as a stage will train it, or a task see it.

    What is not given is taken from what is `known` from earlier stages: the tokenizer that modalities of the
    same kind share (said aloud where it is not the plugin's own), and with it their size, decoder and vocabulary. What is
    `offered` by the weights that a recipe begins from comes after that.

    Raises: RecipeError for what does not fit, PluginError for a plugin that cannot be used.
    """
    modality = load_modality(name)
    own: Any = modality.tokenizer
    alike = {
        m.tokenizer.key: m
        for m in (*(offered or {}).values(), *known.values())
        if (m.dims, m.pretext) == (modality.dims, modality.pretext) and m.tokenizer and _fits(own, m.tokenizer)
    }
    key = tokenizer
    if key is None and own.key not in alike and len(alike) == 1:
        key = next(iter(alike))
        screen.warn(
            f"{modality.name} shares the tokenizer {key} of {alike[key].name}; tokenizer={own.key} gives it its own"
        )
    key = key or own.key
    relative = alike.get(key)
    before = known.get(modality.name)
    if before is not None and size is not None and tuple(size) != before.size:
        raise RecipeError(
            f"the checkpoint's {modality.name} samples are of size {list(before.size)}, not {list(size)}",
            where="size",
            fix="leave the key out",
        )
    nearest = before or relative
    size = size or (nearest.size if nearest else None)
    if decoder is None:  # as large as those the checkpoint has
        alike_decoders = [m.decoder for m in known.values() if type(m.decoder) is type(modality.decoder)]
        sizes = vars(alike_decoders[-1]) if alike_decoders else {}  # not its positions: a new one has its own
        decoder = {name: number for name, number in sizes.items() if isinstance(number, int)} or None
    text = getattr(relative.tokenizer, "vocabulary", None) if relative else None
    if vocabulary is not None:
        if text is not None and any(relative is m for m in known.values()):
            raise RecipeError(
                f"the checkpoint already has a vocabulary for {key}", where="vocabulary", fix="leave the key out"
            )
        text = text or read_vocabulary(Path(vocabulary))
    modality = fit(
        modality,
        tokenizer=key,
        spec=relative.tokenizer.spec if relative and relative.tokenizer else None,
        size=tuple(size) if size else None,
        decoder=decoder,
        vocabulary=text,
        vocabulary_size=vocabulary_size,
    )
    if note := resized(modality):
        screen.warn(note)
    for other in known.values():
        if other.tokenizer and other.tokenizer.key == key and not _fits(modality.tokenizer, other.tokenizer):
            raise RecipeError(
                f"the tokenizer {key} of {modality.name} differs from the one that {other.name} has under this key",
                where="tokenizer",
                fix=f"tokenizer={key}-{modality.name} gives it its own",
            )
    return modality


def _fits(own: Any, other: Any) -> bool:
    """Can a modality with the tokenizer `own` take the network that another one has?"""
    try:
        same = own if own.key == other.key or not hasattr(own, "with_key") else own.with_key(other.key)
        if other.spec.get("positions") == "table" and hasattr(
            same, "with_spec"
        ):  # imported weights are taken as they are
            same = same.with_spec(other.spec)
    except RecipeError:  # a key of another form
        return False
    return bool(same.key == other.key and dict(same.spec) == dict(other.spec))
