"""A run as one HTML page that stands alone, nothing fetched. Shareable, unless pictures of samples are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medcoss_cli.report import comparison, finetuning, pretraining
from medcoss_cli.report.runs import Finetuning, read
from medcoss_cli.store import atomic


@dataclass(frozen=True)
class WrittenPage:
    """What became of a page.

    Args:
        samples: pictures of samples on it; with one or more it is private.
    """

    path: Path
    samples: int


def write(folders: Sequence[Path], out: Path | None = None, *, with_samples: bool = False) -> WrittenPage:
    """Write the page of a run, or one that compares several.

    Args:
        out: else RUN/report.html, or ./report.html of several runs.

    Raises: UsageError for a folder that is no run's, DataError for a damaged file, ResourceError without space.
    """
    runs = [run for folder in folders for run in read(folder, with_samples)]
    path = Path("report.html")
    if len(runs) > 1:
        page = comparison.page(runs, with_samples)
    else:
        [run] = runs
        page = finetuning.page(run, with_samples) if isinstance(run, Finetuning) else pretraining.page(run)
    if len(folders) == 1:
        path = folders[0] / "report.html"
    path = out or path
    atomic.write(path, page)
    return WrittenPage(path, sum(len(run.pictures) for run in runs if isinstance(run, Finetuning)))
