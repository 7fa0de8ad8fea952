"""Is an exported file what it was made from? what computes it against torch on real samples, at several batches and sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medcoss_cli.errors import ExportError
from medcoss_cli.model.outputs import Array

BATCHES = (1, 2, 5, 16)


@dataclass(frozen=True)
class Tolerance:
    """How far a precision may be from torch.

    Args:
        relative: largest difference in std of the output; None: any.
        cosine: smallest cosine between the pooled outputs of a sample.
        lost: share of nearest-neighbour accuracy that may be lost; None: not judged.
    """

    relative: float | None
    cosine: float
    lost: float | None = None

    def to_plain(self) -> dict[str, float | None]:
        """What the numbers of the verification name."""
        return {"relative": self.relative, "cosine": self.cosine}


FP32 = Tolerance(1e-4, 0.9999)

Run = Callable[..., list[Array]]
"""Input arrays to all outputs."""


@dataclass(frozen=True)
class Comparison:
    """One comparison: of all outputs the largest difference, and the smallest cosine of a sample's pooled output."""

    batch: int
    size: tuple[int, ...]
    difference: float
    """Absolute, the largest over all outputs."""
    relative: float
    """The same in std of its output, see `_spread`."""
    cosine: float

    def to_plain(self) -> dict[str, Any]:
        return {**vars(self), "size": list(self.size)}


def compare(torch_run: Run, file_run: Run, inputs: Sequence[Array], size: tuple[int, ...]) -> Comparison:
    """Both on the same inputs; the last output is what is pooled: (N, D) features, or logits."""
    torch_outputs, file_outputs = torch_run(*inputs), file_run(*inputs)
    differences = [float(np.abs(w - f).max()) for w, f in zip(torch_outputs, file_outputs, strict=True)]
    spread = [_spread(w) for w in torch_outputs]
    relative = max(d / s for d, s in zip(differences, spread, strict=True))
    a, b = (part[-1].reshape(len(part[-1]), -1).astype(np.float64) for part in (torch_outputs, file_outputs))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(1) / np.where(norms > 0, norms, 1.0)
    return Comparison(len(inputs[0]), size, max(differences), relative, float(cosine.min()))


def _spread(outputs: Array) -> float:
    """The scale of an output: its standard deviation, or a hundredth of its root mean square if that is larger.

    Outputs that nearly agree, such as two ages of 40.01 and 40.02, have a standard deviation close to the rounding error
    of float32 at 40. The scale of an output of zeros is 1.
    """
    exact = outputs.astype(np.float64)
    return max(float(exact.std()), 0.01 * float(np.sqrt(np.square(exact).mean()))) or 1.0


def judge(rows: Sequence[Comparison], precision: str, allowed: Tolerance) -> None:
    """Raises: ExportError (exit 8) where a row is outside the tolerance."""
    fix = "export with --precision fp32" if precision != "fp32" else "please report this"
    for row in rows:
        where = f"batch {row.batch}, size {' x '.join(map(str, row.size))}"
        if not np.isfinite(row.difference):
            raise ExportError(f"at {where} it gives numbers that are not finite in {precision}", fix=fix)
        if allowed.relative is not None and not row.relative <= allowed.relative:
            raise ExportError(
                f"at {where} it differs from torch by {row.relative:.2g} std of its output, "
                f"{allowed.relative:g} are allowed in {precision}",
                fix=fix,
            )
        if not row.cosine >= allowed.cosine:
            raise ExportError(
                f"at {where} the cosine to torch is {row.cosine:.5f}, {allowed.cosine} is required in {precision}",
                fix=fix,
            )


def judge_neighbours(torch_share: float, file_share: float, allowed: Tolerance) -> None:
    """Raises: ExportError where more nearest-neighbour accuracy is lost than allowed."""
    if allowed.lost is not None and file_share < torch_share - allowed.lost:
        raise ExportError(
            f"nearest-neighbour accuracy falls from {torch_share:.3f} to {file_share:.3f}, {allowed.lost:.3f} are allowed",
            fix="export with --precision fp16 or fp32",
        )
