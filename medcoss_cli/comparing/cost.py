"""What cells will take: hours and disk, from those that are done, else from the machine's speed and the work to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import torch

from medcoss_cli.comparing import outcomes
from medcoss_cli.comparing.cells import Cell, Plan, Training, Tuning
from medcoss_cli.comparing.outcomes import Place
from medcoss_cli.console import Screen
from medcoss_cli.data.batches import turns_of
from medcoss_cli.data.read import find
from medcoss_cli.kit.sources.places import local
from medcoss_cli.pretraining.rehearsal import buffer_size
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
        recipe, total, kept = cell.recipe, 0.0, 0
        share = None if recipe.rehearsal.share == "proportional" else float(recipe.rehearsal.share)
        for number, stage in enumerate(recipe.stages, 1):
            passes, operations, new = stage.epochs or recipe.train.epochs, 0.0, 0
            for member in stage.members:
                count, tokens, patches = _samples(
                    member.modality,
                    member.data,
                    tuple(member.size or ()),
                    member.tokenizer,
                    str(place.data_root),
                    tuple((member.columns or {}).items()),
                )
                encoded = tokens * (1 - recipe.masking.patches) if patches else tokens
                decoded = tokens * _parameters(recipe.decoder) if patches else 0.0
                operations += 6 * count * passes * (encoded * _parameters(recipe.encoder) + decoded)
                new += count
            if recipe.strategy.cls.rehearses and new:  # a rehearsal step costs what one of the new data does, about
                steps, old = turns_of(new, kept, stage.batch or recipe.train.batch, passes, share)
                operations *= steps / (steps - old)
            kept += buffer_size(new, recipe.rehearsal.ratio)
            total += operations if number > 1 or not cell.first else 0.0
        return total
    if isinstance(cell, Tuning):
        tuned = cell.recipe
        count, tokens, _ = _samples(
            tuned.modality,
            tuned.data.folder,
            tuple(tuned.input.size or ()),
            tuned.tokenizer,
            str(place.data_root),
            tuple((tuned.data.columns or {}).items()),
        )
        tune, parameters = tuned.train, _parameters(tuned.encoder)
        if tuned.head.probe or tuned.head.freeze:  # every feature is computed once
            return 2 * parameters * tokens * 2 * count
        passes = tune.steps / (tune.validate_every or max(1, count // tune.batch))
        return parameters * tokens * (6 * tune.steps * tune.batch + 2 * (passes + 1) * count / 4)
    return 0.0


@lru_cache(maxsize=256)
def _samples(
    modality: str,
    folder: str,
    size: tuple[int, ...],
    tokenizer: str | None,
    root: str,
    columns: tuple[tuple[str, str], ...],
) -> tuple[int, int, bool]:
    """(recordings in a folder, tokens of a sample, whether these are patches)."""
    key = None if tokenizer is None else tokenizer.removeprefix("new").strip() or None
    fitted = for_stage(modality, {}, Screen(), tokenizer=key, size=list(size) or None)
    patch = fitted.tokenizer.spec.patch
    tokens = prod(fitted.size) // prod(patch) if patch else prod(fitted.size)
    return len(find(fitted, local(folder, Path(root)), "all", columns=dict(columns)).records), tokens, patch is not None


def _parameters(encoder: Any) -> float:
    """In the matrices of a transformer's blocks."""
    ratio = getattr(encoder, "mlp_ratio", 4.0)
    return 0.0 if encoder is None else float((4 + 2 * ratio) * encoder.width**2 * encoder.depth)


def _disk(cell: Cell) -> float:
    """GiB: a training keeps its checkpoint and the encoder of each stage, a fine-tuning its start and its model."""
    if isinstance(cell, Training):
        return _parameters(cell.recipe.encoder) * 4 * (2 + len(cell.recipe.stages)) / 2**30
    if isinstance(cell, Tuning):
        return _parameters(cell.recipe.encoder) * 4 * 2 / 2**30
    return 0.0


@lru_cache(maxsize=1)
def _speed() -> float:
    """Operations a second of a step, about: a quarter of what a product of two matrices reaches here."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.randn(1024, 1024, device=device)
    (x @ x).sum().item()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 0.2:
        x @ x
        count += 1
    x.sum().item()
    return 0.25 * 2 * 1024**3 * count / (time.perf_counter() - began)
