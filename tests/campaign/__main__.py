"""Run the campaign: `python -m tests.campaign --help`."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import date

from tests.campaign import mutated


def main() -> int:
    """Exit code 1 where anything failed; each failure is printed with the command that repeats it."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--only", choices=["mutated"], help="One part of it.")
    parser.add_argument("--count", type=int, default=2000, help="Tries of each part (default: 2000).")
    parser.add_argument("--seed", type=int, default=int(date.today().strftime("%Y%m%d")), help="Default: today's date.")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="Stop after so many minutes.")
    options = parser.parse_args()
    begun, tries = time.monotonic(), []
    for attempt in mutated.run(options.count, options.seed):
        tries.append(attempt)
        if attempt.failed:
            print(f"FAILED {attempt.kind} number {attempt.number}: {attempt.outcome}: {attempt.detail}", flush=True)
        if time.monotonic() - begun > 60 * options.minutes:
            break
    print("\n".join(mutated.table(tries)))
    failed = sum(attempt.failed for attempt in tries)
    print(f"mutated: {len(tries)} files, {failed} failed, seed {options.seed}, {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
