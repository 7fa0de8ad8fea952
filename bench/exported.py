"""Seconds a sample: torch eager in fp32 and bf16, and exported files in onnxruntime, round by round in one run.

medcoss export CKPT --modality xray -o fp32.onnx
medcoss export CKPT --modality xray --precision int8 -o int8.onnx
python bench/exported.py CKPT xray fp32.onnx int8.onnx
python bench/exported.py --tiny   # does it run? a small checkpoint, made and exported here
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the small checkpoint is that of the tests

import numpy as np
import torch

from medcoss_cli.export import runtime
from medcoss_cli.export.networks import Features
from medcoss_cli.pretraining.state import read_state
from tests.pretraining_runs import train, write_demo

ROUNDS = int(os.environ.get("ROUNDS", "9"))


def tiny(folder: Path) -> list[str]:
    """Train a small checkpoint and export it; the arguments that compare the two."""
    data = write_demo(folder / "data", report=20, xray=20)
    train(folder, data, "train.epochs=0.2", "train.warmup=0")
    source, file = str(folder / "runs" / "run" / "ckpt.pt"), str(folder / "xray.onnx")
    command = [sys.executable, "-m", "medcoss_cli", "export", source, "--modality", "xray", "-o", file]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [source, "xray", file]


def main() -> None:
    """Compare what the command line names."""
    if sys.argv[1:] != ["--tiny"]:
        compare(*sys.argv[1:])
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(*tiny(Path(folder)))


def compare(source: str, modality: str, *files: str) -> None:
    """A row for each way and batch: the median over rounds, and how many times as fast as torch in fp32 (median of ratios)."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = read_state(Path(source)).model.eval()
    network, part = Features.of(model, modality), model.modalities[modality]
    rng = np.random.default_rng(0)

    @torch.no_grad()
    def eager(inputs: np.ndarray, precision: torch.dtype) -> None:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            network(torch.from_numpy(inputs))

    ways: dict[str, Callable[[np.ndarray], object]] = {
        "torch fp32": lambda inputs: eager(inputs, torch.float32),
        "torch bf16": lambda inputs: eager(inputs, torch.bfloat16),
    }
    for file in files:
        exported = runtime.load(Path(file))
        ways[f"onnxruntime {exported.about.precision}"] = exported.run
    print(f"{modality}, {os.environ['OMP_NUM_THREADS']} threads, median of {ROUNDS} rounds")
    for batch in (1, 16):
        shape = (batch, part.channels, *part.size)
        inputs = rng.random(shape, np.float32) if part.channels else rng.integers(5, 200, (batch, *part.size))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name, run in ways.items():
                began = time.perf_counter()
                run(inputs)
                if turn:  # the first warms up
                    seconds[name].append((time.perf_counter() - began) / batch)
        for name, took in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(seconds["torch fp32"], took, strict=True))
            print(
                f"batch {batch:2}  {name:18} {1000 * statistics.median(took):8.1f} ms a sample  {ratio:5.2f} x",
                flush=True,
            )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main()
