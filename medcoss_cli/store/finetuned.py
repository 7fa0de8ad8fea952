"""A fine-tuned network `model.pt`, and the start that all seeds of a run share. No sample, name or path is in either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import Tensor

from medcoss_cli import __version__
from medcoss_cli.errors import CheckpointError
from medcoss_cli.store import plain, typed
from medcoss_cli.store.checkpoint import SCHEMA, check_header

KIND = "fine-tuned model"


class _Facts(BaseModel, strict=True, extra="allow"):
    best_step: int = 0
    validation: dict[str, float | None] = {}


@dataclass(frozen=True)
class StoredTask:
    """A task in plain values, weights, and facts such as the validation scores."""

    task: dict[str, Any]
    weights: dict[str, Tensor]
    facts: dict[str, Any]


def save(stored: StoredTask, path: Path) -> None:
    """Write it atomically. Raises: ResourceError without space or permission."""
    header = {"schema": SCHEMA, "version": __version__, "file": KIND}
    plain.save({"medcoss": header, "task": stored.task, "weights": stored.weights, "facts": stored.facts}, path)


def load(path: Path) -> StoredTask:
    """Read it; nothing in the file is executed. Raises: CheckpointError with what is wrong."""
    content = plain.load(path)
    check_header(content.get("medcoss"), path, KIND)
    parts = [content.get(name) for name in ("task", "weights", "facts")]
    if not all(isinstance(part, Mapping) for part in parts) or not _tensors(content["weights"]):
        raise CheckpointError(f"the {KIND} is damaged", where=path, fix=plain.AGAIN)
    typed.checked(_Facts, content["facts"], path, fix=plain.AGAIN, what=f"the {KIND}")
    return StoredTask(content["task"], content["weights"], content["facts"])


def _tensors(weights: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items())
