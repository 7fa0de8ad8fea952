"""Reading back what medcoss wrote. A file may be damaged, or a stranger's: no value is used before its type is known."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from medcoss_cli.errors import CheckpointError, MedcossError, is_of_the_machine

Kind = TypeVar("Kind")
LARGEST = 256 * 2**20
"""Bytes of a JSON file."""
DEEPEST = 50
DIGITS = 20
"""Of a whole number: 64 bits."""
FURTHEST = 1e100
"""From 0, of a number: squares of such numbers can be added up."""
HALF = "a text holds half of a character"


def read_json(
    kind: type[Kind], path: Path, *, fix: str, error: type[MedcossError] = CheckpointError, what: str = "the file"
) -> Kind:
    """A JSON file as a value of a kind. Raises: `error`, naming the file and the key; FileNotFoundError."""
    return checked(kind, _content(path, fix, error, what), path, fix=fix, error=error, what=what)


def read_plain(
    kind: type[Any], path: Path, *, fix: str, error: type[MedcossError] = CheckpointError, what: str = "the file"
) -> dict[str, Any]:
    """The same as it was written, in plain values."""
    content: dict[str, Any] = _content(path, fix, error, what)
    checked(kind, content, path, fix=fix, error=error, what=what)
    return content


def _content(path: Path, fix: str, error: type[MedcossError], what: str) -> Any:
    try:
        if path.stat().st_size > LARGEST:
            raise error(f"{what} is larger than {LARGEST >> 20} MiB", where=path, fix=fix)
        return loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as fault:
        if is_of_the_machine(fault):
            raise
        raise error(f"{what} is damaged ({fault})"[:300], where=path, fix=fix) from fault


def loads(text: str) -> Any:
    """JSON without a key that stands twice.

    Raises: ValueError, also for what is nested too deeply, for endless numbers and for halves of characters.
    """
    try:
        content = json.loads(text, object_pairs_hook=_once, parse_int=whole, parse_float=_real)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level = [content]
    for _ in range(DEEPEST):
        if not all(is_whole(text) for text in level if isinstance(text, str)):
            raise ValueError(HALF)
        parts = [
            (*part, *part.values()) if isinstance(part, dict) else part
            for part in level
            if isinstance(part, dict | list)
        ]
        level = [entry for part in parts for entry in part]
    if level:
        raise ValueError("it is nested too deeply")
    return content


def is_whole(text: str) -> bool:
    """Can it be written and drawn? Not with half of a character (a lone surrogate) in it, but with bytes of a file's name
    that are not UTF-8, which Python has as U+DC80 to U+DCFF.
    """
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def whole(text: str) -> int:
    """A whole number of 64 bits or so. Raises: ValueError."""
    if len(text.lstrip("-")) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if abs(value) > FURTHEST:
        raise ValueError(f"the number {text[:20]}")
    return value


def checked(
    kind: type[Kind],
    content: object,
    where: object,
    *,
    fix: str,
    error: type[MedcossError] = CheckpointError,
    what: str = "the file",
) -> Kind:
    """Plain values as a value of a kind: a dataclass, a pydantic model or dict[str, int]. Raises: `error`, naming the key."""
    try:
        value: Kind = _adapter(cast(Any, kind)).validate_python(content)
        return value
    except ValidationError as refused:
        first = refused.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part)[:40] for part in first["loc"])
        text = f"{key}: {first['msg']}" if key else first["msg"]
        raise error(f"{what} is damaged ({text})", where=where, fix=fix) from refused
    except RecursionError as refused:
        raise error(f"{what} is damaged (it is nested too deeply)", where=where, fix=fix) from refused


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice[:40]!r} stands twice")
    return content
