"""Reading a recipe: YAML with line numbers, overrides from the command line, all faults told at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from medcoss_cli import discovery
from medcoss_cli.errors import RecipeError
from medcoss_cli.recipe.schema import KINDS, ExtendRecipe, PretrainRecipe

Lines = dict[tuple[str | int, ...], str]
"""Where each key stands: "file:line", or "override key"."""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number, as everybody who writes a learning rate expects."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def shipped_recipes() -> dict[str, Path]:
    """Recipes by name: medcoss's own (inside the package, or beside it in a source checkout), then the plugins'."""
    package = Path(__file__).parents[1]
    inside, beside = package / "recipes", package.parent / "recipes"
    own = inside if inside.is_dir() else beside
    return {path.stem: path for path in sorted(own.glob("*.yaml"))} | discovery.plugin_recipes()


def find_recipe(name: str) -> Path:
    """A file, or a shipped recipe's name, with or without `recipes/` and `.yaml`. Raises: RecipeError."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if path.parent in (Path(), Path("recipes")) and path.stem in shipped and path.suffix in ("", ".yaml", ".yml"):
        return shipped[path.stem]
    near = _nearest(path.stem, shipped)
    raise RecipeError(
        f"there is no recipe {name!r}{near}", fix=f"name a file, or one of {', '.join(shipped)} (medcoss recipes list)"
    )


def read_recipe(name: str, overrides: Sequence[str] = (), kind: str | None = None) -> PretrainRecipe | ExtendRecipe:
    """Read and validate.

    Args:
        name: a file, or a shipped recipe's name.
        overrides: "train.epochs=3", "stages.0.size=[64, 64]"; the value is YAML.
        kind: what the verb can carry out.

    Raises: RecipeError with every fault, each with its place, key, what was found and what is allowed.
    """
    path = find_recipe(name)
    lines: Lines = {}
    faults: list[str] = []
    content = _read_yaml(path, lines, faults)
    for override in overrides:
        _apply(override, content, lines)
    found = content.get("kind")
    if found not in KINDS:
        known = ", ".join(KINDS)
        raise RecipeError(
            f"kind: {found!r} is none of {known}", where=lines.get(("kind",), path), fix="add `kind: pretrain`"
        )
    if kind is not None and found != kind:
        raise RecipeError(f"this is a recipe to {found}, not to {kind}", where=path, fix=f"medcoss {found} ...")
    try:
        recipe = KINDS[found].model_validate(content)
    except ValidationError as error:
        faults += [_fault(entry, lines, path, KINDS[found]) for entry in error.errors()]
    if faults:
        many = f"{len(faults)} faults in this recipe:\n  " if len(faults) > 1 else ""
        raise RecipeError(many + "\n  ".join(faults), where=None, fix=None)
    return recipe


def json_schema() -> dict[str, Any]:
    """JSON Schema of all kinds of recipe, for editors."""
    adapter: TypeAdapter[Any] = TypeAdapter(PretrainRecipe | ExtendRecipe)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "medcoss recipe",
        **adapter.json_schema(),
    }


def _read_yaml(path: Path, lines: Lines, faults: list[str]) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_Loader)
        loader = _Loader(text)
        try:
            content = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecipeError(
            f"this is not YAML ({error.problem})", where=place, fix="check indentation, colons, quotes"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"the recipe cannot be read ({error})", where=path) from error
    if not isinstance(content, dict) or node is None:
        raise RecipeError("the recipe holds no keys", where=path, fix="see `medcoss recipes show mini`")
    _note_lines(node, (), path, lines, faults)
    return content


def _note_lines(node: yaml.Node, at: tuple[str | int, ...], path: Path, lines: Lines, faults: list[str]) -> None:
    """Remember where every key stands; a key that stands twice is a fault."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name, place = str(key.value), f"{path}:{key.start_mark.line + 1}"
            if name in seen:
                faults.append(f"{place}: {'.'.join(map(str, (*at, name)))}: the key stands here twice")
            seen.add(name)
            lines[(*at, name)] = place
            _note_lines(value, (*at, name), path, lines, faults)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines[(*at, i)] = f"{path}:{value.start_mark.line + 1}"
            _note_lines(value, (*at, i), path, lines, faults)


def _apply(override: str, content: dict[str, Any], lines: Lines) -> None:
    """Put one key=value into the content, making the parts on the way where they are left out."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"{override!r} is not of the form key=value", fix="for example train.epochs=3")
    loader = _Loader(text)
    try:
        value = loader.get_single_data()
    except yaml.YAMLError as error:
        raise RecipeError(f"the value of {key} is not YAML", where=f"override {override}") from error
    finally:
        loader.dispose()
    at: tuple[str | int, ...] = ()
    target: Any = content
    steps = [int(step) if step.isdigit() else step for step in key.strip().split(".")]
    for step in steps[:-1]:
        at = (*at, step)
        if isinstance(target, list) and isinstance(step, int) and step < len(target):
            target = target[step]
        elif isinstance(target, dict):
            if not isinstance(target.get(str(step)), dict | list):
                target[str(step)] = {}
            target = target[str(step)]
        else:
            raise RecipeError(f"there is no {'.'.join(map(str, at))}", where=f"override {override}", fix="count from 0")
    last = steps[-1]
    if isinstance(target, list):
        if not isinstance(last, int) or last >= len(target):
            raise RecipeError(f"there is no {key}", where=f"override {override}", fix="count from 0")
        target[last] = value
    else:
        target[str(last)] = value
    for known in [k for k in lines if k[: len(steps)] == tuple(steps)]:
        del lines[known]
    for end in range(1, len(steps) + 1):
        lines.setdefault(tuple(steps[:end]), f"override {override}")


def _fault(entry: Any, lines: Lines, path: Path, kind: type[BaseModel]) -> str:
    """One fault in one line: place, key, what was found, what is allowed, the nearest key."""
    keys = tuple(part for part in entry["loc"] if not (isinstance(part, str) and ("[" in part or part in _UNION_ARMS)))
    name = ".".join(map(str, keys)) or "the recipe"
    place = next((lines[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in lines), str(path))
    if entry["type"] == "extra_forbidden":
        allowed = _allowed(kind, keys[:-1])
        near = _nearest(str(keys[-1]), allowed)
        return f"{place}: {name}: there is no such key{near or '; allowed: ' + ', '.join(allowed)}"
    if entry["type"] == "missing":
        return f"{place}: {name}: this key is needed"
    found = entry["input"]
    said_by_us = entry["type"] == "value_error"  # which names what it found
    shown = "" if isinstance(found, dict | list) or said_by_us else f"{found!r}: "
    message = entry["msg"].removeprefix("Value error, ")
    return f"{place}: {name}: {shown}{message[0].lower()}{message[1:]}"


_UNION_ARMS = {"float", "int", "str", "constrained-float"}


def _allowed(kind: type[BaseModel], keys: Sequence[str | int]) -> list[str]:
    """The keys that a part of a recipe may have."""
    model: Any = kind
    for key in keys:
        if isinstance(key, int):
            continue
        annotation = next(f.annotation for n, f in model.model_fields.items() if (f.alias or n) == key)
        model = _model_in(annotation)
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_model_in, getattr(annotation, "__args__", ())) if m is not None), None)


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""
