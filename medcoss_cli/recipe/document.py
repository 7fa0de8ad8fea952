"""A recipe as it is written: YAML with the line of every key, and the overrides put into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from medcoss_cli.errors import RecipeError
from medcoss_cli.store import yaml_text
from medcoss_cli.store.yaml_text import Keys


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
            loader = yaml_text.Loader(text)
            node = loader.get_single_node()
            for keys, entry, repeated in yaml_text.places(node):
                where = f"{path}:{entry.start_mark.line + 1}"
                if repeated:
                    self.faults.append(f"{where}: {dotted(keys)}: the key appears twice")
                self.lines[keys] = where
            content = yaml_text.unshared(loader.construct_document(node)) if node is not None else None
        except (yaml.YAMLError, *yaml_text.UNREADABLE) as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{path}:{mark.line + 1}" if mark else str(path)
            raise RecipeError(
                f"this is not YAML ({yaml_text.reason(error)})", where=place, fix="check indentation, colons, quotes"
            ) from error
        if not isinstance(content, dict):
            raise RecipeError("the recipe holds no keys", where=path, fix="see `medcoss recipes show mini`")
        self.content: dict[str, Any] = content

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
            loader = yaml_text.Loader(written)
            node = loader.get_single_node()
            list(yaml_text.places(node))
            value = yaml_text.unshared(loader.construct_document(node)) if node is not None else None
        except (yaml.YAMLError, *yaml_text.UNREADABLE) as error:
            self.faults.append(f"{where}: {key}: the value is not YAML ({yaml_text.reason(error)})")
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


def dotted(keys: Keys) -> str:
    """As in stages.0.size."""
    return ".".join(map(str, keys))
