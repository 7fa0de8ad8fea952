"""What a GPU makes of medcoss: steps and their share of the matrix rate, attention, waiting, memory, synchronising calls.

It makes its own data and stays inside its time; what does not fit or fails is a line of the report, and the rest goes on.

    python bench/gpu.py --out report.md              # ViT-B, at most 8 minutes
    python bench/gpu.py --tiny                       # does it run? a small network, on the CPU too
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import signal
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout that is not installed

import numpy as np
import torch
from read_prepared import write
from step import CASES, DEVICE, TINY, StepCase, Trained, device_name, flops, inputs, matmul_rate, seconds

from medcoss_cli.console import Screen
from medcoss_cli.data.batches import Plan, Pool
from medcoss_cli.data.prepared import PreparedSet
from medcoss_cli.pretraining import retention
from medcoss_cli.pretraining.engine import Engine
from medcoss_cli.recipe.schema import Stage, Train
from medcoss_cli.store.progress import Progress
from medcoss_cli.strategies import StageInfo
from medcoss_cli.training.distributed import Devices
from recipes import NAMES, random_steps

GPU = DEVICE.type == "cuda"
BATCHES = {"2d": (64, 256, 512), "3d": (8, 32, 128), "text": (64, 256, 512)}
KINDS = {"plain": True, "rehearsal": False}  # whether a step's data is new
ATTENTION = "aten::_scaled_dot_product_"


class LateError(BaseException):
    """The time of a part is over; no library takes it for an error of its own."""


class BenchReport:
    """Lines printed as they come, and kept in a file; parts that end in time."""

    def __init__(self, out: Path | None, minutes: float) -> None:
        self.file = out.open("w", encoding="utf-8") if out else None
        self.began = time.monotonic()
        self.deadline = self.began + 60 * minutes
        self.failed = 0
        signal.signal(signal.SIGALRM, _late)

    def line(self, text: str = "") -> None:
        """Print a line and write it, at once."""
        print(text, flush=True)
        if self.file:
            print(text, file=self.file, flush=True)

    def table(self, title: str, *columns: str) -> None:
        """A table's heading, with the seconds since the start."""
        self.line(f"\n### {title} (at {time.monotonic() - self.began:.0f} s)\n")
        self.row(*columns)
        self.row(*("---" for _ in columns))

    def row(self, *cells: object) -> None:
        """A row of a table."""
        self.line(f"| {' | '.join(f'{cell:.3g}' if isinstance(cell, float) else str(cell) for cell in cells)} |")

    def attempt(self, name: str, work: Callable[[], None], limit: float = 120) -> None:
        """Do a part of the work; at the deadline, or after `limit` seconds, it ends, and so it does with any error."""
        seconds = min(self.deadline - time.monotonic(), limit)
        if seconds < 1:
            self.row(name, "skipped: no time is left")
            return
        signal.setitimer(signal.ITIMER_REAL, seconds, 2)  # again and again, where a library swallows the first
        try:
            work()
        except LateError:
            self.row(name, f"stopped after {seconds:.0f} s")
        except Exception as error:  # noqa: BLE001  # whatever it is, the parts that follow are worth having
            self.failed += 1
            self.row(name, f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if GPU:
                torch.cuda.set_sync_debug_mode("default")
                gc.collect()
                torch.cuda.empty_cache()


def _late(number: int, frame: FrameType | None) -> None:
    raise LateError


def steps_of(report: BenchReport, case: StepCase, trained: Trained, rate: float, steps: int, way: str = "") -> None:
    """A row for each kind of step: median seconds, share of the matrix rate, memory, attention."""
    x = inputs(case)
    for kind, new in KINDS.items():
        if GPU:
            torch.cuda.reset_peak_memory_stats()
        took = [seconds(lambda new=new: trained.step(x, new=new)) for _ in range(steps + 2)][2:]  # type: ignore[misc]
        median, count = statistics.median(took), flops(case, rehearsal=not new)
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if GPU else "not measured"
        share, kernels = f"{100 * count / median / rate:.1f} %", "" if way else attention(trained, x[:2], new)
        name = f"{case.name} {kind}{way}"
        report.row(name, case.batch, 1000 * median, case.batch / median, count / median / 1e12, share, memory, kernels)


def attention(trained: Trained, x: torch.Tensor, new: bool) -> str:
    """Which kernels of scaled_dot_product_attention a step calls, by the profiler."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        trained.step(x, new=new)
    names = {event.key for event in profile.key_averages() if event.key.startswith(ATTENTION)}
    forward = {name.removeprefix(ATTENTION) for name in names if not name.endswith("backward")}
    return ", ".join(sorted(forward)) or "none"


def prepared(case: StepCase, folder: Path, rows: int) -> PreparedSet:
    """A prepared set of noise of the case's shape."""
    shape = case.size if case.name == "text" else (case.channels, *case.size)
    kind, high = {"text": ("int32", case.scale.words), "2d": ("uint8", 255), "3d": ("int16", 255)}[case.name]
    return write(folder, shape, kind, rows, 4, high)


def through_the_engine(
    report: BenchReport, case: StepCase, trained: Trained, data: PreparedSet, steps: int, new: bool
) -> None:
    """A row: seconds of a step from the prepared set on, the share spent waiting, and what synchronises."""
    pool = Pool(trained.model.modalities[case.name], data, np.arange(len(data)))
    plan = Plan(0, 1, case.batch, [pool], [] if new else [pool], steps, 0 if new else steps)
    recipe = SimpleNamespace(train=Train(save_minutes=1000))
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(record=True) as caught, light_workers():
        warnings.simplefilter("always")
        job: Any = SimpleNamespace(
            recipe=recipe, strategy="medcoss", run=Progress(Path(scratch)), devices=Devices(DEVICE), screen=Screen()
        )
        stage, info = Stage(modality=case.name, data="noise"), StageInfo(1, None, (case.name,), ())
        with Engine(trained.model, trained.strategy, plan, job, stage, info, "", {case.name: 1.0}) as engine:
            for batch in engine.batches():
                if GPU:  # the first steps start workers, the last one checks all parameters
                    torch.cuda.set_sync_debug_mode("warn" if 4 <= engine.at < steps - 1 else "default")
                with engine.autocast():
                    loss = trained.strategy.loss(trained.model, batch)
                engine.step(batch, loss)
        rows = [json.loads(line) for line in (Path(scratch) / "metrics.jsonl").read_text().splitlines()]
    calls = [w for w in caught if "synchroniz" in str(w.message)]
    rows = rows[min(3, len(rows) - 1) :]
    spent, waited = sum(row["seconds"] for row in rows), sum(row["waited"] for row in rows)
    each = max(1, steps - 5)
    places = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in calls)
    where = ", ".join(f"{place} {count / each:.3g}" for place, count in places.most_common())
    name = f"{case.name} {'plain' if new else 'rehearsal'}"
    syncs = f"{len(calls) / each:.3g}" if GPU else "not on a GPU"
    share = f"{100 * waited / spent:.1f} %"
    report.row(name, case.batch, 1000 * spent / len(rows), len(rows) * case.batch / spent, share, syncs, where)


