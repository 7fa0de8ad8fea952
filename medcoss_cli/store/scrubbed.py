"""Plain values without any absolute path, for files that may be shared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# at the beginning, or behind what is no part of a name; to the end of the text, since a path may hold spaces
_ABSOLUTE = re.compile(
    r"(?:^|(?<=[^A-Za-z0-9.~/\\-]))(?:file://.|~[\w.-]*[/\\]|[A-Za-z]:[/\\]|\\\\|/(?![/\s])|(?<!:)//\w).*",
    re.DOTALL,
)


def scrubbed(value: Any) -> Any:
    """The same value; in each text and key an absolute path, and what follows it, is "(path 1)", another one "(path 2)"."""
    return _scrub(value, {})


def _scrub(value: Any, numbers: dict[str, int]) -> Any:
    if isinstance(value, str):
        return _ABSOLUTE.sub(lambda match: f"(path {numbers.setdefault(match[0], len(numbers) + 1)})", value)
    if isinstance(value, Mapping):
        return {_scrub(key, numbers): _scrub(entry, numbers) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_scrub(entry, numbers) for entry in value]
    return value
