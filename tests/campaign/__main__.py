"""Run the campaign: `python -m tests.campaign --help`.

A part is a module with `run(count, seed, kinds)`, which yields attempts, and `plant()`, which plants a bug that it finds.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import date
from types import ModuleType

import numpy as np

from tests.campaign import (
    bombs,
    concurrent,
    deaths,
    hostile,
    identifiers,
    kills,
    mutated,
    paths,
    points,
    refused,
    sockets,
    tampered,
)
from tests.campaign.attempts import Attempt, table

PARTS: dict[str, tuple[ModuleType, int]] = {
    "mutated": (mutated, 2200),
    "tampered": (tampered, 600),
    "kills": (kills, 100),
    "points": (points, 150),
    "refused": (refused, 144),
    "deaths": (deaths, 24),
    "concurrent": (concurrent, 16),
    "hostile": (hostile, 100),
    "bombs": (bombs, 58),
    "paths": (paths, 60),
    "identifiers": (identifiers, 60),
    "sockets": (sockets, 38),
}
"""Each with its number of tries."""
LEAST = 30.0
"""Seconds that a part tries, once it has begun."""


def main() -> int:
    """Exit code 1 where anything failed; each failure is printed, and how to repeat it."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="One part of it; repeat.")
    parser.add_argument(
        "--kind", action="append", default=[], help="One kind of a part, as its table names it or begins it; repeat."
    )
    parser.add_argument("--count", type=int, help="Tries of each part (default: each part's own number).")
    parser.add_argument("--seed", type=int, default=int(date.today().strftime("%Y%m%d")), help="Default: today's date.")
    parser.add_argument(
        "--minutes", type=float, help="Stop after about so many minutes; the seed tells which parts come first."
    )
    parser.add_argument(
        "--seeded", action="store_true", help="Plant a bug for each part, and stop where the part has found it."
    )
    options = parser.parse_args()
    parts = options.only or list(PARTS)
    run = _seeded if options.seeded else _run
    end, failed = float("inf"), False
    if options.minutes is not None:
        end = time.monotonic() + 60 * options.minutes
        np.random.default_rng(options.seed).shuffle(parts)
    for left, name in zip(range(len(parts), 0, -1), parts, strict=True):
        rest = end - time.monotonic()
        if rest < 0:
            print(f"{name}: not reached")
        elif not run(name, options.count or PARTS[name][1], options.seed, options.kind, max(LEAST, rest / left)):
            failed = True
    return int(failed)


def _run(name: str, count: int, seed: int, kinds: Sequence[str], seconds: float) -> bool:
    """Run a part and print its table. Returns: whether nothing failed.

    Args:
        seconds: after which it stops, from its first try on: what is made before takes as long as it takes.
    """
    begun, end, attempts = time.monotonic(), float("inf"), list[Attempt]()
    for attempt in PARTS[name][0].run(count, seed, kinds):
        attempts.append(attempt)
        if attempt.failed:
            print(f"FAILED {attempt.kind} number {attempt.number}: {attempt.outcome}: {attempt.detail}", flush=True)
        end = min(end, time.monotonic() + seconds)
        if time.monotonic() > end:
            break
    failures = sum(attempt.failed for attempt in attempts)
    print("\n".join(table(attempts)))
    for kind in sorted({attempt.kind for attempt in attempts if attempt.failed}):
        print(f"repeat it: python -m tests.campaign --only {name} --kind {shlex.quote(kind)} --seed {seed}")
    took = time.monotonic() - begun
    print(f"{name}: {len(attempts)} tries, {failures} failed, seed {seed}, {took:.0f} s\n", flush=True)
    return not failures


def _seeded(name: str, count: int, seed: int, kinds: Sequence[str], seconds: float) -> bool:
    """Run a part on a product with a bug, in a process of its own. Returns: whether the part found it."""
    part, begun = PARTS[name][0], time.monotonic()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    code = 1
    try:
        part.plant()
        words = f"{name}: {part.plant.__doc__.splitlines()[0]}"
        attempts = part.run(count, seed, kinds)
        for tries, attempt in enumerate(attempts, start=1):
            if attempt.failed:
                print(f"{words} Found by try {tries}: {attempt.kind}: {attempt.outcome}: {attempt.detail[:200]}\n")
                code = 0
                attempts.close()  # what it began ends with it
                break
            if time.monotonic() - begun > seconds:
                break
        else:
            print(f"{words} NOT FOUND\n")
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
