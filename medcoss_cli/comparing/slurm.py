"""Cells as jobs of a Slurm cluster: each is this command with --cell, and waits for the jobs of what it needs."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from medcoss_cli.comparing import outcomes
from medcoss_cli.comparing.cells import Plan
from medcoss_cli.comparing.outcomes import Place
from medcoss_cli.console import Screen
from medcoss_cli.errors import ResourceError


def send(plan: Plan, only: Sequence[str], place: Place, options: str, screen: Screen) -> dict[str, Any]:
    """Submit every cell that is not done.

    Args:
        options: for sbatch, as on its command line.

    Raises: ResourceError where there is no sbatch, or it refuses a job; those before stay submitted.
    """
    program = shutil.which("sbatch")
    if program is None:
        raise ResourceError(
            "there is no sbatch on this machine",
            where="--submit slurm",
            fix="run it on a login node of the cluster, or --jobs N",
        )
    jobs: dict[str, str] = {}
    wanted = {key: cell for key, cell in plan.wanted(list(only)).items() if not outcomes.done(place, key)}
    (place.folder / "logs").mkdir(parents=True, exist_ok=True)
    with screen.progress("submitting", len(wanted)) as bar:
        for key, cell in wanted.items():
            command = [
                program,
                "--parsable",
                f"--job-name={key}",
                f"--output={outcomes.log(place, key)}",
                "--open-mode=append",
            ]
            before = [jobs[need] for need in cell.needs if need in jobs]
            command += [f"--dependency=afterok:{':'.join(before)}", "--kill-on-invalid-dep=yes"] if before else []
            command += [*shlex.split(options), f"--wrap={shlex.join(again(key))}"]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode:
                raise ResourceError(
                    f"sbatch refused a job: {answer.stderr.strip()}", fix="give what it asks for with --sbatch '...'"
                )
            jobs[key] = answer.stdout.strip().partition(";")[0]
            bar.advance()
    screen.say(f"{len(jobs)} jobs submitted; when they are done, the same command without --submit writes the tables")
    return {"jobs": jobs}


def again(key: str) -> list[str]:
    """This process's command line for one cell."""
    given = sys.argv[1:]
    kept = [word for at, word in enumerate(given) if not _of_submission(given, at)]
    return [sys.executable, "-m", "medcoss_cli", *kept, "--cell", key]


def _of_submission(given: Sequence[str], at: int) -> bool:
    """Does this word say how to submit, or which cells?"""
    names = ("--submit", "--sbatch", "--only")
    return (
        given[at].startswith(tuple(f"{name}=" for name in names))
        or given[at] in (*names, "--json")
        or (at > 0 and given[at - 1] in names)
    )
