"""A task's data: from a manifest to training and validation samples. Every step is a function of the recipe alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import SPLITS, Case, one_each, read_manifest, with_records
from medcoss_cli.data.prepare import prepare
from medcoss_cli.data.read import Found, find, reason_counts
from medcoss_cli.data.segmented import check_grid, prepare_masks
from medcoss_cli.errors import DataError
from medcoss_cli.finetuning import augment as views
from medcoss_cli.finetuning.spec import Task
from medcoss_cli.plugin import CompleteModality, LeftOut
from medcoss_cli.tasks.classification import Classification
from medcoss_cli.tasks.segmentation import Segmentation


@dataclass(frozen=True)
class Reading:
    """How files are read: where prepared sets lie, how many processes, which share may be bad."""

    prepared: Path
    workers: int | None
    bad_share: float


def find_cases(
    modality: CompleteModality,
    root: Path,
    *,
    masks: bool,
    screen: Screen,
    fold: int | None = None,
    validation: float = 0.0,
    seed: int = 0,
) -> tuple[list[Case], list[LeftOut]]:
    """The manifest's cases with the records the modality's loader finds at their paths, and what it cannot use.

    Raises: DataError for a manifest with faults, or a folder with nothing of this modality; PluginError where masks are
        asked for and the loader does not place its volumes.
    """
    cases = read_manifest(root, masks=masks, fold=fold, validation=validation, seed=seed)
    found = find(modality, root, split="all", screen=screen)
    named = {case.path for case in cases}
    lost = [item for item in found.left_out if item.source in named]
    matched = with_records(cases, found, single=masks)
    if masks:
        check_grid(modality, matched)
    return matched, lost


def bounded(cases: Sequence[Case], lost: Sequence[LeftOut], share: float, screen: Screen) -> None:
    """Tell labelled files that cannot be used. Raises: DataError where they are more than the allowed share."""
    if not lost:
        return
    screen.warn(f"{len(lost)} labelled files cannot be used: {reason_counts(item.reason for item in lost)}")
    if len(lost) > share * (len(lost) + len(cases)):
        raise DataError(
            f"{len(lost)} of {len(lost) + len(cases)} labelled files cannot be used, the first: {lost[0].reason}",
            where=lost[0].source,
            fix="repair or remove them, or allow more with data.bad_share=0.2",
        )


def lesson_of(
    task: Task,
    modality: CompleteModality,
    cases: Sequence[Case],
    root: Path,
    augment: str | None,
    balance: bool,
    reading: Reading,
    screen: Screen,
) -> Classification | Segmentation:
    """Prepared samples of a task. Raises: DataError, also where nothing is left to train on."""
    lesson: Classification | Segmentation
    if task.kind == "classification":
        found = Found(root, [case.record for case in cases if case.record is not None], [])
        prepared = prepare(
            modality, found, reading.prepared, workers=reading.workers, bad_share=reading.bad_share, screen=screen
        )
        lesson = Classification(modality, prepared, cases, task.classes, _view(task, augment), balance=balance)
    else:
        assert task.values is not None
        segmented = prepare_masks(
            modality,
            cases,
            task.values,
            task.layout,
            reading.prepared,
            workers=reading.workers,
            bad_share=reading.bad_share,
            screen=screen,
        )
        view = views.elastic if augment in (None, "elastic") else None
        lesson = Segmentation(modality, segmented, task.values, tuple(task.size), view, task.predict, balance=balance)
    if not lesson.cases:
        raise DataError("no training case is left", where=root)
    return lesson


def _view(task: Task, augment: str | None) -> Any:
    """For classes: None is the modality's own augmentation."""
    if augment == "colour":
        return views.colour
    if augment == "elastic":
        return views.elastic_images
    return (lambda inputs, key: inputs) if augment == "none" else None


def facts_of(cases: Iterable[Case]) -> dict[str, Any]:
    """Per split: recordings, groups, and recordings by class; numbers and classes only."""
    facts: dict[str, Any] = {}
    every = one_each(cases)
    for split in SPLITS:
        own = [case for case in every if case.split == split]
        classes = Counter(case.label for case in own if case.label)
        facts[split] = {
            "samples": len(own),
            "groups": len({case.group for case in own}),
            "classes": dict(sorted(classes.items())),
        }
    return facts


def for_test(cases: Sequence[Case], screen: Screen) -> list[Case]:
    """The cases of split test; all of them where none says so, said aloud."""
    own = [case for case in cases if case.split == "test"]
    if own:
        return own
    screen.warn("the manifest has no split 'test': all of its cases are taken")
    return [replace(case, split="test") for case in cases]
