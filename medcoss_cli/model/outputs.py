"""What a network gives, as probabilities or their logarithms.

numpy alone, so that an exported network is used in the same way as a torch module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from medcoss_cli.errors import NonFiniteError

Array = np.ndarray[Any, Any]
Network = Callable[[Array], Array]
"""Inputs (N, C, *size), or ids (N, L), to what a network gives of them."""


def finite(outputs: Array) -> Array:
    """The same, if every number is finite: NaN would pass for some class, or for background. Raises: NonFiniteError."""
    if not np.isfinite(outputs).all():
        raise NonFiniteError(
            "the network's outputs are not finite", fix="look at the inputs with `medcoss data preview`"
        )
    return outputs


def sigmoid(logits: Array) -> Array:
    """Of each logit for itself."""
    with np.errstate(over="ignore"):  # exp(-x) of very negative logits is infinite, and the quotient 0
        probabilities: Array = 1 / (1 + np.exp(-logits.astype(np.float32)))
    return probabilities


def log_softmax(logits: Array) -> Array:
    """Logarithms of the probabilities over the last axis, in double precision.

    Probabilities of sure predictions are all 1 or 0, and cannot be ranked; their logarithms can.
    """
    logits = logits.astype(np.float64)
    logarithms: Array = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return logarithms
