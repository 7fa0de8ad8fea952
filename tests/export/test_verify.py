"""What the comparison of an exported file with torch measures by."""

from __future__ import annotations

import numpy as np
import pytest

from medcoss_cli.errors import ExportError
from medcoss_cli.export.verify import FP32, Comparison, compare, judge


def compared(torch_values: np.ndarray, by: float) -> Comparison:
    values = torch_values.astype(np.float32)
    return compare(lambda x: [values], lambda x: [values + np.float32(by)], [values], (32,))


def test_rounding_of_large_outputs_that_nearly_agree_is_no_difference() -> None:
    ages = np.array([[40.01], [40.02]])
    judge([compared(ages, 1e-5)], "fp32", FP32)
    with pytest.raises(ExportError, match="differs from torch by"):
        judge([compared(ages, 1e-2)], "fp32", FP32)


def test_outputs_around_zero_are_measured_by_their_spread() -> None:
    features = np.random.default_rng(0).normal(0, 0.02, (16, 96))
    judge([compared(features, 1e-6)], "fp32", FP32)
    with pytest.raises(ExportError, match="differs from torch by"):
        judge([compared(features, 1e-5)], "fp32", FP32)
