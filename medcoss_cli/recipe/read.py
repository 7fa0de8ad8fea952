"""Reading a recipe: found by name, overridden from the command line, validated; all faults listed at once."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from medcoss_cli.errors import RecipeError
from medcoss_cli.recipe.document import Document, dotted
from medcoss_cli.recipe.parts import OPEN, PRESETS
from medcoss_cli.recipe.schema import KINDS, STAGE_FORMS, Recipe
from medcoss_cli.recipe.strategy import DEFAULT
from medcoss_cli.registry import discovery, recipes
from medcoss_cli.store.yaml_text import Keys

_TAKEN_BY = {
    "pretrain": "medcoss pretrain {}",
    "extend": "medcoss extend --recipe {} --modality NAME",
    "finetune": "medcoss finetune {}",
    "compare": "medcoss compare {}",
}


def shipped_recipes() -> dict[str, Path]:
    """Recipes by name: medcoss's own (inside the package, or beside it in a source checkout), then the plugins'."""
    return recipes.own_recipes() | recipes.plugin_recipes()


def find_recipe(name: str) -> Path:
    """A file, or a shipped recipe's name, with or without `recipes/` and `.yaml`.

    Raises: RecipeError, PluginError for a name that two plugins bring.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    short = Path(*path.parts[path.parts[:1] == ("recipes",) :])
    if path.suffix in ("", ".yaml", ".yml") and short.with_suffix("").as_posix() in shipped:
        return shipped[short.with_suffix("").as_posix()]
    recipes.refuse_clash(path.stem)
    suggestion = _nearest(path.stem, shipped).removeprefix("; ")
    raise RecipeError(
        f"there is no recipe {name!r}",
        fix=f"{suggestion} name a file, or one of {', '.join(shipped)} (medcoss recipes list)".lstrip(),
    )


def read_recipe(name: str, overrides: Sequence[str] = (), kind: str | None = None) -> Recipe:
    """Read and validate.

    Args:
        name: a file, or a shipped recipe's name.
        overrides: "train.epochs=3", "stages.0.size=[64, 64]"; the value is YAML.
        kind: what the verb can carry out.

    Raises: RecipeError with every fault, each with its place, key, what was found and what is allowed.
    """
    path = find_recipe(name)
    words = {
        "encoder": PRESETS,
        "strategy": {name: {"name": name} for name in discovery.strategy_names()},
        "task": {name: {"name": name} for name in discovery.task_names()},
    }
    document = Document(path, words)
    for override in overrides:
        document.override(override)
    content, faults = document.content, document.faults
    content_kind: Any = content.get("kind")
    is_kind = isinstance(content_kind, str) and content_kind in KINDS
    if is_kind and kind is not None and content_kind != kind:
        raise RecipeError(
            f"this recipe is for {content_kind}, not for {kind}",
            where=path,
            fix=f"run {_TAKEN_BY[content_kind].format(name)}",
        )
    if not is_kind:  # the other keys are looked at all the same, as those of the kind that is probably meant
        reason = f"{content_kind!r} is none of" if "kind" in content else "this key is required:"
        faults.append(
            f"{document.place(('kind',))}: kind: {reason} {', '.join(KINDS)}{_nearest(str(content_kind), KINDS)}"
        )
        content = content | {"kind": kind or next(k for k, sign in _SIGNS.items() if sign in content or not sign)}
    if content.get("profile") == "official":
        _lay_over(content, content.get("official") or {})
    model = KINDS[content["kind"]]
    try:
        recipe = model.model_validate(content)
    except ValidationError as error:
        schema = _narrowed(model.model_json_schema(), content)
        faults += dict.fromkeys(_fault(entry, document, schema) for entry in error.errors())
    if faults:
        faults.sort(key=lambda fault: _order(fault, overrides))
        many = f"{len(faults)} faults in this recipe:\n  " if len(faults) > 1 else ""
        raise RecipeError(many + "\n  ".join(faults))
    if kind is not None and (open_keys := list(_open(content))):  # without a verb a recipe is only looked at
        raise RecipeError(
            f"this recipe needs {' and '.join(open_keys)} from you",
            where=path.name,
            fix=" ".join(
                (_TAKEN_BY[kind].format(name), *map(shlex.quote, overrides), *(f"{key}=..." for key in open_keys))
            ),
        )
    return recipe


