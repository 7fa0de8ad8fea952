"""What cells will take: hours and disk, from those that are done, else from the machine's speed and the work to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch

from medcoss_cli.comparing import outcomes
from medcoss_cli.comparing.cells import Cell, Plan, Training, Tuning
from medcoss_cli.comparing.outcomes import Place
from medcoss_cli.console import Screen
from medcoss_cli.data.read import find
from medcoss_cli.registry.configure import for_stage

OVERHEAD = 2.0
"""Seconds of a cell beside its steps."""


@dataclass(frozen=True)
class Cost:
    """Of some cells."""

    hours: float
    gib: float


def costs(cells: Sequence[Cell], plan: Plan, place: Place, screen: Screen) -> Cost:
    """The sum over cells."""
    seconds = disk = 0.0
    for cell in cells:
        alike = _measured(type(cell), plan, place)
        work = _work(cell, plan, place)
        if alike is not None:
            seconds += alike[0] * work / alike[1] if alike[1] else alike[0]
        else:
            seconds += OVERHEAD + work / _speed()
        disk += _disk(cell)
    return Cost(seconds / 3600, disk)


def _measured(kind: type[Cell], plan: Plan, place: Place) -> tuple[float, float] | None:
    """(seconds, work) of the cells of a kind that are done."""
    seconds = work = 0.0
    for key, cell in plan.cells.items():
        if isinstance(cell, kind) and outcomes.done(place, key):
            seconds += float((outcomes.read(place, key) or {})["seconds"])
            work += _work(cell, plan, place)
    return (seconds, work) if seconds else None


def _work(cell: Cell, plan: Plan, place: Place) -> float:
    """Floating-point operations of the encoder, roughly: 6 a parameter and token of training, 2 of a test."""
    if isinstance(cell, Training):
        train, total = cell.recipe.train, 0.0
        stages = cell.recipe.stages[1 if cell.first else 0 :]
        for stage in stages:
            for member in stage.members:
                count, tokens = _samples(
                    member.modality, member.data, tuple(member.size or ()), member.tokenizer, str(place.data_root)
                )
                seen = tokens if tokens <= 512 and not member.size else tokens / 2  # a quarter, and a small decoder
                total += 6 * _parameters(cell.recipe.encoder) * seen * count * (stage.epochs or train.epochs)
        return total
    if isinstance(cell, Tuning):
        recipe = cell.recipe
        count, tokens = _samples(
            recipe.modality, recipe.data.folder, tuple(recipe.input.size or ()), recipe.tokenizer, str(place.data_root)
        )
        part = 2 if recipe.head.probe or recipe.head.freeze else 6
        passes = recipe.train.steps / (recipe.train.validate_every or max(1, count // recipe.train.batch))
        return (
            _parameters(recipe.encoder)
            * tokens
            * (part * recipe.train.steps * recipe.train.batch + 2 * passes * count / 4)
        )
    return 0.0


@lru_cache(maxsize=256)
def _samples(modality: str, folder: str, size: tuple[int, ...], tokenizer: str | None, root: str) -> tuple[int, int]:
    """(recordings in a folder, tokens of a sample)."""
    from pathlib import Path

    key = None if tokenizer is None else tokenizer.removeprefix("new").strip() or None
    fitted = for_stage(modality, {}, Screen(), tokenizer=key, size=list(size) or None)
    patch = fitted.tokenizer.spec.patch
    tokens = prod(fitted.size) // prod(patch) if patch else prod(fitted.size)
    return len(find(fitted, Path(root) / folder, "all").records), tokens


def _parameters(encoder: Any) -> float:
    return 0.0 if encoder is None else float((4 + 2 * encoder.mlp_ratio) * encoder.width**2 * encoder.depth)


def _disk(cell: Cell) -> float:
    """GiB: a training keeps its checkpoint and the encoder of each stage, a fine-tuning its start and its model."""
    if isinstance(cell, Training):
        return _parameters(cell.recipe.encoder) * 4 * (2 + len(cell.recipe.stages)) / 2**30
    if isinstance(cell, Tuning):
        return _parameters(cell.recipe.encoder) * 4 * 2 / 2**30
    return 0.0


@lru_cache(maxsize=1)
def _speed() -> float:
    """Operations a second of a step, about: a tenth of what a product of two matrices reaches here."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.randn(1024, 1024, device=device)
    (x @ x).sum().item()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 0.2:
        x @ x
        count += 1
    x.sum().item()
    return 0.1 * 2 * 1024**3 * count / (time.perf_counter() - began)
