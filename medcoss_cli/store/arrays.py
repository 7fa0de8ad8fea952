"""Numbers of test cases, as an .npz file. Private: one row a case, though no name is in it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.store import atomic

Array = np.ndarray[Any, Any]


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name; object arrays are refused by numpy."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **dict(arrays))
    atomic.write(path, content.getvalue())


def load_arrays(path: Path) -> dict[str, Array]:
    """What `save_arrays` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
