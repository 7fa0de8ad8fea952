"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # bits are the same for the same thread count, and tests run side by side


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real files to read: $MEDCOSS_TEST_DATA, else ../shared/data beside the repository."""
    repository = Path(__file__).parents[1]
    path = Path(os.environ.get("MEDCOSS_TEST_DATA", repository.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data: {path} is not there (set MEDCOSS_TEST_DATA)")
    return path
