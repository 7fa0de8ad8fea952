"""All installed modalities conform, and the suite finds what does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from medcoss_cli import discovery
from medcoss_cli.kit import conformance
from medcoss_cli.plugin import Modality, Record, Sample


@pytest.mark.parametrize("name", discovery.names())
def test_an_installed_modality_conforms(name: str, tmp_path: Path) -> None:
    modality = discovery.load_modality(name)
    small = {1: (32,), 2: (32, 32), 3: (16, 32, 32)}[modality.dims]
    assert conformance.check(modality.with_size(small), tmp_path) == []


@dataclass(frozen=True)
class Unstable:
    """A loader that reads something else every time."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record]:
        yield from (Record(path) for path in sorted(root.glob("*.npy")))

    def read(self, record: Record) -> Sample:
        return Sample(np.random.default_rng().normal(size=(1, 40, 40)))


def unseeded(root: Path, count: int, seed: int) -> None:
    """A demo that ignores its seed."""
    root.mkdir(parents=True)
    for i in range(count):
        np.save(root / f"{i}.npy", np.random.default_rng().normal(size=(1, 40, 40)))


def test_a_modality_that_does_not_conform_is_told_all_its_faults(tmp_path: Path) -> None:
    modality = Modality("odd", "Odd", dims=2, size=(32, 32), channels=1, loader=Unstable(), demo=unseeded)
    faults = "\n".join(conformance.check(modality, tmp_path / "a"))
    assert "other bytes the second time" in faults
    assert "reads other values the second time" in faults
    wrong = replace(modality, size=(32,))
    assert "size is (32,)" in conformance.check(wrong, tmp_path / "b")[0]
    three = replace(modality, channels=3)
    assert "1 channels where 3 are expected" in "\n".join(conformance.check(three, tmp_path / "c"))