@contextlib.contextmanager
def light_workers() -> Iterator[None]:
    """Worker processes do not import this script, and timm with it, as they would import any main module."""
    script = sys.modules["__main__"]
    path, script.__file__ = script.__file__, None
    try:
        yield
    finally:
        script.__file__ = path


def compile_blocks(trained: Trained, backend: str) -> None:
    """Compile each transformer block by itself: one graph serves all blocks of a kind."""
    torch._dynamo.reset()
    networks = [trained.model.encoder.blocks, trained.strategy.teacher.encoder.blocks]
    networks += [head.blocks for head in trained.model.decoders.values() if hasattr(head, "blocks")]
    for blocks in networks:
        for block in blocks:
            block.compile(dynamic=False, backend=backend)


def encoding(report: BenchReport, case: StepCase, trained: Trained, data: PreparedSet) -> None:
    """A row: samples a second through the encoder for k-means, nothing masked, as a stage's end does it."""
    rows = np.arange(len(data))
    first = rows[:64]
    retention.features(trained.model, case.name, data, first)
    took = seconds(lambda: retention.features(trained.model, case.name, data, rows))
    report.row(case.name, len(rows), took, len(rows) / took)


def recipe_row(report: BenchReport, name: str, tiny: bool) -> None:
    """A row of a recipe of the paper."""
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    measured = random_steps(name, Devices(DEVICE), 2 if tiny else 4, tiny=tiny)
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if GPU else "not measured"
    report.row(name, measured["batch"], measured["size"], measured["parameters"], 1000 * measured["seconds"], memory)


