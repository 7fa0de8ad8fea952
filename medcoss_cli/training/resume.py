"""What pre-training and fine-tuning check in the same way: is the data still the same, is the loss finite?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medcoss_cli.errors import CheckpointError, DataError, NonFiniteError


def check_data(stored: str, now: str, folder: Path) -> None:
    """Compare hashes of the prepared data. Raises: DataError where a run would go on with other data than it began with."""
    if stored != now:
        raise DataError(
            "the data has changed since the run was interrupted",
            where=folder,
            fix="restore the files, or start again with --overwrite",
        )


@contextmanager
def taken_up(file: Path, fix: str) -> Iterator[None]:
    """While the content of a file is put to use: whatever does not fit there means that it is damaged.

    Raises: CheckpointError.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0][:120]
        raise CheckpointError(f"the file is damaged ({reason})", where=file, fix=fix) from error


def step_in(value: object, steps: int) -> int:
    """A stored number of steps done. Raises: ValueError for what is none of a training of so many."""
    if not isinstance(value, int) or not 0 <= value <= steps:
        raise ValueError(f"step {str(value)[:40]} of {steps}")
    return value


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Take up an optimiser's moments; its settings are the recipe's, and not taken from a file.

    Raises: ValueError, TypeError or KeyError where they are not of these parameters.
    """
    groups = optimiser.state_dict()["param_groups"]
    if [group["params"] for group in groups] != [group["params"] for group in state["param_groups"]]:
        raise ValueError("groups of other parameters")
    optimiser.load_state_dict({"state": state["state"], "param_groups": groups})
    for parameter, values in optimiser.state.items():  # of AdamW; a parameter that had no gradient yet has no entry
        _check_moments(parameter, values)


def _check_moments(parameter: Tensor, values: object) -> None:
    if (
        not isinstance(values, Mapping)
        or values.keys() != {"step", "exp_avg", "exp_avg_sq"}
        or not all(isinstance(v, Tensor) for v in values.values())
    ):
        raise ValueError("moments of some parameters are missing")
    step = values["step"]
    if step.ndim or not step.is_floating_point() or not 0 <= float(step) < math.inf:
        raise ValueError("a step of the moments is no number of steps")
    for moments in (values["exp_avg"], values["exp_avg_sq"]):
        if moments.shape != parameter.shape or moments.layout != torch.strided:
            raise ValueError("moments of another shape")


def check_loss(value: float, at: str, folder: Path) -> None:
    """Raises: NonFiniteError for a loss that is not finite; `at` says at which step."""
    if not math.isfinite(value):
        raise NonFiniteError(
            f"the loss is {value} at {at}; the last good state is kept",
            where=folder,
            fix="lower train.lr, or set train.precision=fp32, and start again",
        )


def check_parameters(parameters: Iterable[nn.Parameter], at: str, folder: Path) -> None:
    """Raises: NonFiniteError for parameters that are not finite, before they are saved; `at` says at which step."""
    if not all(bool(p.isfinite().all()) for p in parameters):
        raise NonFiniteError(
            f"parameters are no longer finite at {at}; the last good state is kept",
            where=folder,
            fix="lower train.lr and --resume",
        )
