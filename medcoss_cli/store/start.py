"""What a fine-tuning began from, in plain values: enough to tell two checkpoints apart. Shareable: no path is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medcoss_cli.store import yaml_text
from medcoss_cli.store.history import parts

SCRATCH: dict[str, Any] = {"from": "scratch"}
SHORT = 7
"""Letters of a hash that people are shown."""


def described(path: Path, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A checkpoint's hash, its last stage's strategy with settings, the modalities of its stages in order, its run's title.

    Args:
        history: the checkpoint's.
    """
    last = history[-1] if history else {}
    recipe = last.get("recipe")
    settings = recipe.get("strategy") if isinstance(recipe, Mapping) else None
    strategies = dict.fromkeys(str(entry["strategy"]) for entry in history if entry.get("strategy"))
    return {
        "from": "checkpoint",
        "sha256": digest(path),
        "strategy": ", then ".join(strategies) or None,
        "settings": settings,
        "stages": ["+".join(parts(entry)) for entry in history],
        # a stage's file lies in stages/N-MODALITY of the run
        "title": next(
            filter(None, (_title(folder / "recipe.yaml") for folder in (path.parent, *path.parents[2:3]))), None
        ),
    }


def digest(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def named(start: object) -> str:
    """A start in words: "medcoss: report, xray"."""
    if not isinstance(start, Mapping):
        return "–"
    if start.get("from") != "checkpoint":
        return str(start.get("from") or "–")
    stages = start.get("stages")
    order = ", ".join(map(str, stages)) if isinstance(stages, list) else ""
    return ": ".join(filter(None, (str(start.get("strategy") or "imported"), order)))


def titled(start: object) -> str:
    """The same with the title of the checkpoint's run."""
    title = start.get("title") if isinstance(start, Mapping) else None
    return f"{named(start)} ({title})" if isinstance(title, str) and title else named(start)


def hashed(start: object) -> str:
    """The same with the beginning of the checkpoint's hash."""
    content = start.get("sha256") if isinstance(start, Mapping) else None
    return f"{titled(start)} {content[:SHORT]}" if isinstance(content, str) else titled(start)


def _title(recipe: Path) -> str | None:
    """The title of the run that the checkpoint lies in; None where it lies alone."""
    try:
        content = yaml_text.read(recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    title = content.get("title") if isinstance(content, Mapping) else None
    return title if isinstance(title, str) and title else None
