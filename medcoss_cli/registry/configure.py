"""A plugin's modality, with what a recipe, a checkpoint or an exported file says differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import Field, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from medcoss_cli.console import Screen
from medcoss_cli.errors import CheckpointError, PluginError, RecipeError, UsageError
from medcoss_cli.kit.vocabulary import read_vocabulary
from medcoss_cli.model.patches import grid_of
from medcoss_cli.plugin import CompleteModality, Decoder, Tokenizer, TokenizerSpec
from medcoss_cli.registry.discovery import load_modality
from medcoss_cli.registry.validate import key_fault


def resized(modality: CompleteModality) -> str | None:
    """What to say where positions that were learned or trained on one grid are used on another."""
    part = modality.tokenizer
    spec = part.spec
    if spec.grid is None or spec.patch is None or spec.grid == (grid := grid_of(modality.size, spec.patch)):
        return None
    places = [" x ".join(map(str, sides)) for sides in (spec.grid, grid)]
    return f"positions of {part.key}, learned on {places[0]} places, are resized to {places[1]} for {modality.name}"


def trained_on(modality: CompleteModality, size: tuple[int, ...]) -> CompleteModality:
    """A modality that was trained at its own size, to be seen at `size`: in a larger plane sine-cosine positions are scaled."""
    part = modality.tokenizer
    spec = part.spec
    if spec.kind != "patches" or spec.positions != "sincos" or spec.patch is None or spec.grid is not None:
        return modality
    if all(side <= trained for side, trained in zip(size[-2:], modality.size[-2:], strict=True)):
        return modality
    return modality.with_tokenizer(part.with_spec(replace(spec, grid=grid_of(modality.size, spec.patch))))


def fit(
    modality: CompleteModality,
    *,
    tokenizer: str | None = None,
    spec: TokenizerSpec | None = None,
    size: tuple[int, ...] | None = None,
    decoder: Mapping[str, Any] | None = None,
    vocabulary: str | None = None,
    vocabulary_size: int | None = None,
    positions: str = "sincos",
) -> CompleteModality:
    """A complete modality with what a recipe or a checkpoint says differently.

    Args:
        tokenizer: its key.
        spec: a checkpoint's; imported weights have other positions than the plugin's own.
        positions: without a spec "table" gives the tokenizer learned positions, one for each place of the size.

    Raises: RecipeError where the size does not suit the modality or the tokenizer's patch; PluginError where its
        tokenizer takes a key and ignores it; CheckpointError for a spec, decoder or vocabulary that it cannot have.
    """
    part = modality.tokenizer
    if tokenizer is not None:
        part = with_key(part, tokenizer)
    if spec is not None:
        try:
            part = part.with_spec(spec)
            _ = part.spec  # with the plugin's own patch it may be impossible
        except ValueError as error:
            raise CheckpointError(
                f"the description of its tokenizer {part.key} is none for {modality.name} ({error})",
                fix="use another copy of it",
            ) from error
    modality = modality.with_tokenizer(part)
    text = modality.text_tokenizer
    if text is not None and vocabulary_size is not None:
        modality = modality.with_tokenizer(text.with_vocabulary_size(vocabulary_size))
    if size is not None and len(size) != modality.dims:
        raise RecipeError(
            f"size {list(size)} has {len(size)} numbers, {modality.name} has {modality.dims} axes",
            fix=f"give it {modality.dims}, as in {list(modality.size)}",
        )
    modality = modality.with_size(size or modality.size)
    if text is not None and modality.size[0] < 2:
        raise RecipeError(
            f"a size of {modality.size[0]} ({modality.name}) has no room for [CLS] and [SEP]", fix="give at least [2]"
        )
    patch, rows = part.spec.patch, part.spec.rows
    if patch is not None:
        try:
            grid_of(modality.size, patch)
        except ValueError as error:
            raise RecipeError(
                f"{error} of tokenizer {part.key} ({modality.name})", fix="choose multiples of the patch"
            ) from error
    if positions == "table" and spec is None:
        modality = modality.with_tokenizer(learned(modality.tokenizer, modality.size))
    if rows is not None and modality.size[0] > rows:
        raise RecipeError(
            f"a size of {modality.size[0]} is more than the {rows} positions that the tokenizer {part.key} has learned",
            fix=f"give at most [{rows}]",
        )
    if decoder:
        modality = replace(modality, decoder=_with_sizes(modality, decoder))
    if vocabulary is None:
        return modality
    if modality.text_tokenizer is None:
        raise CheckpointError(
            f"it has a vocabulary for {modality.name}, which is no text", fix="use another copy of it"
        )
    return modality.with_vocabulary(vocabulary)


@contextmanager
def said_by(file: Path) -> Iterator[None]:
    """While a modality is made as a file says: what it cannot be is a fault of the file, which is named, not of a recipe.

    Raises: CheckpointError.
    """
    try:
        yield
    except (CheckpointError, RecipeError, UsageError) as error:
        if isinstance(error, CheckpointError):
            raise CheckpointError(error.what, where=error.where or file, fix=error.fix) from error
        raise CheckpointError(
            f"what it says of a modality suits no installed plugin: {error.what}",
            where=file,
            fix="use another copy of it, or install the plugin's version that it was made with",
        ) from error


def _with_sizes(modality: CompleteModality, said: Mapping[str, Any]) -> Decoder:
    """The decoder of a modality with what is said of it. Raises: CheckpointError for what it cannot be built with."""
    decoder: Any = modality.decoder
    by_name = {field.name: field for field in fields(decoder)}
    hints = _hints(type(decoder))
    sizes = {name: value for name, value in said.items() if name in by_name}
    for name, value in sizes.items():
        is_count = name in ("width", "depth", "heads") and isinstance(value, int)
        if not _suits(value, by_name[name], hints.get(name)) or (is_count and value < 1):
            raise CheckpointError(
                f"the {name} of the decoder of {modality.name} is none that it can have", fix="use another copy of it"
            )
    changed: Any = replace(decoder, **sizes)
    width, heads = getattr(changed, "width", None), getattr(changed, "heads", None)
    if changed != decoder and isinstance(width, int) and isinstance(heads, int) and heads and width % heads:
        raise CheckpointError(
            f"a width of {width} of the decoder of {modality.name} cannot be cut into {heads} heads",
            fix="use another copy of it",
        )
    return cast(Decoder, changed)


def for_stage(
    name: str,
    earlier: Mapping[str, CompleteModality],
    screen: Screen,
    *,
    size: Sequence[int] | None = None,
    tokenizer: str | None = None,
    vocabulary: str | None = None,
    vocabulary_size: int | None = None,
    decoder: Mapping[str, Any] | None = None,
    offered: Mapping[str, CompleteModality] | None = None,
    positions: str = "sincos",
) -> CompleteModality:
    """The plugin's modality as a stage will train it, or a task see it.

    What is not given is taken from `earlier`, the modalities of earlier stages: the tokenizer that those of the same
    kind share (printed where it is not the plugin's own), and with it their size, decoder and vocabulary. What is
    `offered` by the weights that a recipe starts from comes after that.

    Raises: RecipeError for what does not fit, PluginError for a plugin that cannot be used.
    """
    modality = load_modality(name)
    default = modality.tokenizer
    relatives = {
        m.tokenizer.key: m
        for m in (*(offered or {}).values(), *earlier.values())
        if (m.dims, m.pretext) == (modality.dims, modality.pretext) and _fits(default, m.tokenizer)
    }
    key = tokenizer
    if key is None and default.key not in relatives and len(relatives) == 1:
        key = next(iter(relatives))
        screen.warn(
            f"{modality.name} shares the tokenizer {key} of {relatives[key].name}; tokenizer={default.key} gives it its own"
        )
    key = key or default.key
    relative = relatives.get(key)
    trained = earlier.get(modality.name)
    if trained is not None and size is not None and tuple(size) != trained.size:
        raise RecipeError(
            f"the checkpoint's {modality.name} samples are of size {list(trained.size)}, not {list(size)}",
            where="size",
            fix="leave the key out",
        )
    nearest = trained or relative
    size = size or (nearest.size if nearest else None)
    if decoder is None:  # as large as those the checkpoint has
        decoders = [m.decoder for m in earlier.values() if type(m.decoder) is type(modality.decoder)]
        sizes = vars(decoders[-1]) if decoders else {}  # not its positions: a new one has its own
        decoder = {name: number for name, number in sizes.items() if isinstance(number, int)} or None
    text = relative.vocabulary if relative else None
    if vocabulary is not None:
        if text is not None and any(relative is m for m in earlier.values()):
            raise RecipeError(
                f"the checkpoint already has a vocabulary for {key}", where="vocabulary", fix="leave the key out"
            )
        if modality.text_tokenizer is None:
            raise RecipeError(f"{name} is no text and has no vocabulary", where="vocabulary", fix="leave the key out")
        text = text or read_vocabulary(Path(vocabulary))
    modality = fit(
        modality,
        tokenizer=key,
        spec=relative.tokenizer.spec if relative else None,
        size=tuple(size) if size else None,
        decoder=decoder,
        vocabulary=text,
        vocabulary_size=vocabulary_size,
        positions=positions,
    )
    if note := resized(modality):
        screen.warn(note)
    for other in earlier.values():
        if other.tokenizer.key == key and not _fits(modality.tokenizer, other.tokenizer):
            raise RecipeError(
                f"the tokenizer {key} of {modality.name} differs from the one that {other.name} has under this key",
                where="tokenizer",
                fix=f"tokenizer={key}-{modality.name} gives it its own",
            )
    return modality


def reading(modality: CompleteModality, settings: Mapping[str, Any]) -> CompleteModality:
    """The modality whose loader reads with these settings: fields of its dataclass, such as `allow` and `tilt` of the kit's.

    Args:
        settings: by name; "loader" has those of several modalities, by theirs.

    Raises: UsageError where its loader has no setting of that name, or one of another type.
    """
    by_modality = settings.get("loader", {})
    own = by_modality.get(modality.name, {}) if isinstance(by_modality, Mapping) else by_modality
    if not isinstance(own, Mapping):
        raise UsageError(
            f"the settings of the {modality.name} modality's loader are {own!r}, not names with their values",
            fix=f"write them as in data.loader.{modality.name}.NAME=VALUE",
        )
    settings = {**{name: value for name, value in settings.items() if name != "loader"}, **own}
    if not settings:
        return modality
    loader: Any = modality.loader
    by_name = {field.name: field for field in fields(loader)} if is_dataclass(loader) else {}
    if absent := sorted(map(str, set(settings) - set(by_name))):
        known = f"; it has {', '.join(by_name)}" if by_name else ""
        raise UsageError(
            f"the {modality.name} modality has no setting {absent[0]} for reading files{known}", fix="leave it out"
        )
    hints = _hints(type(loader))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    for name, value in values.items():
        if not _suits(value, by_name[name], hints.get(name)):
            declared = by_name[name].type if hints.get(name) is None else _in_words(hints[name])
            raise UsageError(f"the setting {name} of the {modality.name} modality is {value!r}, not {declared}")
    try:
        return replace(modality, loader=replace(loader, **values))
    except (ValueError, TypeError) as error:  # what the loader itself says of its settings
        raise UsageError(f"a setting of the {modality.name} modality cannot be: {error}") from error


def _hints(loader: type[Any]) -> dict[str, Any]:
    """The declared types of a loader's settings; of a plugin that imports them for checkers alone, none."""
    try:
        return get_type_hints(loader)
    except (NameError, AttributeError, TypeError):  # a name that is not there at run time
        return {}


def _in_words(hint: Any) -> str:
    """A declared type as a sentence has it: `keep or correct`, `int`, `float or None`."""
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_in_words, get_args(hint)))
    if hint is NoneType:
        return "None"
    return str(hint).replace("str", "text") if get_origin(hint) else {"str": "text"}.get(hint.__name__, hint.__name__)


