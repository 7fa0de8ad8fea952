"""Samples per second of a prepared set on one core, augmentation included: python bench/read_prepared.py

Targets: 2,000/s of 3 x 224 x 224, 100/s of 16 x 192 x 192. With --tiny it only shows that it runs.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from medcoss_cli.data.prepared import PreparedSet
from medcoss_cli.kit import CropAndFlip, Mirror
from medcoss_cli.plugin import Augment
from medcoss_cli.randomness import generator


def write(folder: Path, shape: tuple[int, ...], dtype: str, rows: int, shards: int, high: int = 255) -> PreparedSet:
    """A prepared set of noise below `high` in as many shards, as `prepare` lays it out."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for shard in range(shards):
        np.save(folder / f"shard-{shard:05d}.npy", rng.integers(0, high, (rows // shards, *shape)).astype(dtype))
    numbers = {"scale": np.ones(rows, np.float32), "offset": np.zeros(rows, np.float32), "records": np.arange(rows)}
    np.savez(folder / "rows.npz", groups=np.arange(rows, dtype=np.int32), **numbers)
    index = {"rows": rows, "size": shape[1:] or shape, "data_hash": "", "bad": 0, "refused": {}, "notes": {}}
    index["shards"] = [{"file": f"shard-{i:05d}.npy", "rows": rows // shards} for i in range(shards)]
    (folder / "index.json").write_text(json.dumps(index))
    return PreparedSet.open(folder)


def rate(prepared: PreparedSet, augment: Augment | None, batch: int, batches: int) -> float:
    """Samples per second of random batches, median of the batches."""
    seconds = []
    for step in range(batches):
        rows = np.random.default_rng(step).integers(0, len(prepared), batch)
        began = time.perf_counter()
        stored = torch.from_numpy(prepared.read(rows)[0])
        if augment is not None:
            torch.cat([augment(stored[i : i + 1], generator(0, step, i)) for i in range(batch)])
        seconds.append(time.perf_counter() - began)
    return batch / statistics.median(seconds)


def main() -> None:
    torch.set_num_threads(1)
    tiny = "--tiny" in sys.argv
    with tempfile.TemporaryDirectory() as folder:
        colour = write(Path(folder) / "images", (3, 224, 224), "uint8", 64 if tiny else 2048, 4)
        volumes = write(Path(folder) / "volumes", (1, 16, 192, 192), "int16", 8 if tiny else 128, 4)
        for name, prepared, augment, batch in (
            ("3 x 224 x 224 uint8, read only", colour, None, 64),
            ("3 x 224 x 224 uint8, crop and flip", colour, CropAndFlip(), 64),
            ("16 x 192 x 192 int16, read only", volumes, None, 8),
            ("16 x 192 x 192 int16, mirror", volumes, Mirror(), 8),
        ):
            rate(prepared, augment, batch, 1 if tiny else 3)
            print(f"{name:40s} {rate(prepared, augment, batch, 2 if tiny else 20):8.0f} samples/s", flush=True)


if __name__ == "__main__":
    main()
