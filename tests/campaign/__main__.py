"""Run the campaign: `python -m tests.campaign --help`. A part is a module with `run(count, seed)`, which yields attempts."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import date

from tests.campaign import kills, mutated, tampered
from tests.campaign.attempts import table

PARTS = {"mutated": (mutated.run, 2000), "kills": (kills.run, 100), "tampered": (tampered.run, 600)}
"""Each with its number of tries."""


def main() -> int:
    """Exit code 1 where anything failed; each failure is printed, and how to repeat it."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--only", choices=list(PARTS), help="One part of it.")
    parser.add_argument(
        "--kind", action="append", default=[], help="One kind of a part, as its table names it; repeat."
    )
    parser.add_argument("--count", type=int, help="Tries of each part (default: each part's own number).")
    parser.add_argument("--seed", type=int, default=int(date.today().strftime("%Y%m%d")), help="Default: today's date.")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="Stop after so many minutes.")
    options = parser.parse_args()
    parts = [options.only] if options.only else list(PARTS)
    end, failed = time.monotonic() + 60 * options.minutes, 0
    for left, name in zip(range(len(parts), 0, -1), parts, strict=True):
        run, count = PARTS[name]
        begun, attempts = time.monotonic(), []
        share = (end - begun) / left
        for attempt in run(options.count or count, options.seed, options.kind):
            attempts.append(attempt)
            if attempt.failed:
                print(f"FAILED {attempt.kind} number {attempt.number}: {attempt.outcome}: {attempt.detail}", flush=True)
            if time.monotonic() - begun > share:
                break
        failures = sum(attempt.failed for attempt in attempts)
        print("\n".join(table(attempts)))
        seconds = time.monotonic() - begun
        print(f"{name}: {len(attempts)} tries, {failures} failed, seed {options.seed}, {seconds:.0f} s", flush=True)
        failed += failures
    if failed:
        print(f"repeat it: python -m tests.campaign --seed {options.seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