def _suits(value: object, field: Field[Any], hint: Any) -> bool:
    """Is a value of its setting's type? Where that cannot be resolved, of its default's kind, or None where it says None."""
    if hint is not None:
        try:
            TypeAdapter(hint).validate_python(value, strict=True)
        except ValidationError:
            return False
        except PydanticUserError:  # no type that can be checked
            pass
        else:
            return value == value  # not NaN
    if value is None:
        return "None" in str(field.type)
    kinds = {float: (int, float), type(None): (int, float, str)}.get(type(field.default), (type(field.default),))
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def learned(part: Tokenizer, size: tuple[int, ...]) -> Tokenizer:
    """A tokenizer of the kit with a table of positions for this size; another as it is."""
    spec = part.spec
    if spec.patch is not None and spec.kind == "patches":
        return part.with_spec(replace(spec, positions="table", grid=grid_of(size, spec.patch)))
    return part.with_spec(replace(spec, positions="table", rows=size[0])) if spec.kind == "words" else part


def with_key(part: Tokenizer, key: str) -> Tokenizer:
    """The tokenizer under another key. Raises: RecipeError for a key it has no form for, PluginError if it ignores it."""
    if key == part.key:
        return part
    renamed = part.with_key(key)
    if fault := key_fault(renamed, key):
        raise PluginError(
            f"the tokenizer {part.key} was asked for {key}, and ignores it: {fault}",
            fix="use its own key, and report it to the plugin's author",
        )
    return renamed


def _fits(tokenizer: Tokenizer, other: Tokenizer) -> bool:
    """Can a modality with this tokenizer take the network that another one has?"""
    try:
        renamed = with_key(tokenizer, other.key)
        if other.spec.positions == "table":  # imported weights are taken as they are
            renamed = renamed.with_spec(other.spec)
        return renamed.spec == other.spec
    except (RecipeError, PluginError, ValueError):  # a key of another form, or a grid of other axes
        return False