def _narrowed(schema: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """The schema with the settings of the strategy that is chosen, not of all."""
    node, choice = schema["properties"].get("strategy", {}), content.get("strategy", DEFAULT)
    name = choice.get("name", DEFAULT) if isinstance(choice, dict) else choice
    if "anyOf" in node:
        node["anyOf"] = [arm for arm in node["anyOf"] if arm.get("title") in (None, name)]
    return schema


def _open(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Keys whose value is left to the user."""
    for key, value in content.items():
        if isinstance(value, list):
            value = {str(place): entry for place, entry in enumerate(value)}
        if isinstance(value, dict):
            yield from _open(value, f"{prefix}{key}.")
        elif value == OPEN:
            yield f"{prefix}{key}"


_SIGNS = {"compare": "methods", "pretrain": "stages", "finetune": "task", "extend": ""}
"""Keys that tell what is meant where `kind` does not."""


def _lay_over(content: dict[str, Any], changes: Any) -> None:
    """Put another recipe's keys over those of this one, part by part; of `encoder: tiny` the dimensions stay."""
    if not isinstance(changes, dict):
        return  # told as a fault by the schema
    for key, value in changes.items():
        current = content.get(key)
        if key == "encoder" and isinstance(current, str):
            if current not in PRESETS:
                continue  # the schema says what is wrong with it
            current = content[key] = dict(PRESETS[current])
        if isinstance(value, dict) and isinstance(current, dict):
            _lay_over(current, value)
        else:
            content[key] = value


def json_schema() -> dict[str, Any]:
    """JSON Schema of all kinds of recipe, for editors."""
    adapter: TypeAdapter[Any] = TypeAdapter(Recipe)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "medcoss recipe",
        **adapter.json_schema(),
    }


def _order(fault: str, overrides: Sequence[str]) -> tuple[int, int]:
    """By line of the file, then the overrides as they were given."""
    place = next((i for i, override in enumerate(overrides, 1) if fault.startswith(f"override {override}: ")), 0)
    line = None if place else re.match(r".*?:(\d+): ", fault)
    return place, int(line[1]) if line else 0


def _fault(entry: Any, document: Document, schema: dict[str, Any]) -> str:
    """One fault in one line: place, key, what was found, what is allowed, the nearest key."""
    keys = _written(entry["loc"], schema)
    place, name = document.place(keys), dotted(keys)
    if entry["type"] == "extra_forbidden":
        allowed = list(_properties(_at(schema, keys[:-1]), schema))
        suggestion = _nearest(str(keys[-1]), allowed)
        return f"{place}: {name}: unknown key{suggestion or '; allowed are ' + ', '.join(allowed)}"
    if entry["type"] == "missing":
        return f"{place}: {name}: this key is required: {_allowed(_at(schema, keys), schema)}"
    if entry["type"] == "value_error":  # said by the schema, which names what it found
        return ": ".join(filter(None, (place, name, entry["msg"].removeprefix("Value error, "))))
    return f"{place}: {name}: {_shown(entry['input'])} where {_allowed(_at(schema, keys), schema)} is allowed"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a part with keys"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _written(loc: Sequence[str | int], schema: dict[str, Any]) -> Keys:
    """The keys as they stand in the file: pydantic adds the names of a union's arms."""
    keys: Keys = ()
    for before, part in zip((None, *loc), loc, strict=False):
        if isinstance(before, int) and part in STAGE_FORMS:
            continue
        node = _at(schema, keys)
        properties = _properties(node, schema)
        if isinstance(part, int) or part in properties or (properties and part == loc[-1]):
            keys = (*keys, part)
    return keys


def _at(schema: dict[str, Any], keys: Keys) -> dict[str, Any]:
    """The JSON Schema of what stands at some keys; {} where there is none."""
    node = schema
    for key in keys:
        if isinstance(key, int):
            lists = [arm for arm in _arms(node, schema) if "items" in arm]
            node = lists[0]["items"] if lists else {}
        else:
            node = _properties(node, schema).get(key, {})
    return node


def _arms(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What a schema allows, one after the other, references resolved."""
    if "$ref" in node:
        return _arms(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    several = node.get("anyOf") or node.get("oneOf")
    return [a for arm in several for a in _arms(arm, schema)] if several else [node]


def _properties(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The keys of every form that a part may have."""
    return {key: value for arm in _arms(node, schema) for key, value in arm.get("properties", {}).items()}


_TYPES = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def _allowed(node: dict[str, Any], schema: dict[str, Any]) -> str:
    """A schema in words: "a number above 0, or null"."""
    phrases = []
    for arm in _arms(node, schema):
        if "const" in arm or "enum" in arm:
            phrases += [repr(value) for value in arm.get("enum", [arm.get("const")])]
        elif "properties" in arm:
            phrases.append(f"a part with keys ({', '.join(arm['properties'])})")
        elif "items" in arm:
            minimum = f" with at least {arm['minItems']} entry" if arm.get("minItems") else ""
            phrases.append(f"a list{minimum}")
        elif "minLength" in arm:
            phrases.append("text that is not empty")
        elif arm.get("type") == "null":
            phrases.append("null")
        else:
            bounds = " and ".join(f"{words} {arm[key]:g}" for key, words in _BOUNDS.items() if key in arm)
            phrases.append(_TYPES.get(arm.get("type", ""), "something else") + (f" ({bounds})" if bounds else ""))
    return " or ".join(phrases)


def _nearest(word: str, candidates: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(candidates), 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""
