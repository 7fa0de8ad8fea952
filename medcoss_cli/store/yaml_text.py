"""YAML as people write it, and as files that were tampered with: plain values, nothing made of tags, no growth by aliases."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from medcoss_cli.store.typed import FURTHEST, HALF, is_whole

Keys = tuple[str | int, ...]

LARGEST = 20_000  # values; a small file of nested aliases can stand for billions
DEEPEST = 20
LONGEST = 2**18  # characters; reading a mebibyte takes half a minute


class Loader(yaml.SafeLoader):
    """Safe YAML whose keys are text, in which 1e-3 is a number and nothing is a date. Raises: ValueError for endless texts."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise ValueError(f"it has {len(text):,} characters, more than {LONGEST:,}")
        super().__init__(text)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


# of PyYAML's own constructors
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def read(text: str) -> Any:
    """The values of a text. Raises: ValueError with what is wrong, also for more than anybody writes by hand."""
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        list(places(node))
        return unshared(loader.construct_document(node)) if node is not None else None
    except (yaml.YAMLError, *UNREADABLE) as error:
        raise ValueError(reason(error)) from error


def reason(error: BaseException) -> str:
    """In a line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return str(text).partition("\n")[0]


def places(node: yaml.Node | None) -> Iterator[tuple[Keys, yaml.Node, bool]]:
    """(keys, where they stand, whether they stood before) of everything below a node.

    Raises: ValueError for more than anybody writes by hand, so that aliases cannot grow without end, YAMLError for a key that
        is no word and for half of a character.
    """
    budget = LARGEST
    todo: list[tuple[Keys, yaml.Node]] = [] if node is None else [((), node)]
    while todo:
        at, node = todo.pop()
        budget -= 1
        if budget < 0 or len(at) > DEEPEST:
            raise ValueError("it is nested too deeply or is too large")
        if isinstance(node, yaml.ScalarNode):
            _check(node)
        elif isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.MarkedYAMLError(problem="a key is not a word", problem_mark=key.start_mark)
                _check(key)
                merge = key.tag.endswith(":merge")  # an error in its keys names the line of the <<
                if not merge:
                    yield (*at, key.value), key, key.value in names
                    names.add(key.value)
                todo.append((at if merge else (*at, key.value), value))
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                yield (*at, i), value, False
                todo.append(((*at, i), value))


def _check(scalar: yaml.ScalarNode) -> None:
    if not is_whole(scalar.value):  # JSON writes some characters as two halves
        scalar.value = scalar.value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if not is_whole(scalar.value):
        raise yaml.MarkedYAMLError(problem=HALF, problem_mark=scalar.start_mark)


def unshared(value: Any) -> Any:
    """A copy in which nothing stands in two places, so that an override reaches one stage, not all that share an alias."""
    if isinstance(value, dict):
        return {key: unshared(inner) for key, inner in value.items()}
    if isinstance(value, int | float) and FURTHEST < abs(value) < math.inf:
        raise ValueError("a number of more than a hundred digits")
    return [unshared(inner) for inner in value] if isinstance(value, list) else value