def main() -> None:
    """Parts in order of importance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="the end, whatever is done by then")
    parser.add_argument("--out", type=Path, help="a file for the report, too")
    parser.add_argument("--tiny", action="store_true", help="a small network on small samples")
    options = parser.parse_args()
    report, tiny = BenchReport(options.out, options.minutes), options.tiny
    report.line(f"## {device_name()}, torch {torch.__version__}, {os.cpu_count()} cores")
    rates: dict[str, float] = {}

    def rate() -> None:
        rates["bf16"] = matmul_rate(torch.bfloat16, 256 if tiny else None)
        report.row("bf16", rates["bf16"] / 1e12)

    report.table("Matrix product", "type", "TFLOP/s")
    report.attempt("bf16", rate)
    reference, steps = rates.get("bf16", 1e12), 2 if tiny else 10
    cases = {case.name: case for case in (TINY if tiny else CASES)}
    batches = {name: (case.batch,) if tiny else BATCHES[name] for name, case in cases.items()}
    trained: dict[str, Trained] = {}
    columns = ("batch", "ms", "samples/s", "TFLOP/s", "of the matrix rate", "peak memory")

    report.table("Steps on data that lies on the device", "step", *columns, "attention")
    for name, case in cases.items():
        report.attempt(f"{name} build", lambda c=case: trained.update({c.name: Trained(c)}))  # type: ignore[misc]
    for place in range(1 if tiny else 3):
        for name in trained:
            case = replace(cases[name], batch=batches[name][place])
            work = lambda c=case: steps_of(report, c, trained[c.name], reference, steps)  # noqa: E731
            report.attempt(f"{name} {case.batch}", work, 60)

    with tempfile.TemporaryDirectory() as scratch:
        sets: dict[str, PreparedSet] = {}
        columns_engine = ("batch", "ms", "samples/s", "waiting for data", "synchronising calls", "where, calls a step")
        report.table("Steps through the engine, from a prepared set", "step", *columns_engine)
        for name in trained:
            case, rows = (
                replace(cases[name], batch=batches[name][-2:][0]),
                16 if tiny else 256 if name == "3d" else 1024,
            )
            build = lambda c=case, n=rows: sets.update({c.name: prepared(c, Path(scratch) / c.name, n)})  # noqa: E731
            report.attempt(f"{name} prepared set", build, 30)
            for new in KINDS.values():
                ways = lambda c=case, n=new: through_the_engine(  # noqa: E731
                    report, c, trained[c.name], sets[c.name], 6 if tiny else 24, n
                )
                report.attempt(f"{name} {'plain' if new else 'rehearsal'}", ways, 60)
        report.table("Encoding for k-means", "modality", "samples", "s", "samples/s")
        for name in sets:
            encode = lambda c=cases[name]: encoding(report, c, trained[c.name], sets[c.name])  # noqa: E731
            report.attempt(name, encode, 30)

    report.table("A step of each recipe of the paper", "recipe", "batch", "size", "M parameters", "ms", "peak memory")
    for name in NAMES:
        report.attempt(name, lambda n=name: recipe_row(report, n, tiny), 40)  # type: ignore[misc]

    report.table("Steps with torch.compile, block by block", "step", *columns)
    for name, model in list(trained.items())[: 1 if tiny else 3]:
        case = replace(cases[name], batch=batches[name][-2:][0])

        def compiled(case: StepCase = case, model: Trained = model) -> None:
            compile_blocks(model, "inductor" if GPU else "eager")  # on a CPU it takes minutes, which tell nothing
            steps_of(report, case, model, reference, steps, " compiled")

        report.attempt(f"{name} compiled", compiled, 100)
    report.line(f"\nended after {time.monotonic() - report.began:.0f} s of at most {60 * options.minutes:.0f} s")
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
