"""`data check`: read every file and report what happened to each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.data.read import Blank, listed, read_checked
from medcoss_cli.errors import DataError
from medcoss_cli.plugin import CompleteModality, Record


@dataclass(frozen=True)
class Verdict:
    """The outcome for one file, or one series in a folder. `verdict` is read, quarantine or skipped."""

    file: str
    kind: str
    verdict: str
    reason: str
    notes: tuple[str, ...] = ()


def check_modality(modality: CompleteModality, root: Path, split: str, screen: Screen) -> list[Verdict]:
    """Read all records of a folder as one modality.

    Raises: DataError for a missing folder.
    """
    if not root.exists():
        raise DataError("the folder does not exist", where=root, fix="check the path")
    verdicts: list[Verdict] = []
    items = listed(modality, root, split)
    with screen.progress(f"reading {modality.name}", len(items)) as bar:
        for item in items:
            bar.advance()
            name = _name(item.source, root)
            if not isinstance(item, Record):
                verdict = "quarantine" if item.bad else "left out"
                verdicts.append(Verdict(name, modality.name, verdict, item.reason))
                continue
            if item.part is not None:
                name += " " + " ".join(map(str, item.part))
            try:
                sample = read_checked(modality, item)
            except Blank as error:
                verdicts.append(Verdict(name, modality.name, "left out", error.what))
            except DataError as error:
                verdicts.append(Verdict(name, modality.name, "quarantine", error.what))
            else:
                verdicts.append(Verdict(name, modality.name, "read", _shape(sample.array), sample.notes))
    return verdicts


def survey_table(root: Path, screen: Screen) -> list[Verdict]:
    """Read everything under a folder as what its content is, whatever the modality."""
    from medcoss_cli.kit.readers.survey import survey

    if not root.exists():
        raise DataError("the folder does not exist", where=root, fix="check the path")
    with screen.progress("reading", sum(1 for path in root.rglob("*") if path.is_file()) or 1) as bar:
        verdicts = []
        for entry in survey(root):
            bar.advance()
            verdict = "left out" if entry.verdict == "ignored" else entry.verdict
            verdicts.append(Verdict(entry.path, entry.kind, verdict, entry.reason, tuple(entry.notes)))
    return verdicts


def _name(source: Path, root: Path) -> str:
    return str(source.relative_to(root)) if source.is_relative_to(root) and source != root else source.name


def _shape(array: object) -> str:
    if isinstance(array, str):
        return f"{len(array.split())} words"
    return " x ".join(map(str, getattr(array, "shape", ())[1:]))
