"""Is an exported file what it was made from? ONNX Runtime against torch on real samples, at several batches and sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medcoss_cli.errors import ExportError
from medcoss_cli.model.outputs import Array

BATCHES = (1, 2, 5, 16)
TOLERANCE = {"fp32": 1e-4, "fp16": 5e-2, "int8": None}
"""Largest difference allowed, in standard deviations of the output."""
COSINE = {"fp32": 0.9999, "fp16": 0.9999, "int8": 0.999}
"""Smallest cosine allowed between pooled outputs."""
LOST = 0.005
"""Share of nearest-neighbour accuracy that int8 may lose."""

Run = Callable[..., list[Array]]
"""Input arrays to all outputs."""


@dataclass(frozen=True)
class Row:
    """One comparison: of all outputs the largest difference, and the smallest cosine of a sample's pooled output."""

    batch: int
    size: tuple[int, ...]
    difference: float
    """Absolute, the largest over all outputs."""
    relative: float
    """The same in standard deviations of its output."""
    cosine: float

    def to_plain(self) -> dict[str, Any]:
        return {**vars(self), "size": list(self.size)}


def compare(torch_run: Run, onnx_run: Run, inputs: Sequence[Array], size: tuple[int, ...]) -> Row:
    """Both on the same inputs; the last output is what is pooled: (N, D) features, or logits."""
    wanted, found = torch_run(*inputs), onnx_run(*inputs)
    differences = [float(np.abs(w - f).max()) for w, f in zip(wanted, found, strict=True)]
    spread = [float(w.std()) or 1.0 for w in wanted]
    relative = max(d / s for d, s in zip(differences, spread, strict=True))
    a, b = (part[-1].reshape(len(part[-1]), -1).astype(np.float64) for part in (wanted, found))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(1) / np.where(norms > 0, norms, 1.0)
    return Row(len(inputs[0]), size, max(differences), relative, float(cosine.min()))


def judge(rows: Sequence[Row], precision: str) -> None:
    """Raises: ExportError (exit 8) where a row is outside the tolerance."""
    limit = TOLERANCE[precision]
    fix = "export with --precision fp32" if precision != "fp32" else "tell us: this should not be"
    for row in rows:
        where = f"batch {row.batch}, size {' x '.join(map(str, row.size))}"
        if not np.isfinite(row.difference):
            raise ExportError(f"at {where} it gives numbers that are not finite in {precision}", fix=fix)
        if limit is not None and not row.relative <= limit:
            raise ExportError(
                f"at {where} it differs from torch by {row.relative:.2g} standard deviations of its output, "
                f"{limit:g} are allowed in {precision}",
                fix=fix,
            )
        if not row.cosine >= COSINE[precision]:
            raise ExportError(
                f"at {where} the cosine to torch is {row.cosine:.5f}, {COSINE[precision]} is asked in {precision}",
                fix=fix,
            )


def judge_neighbours(torch_share: float, onnx_share: float) -> None:
    """Raises: ExportError where int8 loses more than half a point of nearest-neighbour accuracy."""
    if onnx_share < torch_share - LOST:
        raise ExportError(
            f"nearest-neighbour accuracy falls from {torch_share:.3f} to {onnx_share:.3f}, {LOST:.3f} are allowed",
            fix="export with --precision fp16 or fp32",
        )
