"""When overfitting is reported."""

from __future__ import annotations

import pytest

from medcoss_cli.finetuning.trainer import TrainerState, overfits


@pytest.mark.parametrize(
    ("step", "best", "loss", "expected"),
    [
        (30, 6, 0.1, False),  # "best at step 6" of 1000: it has only begun
        (400, 6, 0.1, False),
        (600, 6, 0.1, True),
        (600, 500, 0.1, False),  # better not long ago
        (600, 6, 0.9, False),  # the training loss does not fall either
    ],
)
def test_overfitting_is_not_called_at_the_beginning(step: int, best: int, loss: float, expected: bool) -> None:
    at = TrainerState(step=step, best_step=best, losses=[1.0, loss], losses_at_best=1.0)
    assert overfits(at, 1000, 6) is expected
