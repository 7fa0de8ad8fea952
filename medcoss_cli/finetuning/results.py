"""What a fine-tuning leaves for people and programs: results.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from medcoss_cli.finetuning.dataset import facts_of
from medcoss_cli.finetuning.setup import FinetuneJob
from medcoss_cli.pretraining.state import versions
from medcoss_cli.store import atomic, typed
from medcoss_cli.store.run import without_paths
from medcoss_cli.store.scrubbed import scrubbed


def write_results(job: FinetuneJob) -> dict[str, Any]:
    """results.json from the seeds that are done: numbers, classes and the recipe; no absolute path is in any field."""
    paths = [job.run.folder / f"seed-{seed}" / "result.json" for seed in job.seeds]
    seeds = [_seed(path) for path in paths if path.exists()]
    tests = [entry["test"]["metrics"] for entry in seeds if entry["test"]]
    results = {
        "kind": "finetune",
        "task": job.spec.kind,
        "title": job.spec.title,
        "modality": job.spec.modality,
        "dims": job.modality.dims,
        "start": job.run.facts["start"],
        "recipe": without_paths(job.recipe.model_dump(mode="json")),
        "classes": job.spec.classes,
        "weights": seeds[0]["weights"],
        "data": facts_of(job.kind, job.labelled.cases),
        "unreadable": len(job.lost),
        "versions": versions({job.spec.modality: job.modality}),
        "seeds": seeds,
        "summary": {
            name: mean_sd([test[name] for test in tests if name in test]) for name in (tests[0] if tests else {})
        },
    }
    shareable: dict[str, Any] = scrubbed(results)
    atomic.write(job.run.folder / "results.json", json.dumps(shareable, indent=1).encode())
    return shareable


class _Test(BaseModel, strict=True, extra="allow"):
    metrics: dict[str, float | None]
    baseline: dict[str, float | None] = {}
    samples: int = 0
    intervals: dict[str, Annotated[list[float | None], Field(min_length=2, max_length=2)] | None] = {}


class _Seed(BaseModel, strict=True, extra="allow"):
    """What of a seed's result.json is used again."""

    seed: int
    steps: int
    best_step: int
    validation: dict[str, Any] | None
    test: _Test | None
    seconds: float
    peak_memory_gib: float
    peak_gpu_memory_gib: float = 0.0
    weights: dict[str, int]


def _seed(path: Path) -> dict[str, Any]:
    fix = "remove it; the seed is then tested again"
    return typed.read_plain(_Seed, path, fix=fix, what="the seed's result")


def json_values(value: Any) -> Any:
    """The same, with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: json_values(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def mean_sd(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and sample standard deviation of the values that are known."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    mean = sum(finite) / len(finite) if finite else None
    sd = (
        math.hypot(*(v - mean for v in finite)) / math.sqrt(len(finite) - 1)
        if mean is not None and len(finite) > 1
        else None
    )
    return {"mean": mean, "sd": sd}
