"""A recipe as it is written: YAML with the line of every key, and the overrides put into it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from medcoss_cli.errors import RecipeError

Keys = tuple[str | int, ...]

LARGEST = 20_000  # values; a small file of nested aliases can stand for billions
DEEPEST = 20


class RecipeLoader(yaml.SafeLoader):
    """Safe YAML whose keys are text, in which 1e-3 is a number and nothing is a date."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


RecipeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


class Document:
    """What a recipe's file says, before anybody asks whether it is allowed.

    Args:
        path: the file.
        words: keys that may hold one word for several keys (`encoder: base`), and what each word stands for.

    Raises: RecipeError if it is no YAML mapping; lesser faults are collected in `faults`.
    """

    def __init__(self, path: Path, words: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        self.path, self.words = path, words
        self.lines: dict[Keys, str] = {}
        self.faults: list[str] = []
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"the recipe cannot be read ({error})", where=path) from error
        try:
            loader = RecipeLoader(text)
            node = loader.get_single_node()
            for keys, entry, repeated in _places(node):
                where = f"{path}:{entry.start_mark.line + 1}"
                if repeated:
                    self.faults.append(f"{where}: {dotted(keys)}: the key appears twice")
                self.lines[keys] = where
            content = loader.construct_document(node) if node is not None else None
        except (yaml.YAMLError, *_UNREADABLE) as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{path}:{mark.line + 1}" if mark else str(path)
            raise RecipeError(
                f"this is not YAML ({_reason(error)})", where=place, fix="check indentation, colons, quotes"
            ) from error
        if not isinstance(content, dict):
            raise RecipeError("the recipe holds no keys", where=path, fix="see `medcoss recipes show mini`")
        self.content: dict[str, Any] = _unshared(content)

    def place(self, keys: Keys) -> str:
        """Where a key stands, or the nearest one around it: "file:line", or "override key=value"."""
        return next((self.lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in self.lines), str(self.path))

    def override(self, text: str) -> None:
        """Put "key.sub=value" into the content, making the parts on the way where they are left out."""
        key, equals, written = (part.strip() for part in text.partition("="))
        where = f"override {text}"
        steps: Keys = tuple(int(step) if step.isdecimal() else step for step in key.split("."))
        if not equals or "" in steps:
            self.faults.append(f"{where}: this is not of the form key=value, as in train.epochs=3")
            return
        try:
            loader = RecipeLoader(written)
            node = loader.get_single_node()
            list(_places(node))
            value = _unshared(loader.construct_document(node)) if node is not None else None
        except (yaml.YAMLError, *_UNREADABLE) as error:
            self.faults.append(f"{where}: {key}: the value is not YAML ({_reason(error)})")
            return
        target: Any = self.content
        for n, step in enumerate(steps, 1):
            last = n == len(steps)
            if isinstance(target, list):
                if not isinstance(step, int) or step >= len(target):
                    self.faults.append(
                        f"{where}: there is no {dotted(steps[:n])}; {dotted(steps[: n - 1])} has "
                        f"{len(target)}, counted from 0"
                    )
                    return
            elif isinstance(target, dict):
                step = str(step)
                word = target.get(step)
                if not last and (word is None or (isinstance(word, str) and word in self.words.get(step, {}))):
                    target[step] = dict(self.words[step][word]) if word is not None else {}
            else:
                self.faults.append(f"{where}: {dotted(steps[: n - 1])} is {target!r}, which has no keys")
                return
            if last:
                target[step] = value
            else:
                target = target[step]
        for keys in [k for k in self.lines if k[: len(steps)] == steps]:
            del self.lines[keys]
        for n in range(1, len(steps) + 1):
            self.lines.setdefault(steps[:n], where)


_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)  # of PyYAML's own constructors


def dotted(keys: Keys) -> str:
    """As in stages.0.size."""
    return ".".join(map(str, keys))


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return str(text).partition("\n")[0]


def _places(node: yaml.Node | None) -> Iterator[tuple[Keys, yaml.Node, bool]]:
    """(keys, where they stand, whether they stood before) of everything below a node.

    Raises: ValueError for more than anybody writes by hand, so that aliases cannot grow without end.
    """
    budget = LARGEST
    todo: list[tuple[Keys, yaml.Node]] = [] if node is None else [((), node)]
    while todo:
        at, node = todo.pop()
        budget -= 1
        if budget < 0 or len(at) > DEEPEST:
            raise ValueError("it is nested too deeply or is too large")
        if isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.MarkedYAMLError(problem="a key is not a word", problem_mark=key.start_mark)
                merge = key.tag.endswith(":merge")  # its keys are told at the place of the <<
                if not merge:
                    yield (*at, key.value), key, key.value in names
                    names.add(key.value)
                todo.append((at if merge else (*at, key.value), value))
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                yield (*at, i), value, False
                todo.append(((*at, i), value))


def _unshared(value: Any) -> Any:
    """A copy in which nothing stands in two places, so that an override reaches one stage, not all that share an alias."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value
