"""How good a fine-tuned network is on labelled cases: metrics, their intervals, a trivial baseline, every case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medcoss_cli import metrics
from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import Case
from medcoss_cli.data.masks import overlay, portrait
from medcoss_cli.data.read import read_checked
from medcoss_cli.data.recordings import averaged
from medcoss_cli.data.segmented import Values, labels_of, read_labels, read_numbers, targets_of
from medcoss_cli.errors import DataError
from medcoss_cli.finetuning.predictor import Applied
from medcoss_cli.finetuning.spec import Task
from medcoss_cli.model.finetuned import Tuned
from medcoss_cli.plugin import CompleteModality, LeftOut
from medcoss_cli.tasks.classification import Classification

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Outcome:
    """Of one network on one set of cases.

    Args:
        result: metrics, intervals (95 %, by group), baseline, confusion or cases: numbers and classes only.
        rows: of the per-case table. Private: they name files.
        lost: cases that could not be read.
    """

    result: dict[str, Any]
    rows: list[dict[str, Any]]
    lost: list[LeftOut]


def examine_classes(lesson: Classification, network: Tuned, split: str, device: torch.device, seed: int) -> Outcome:
    """ACC, AUC, F1 of the recordings of a split; the baseline says the training classes' shares for each.

    Raises: DataError for a split without cases.
    """
    rows = lesson.rows(split)
    if not len(rows):
        raise DataError(f"no case of split {split!r} can be used")
    parts = lesson.parts(rows)
    first = rows[[own[0] for own in parts]]
    scores, truth = averaged(lesson.probabilities(network, rows, device), parts), lesson.labels[first]
    cases = [lesson.kept[row] for row in first]
    trivial = np.repeat(lesson.shares[None], len(first), axis=0)
    result = {
        "metrics": metrics.classification(scores, truth),
        "intervals": metrics.bootstrap(
            [case.group for case in cases], lambda own: metrics.classification(scores[own], truth[own]), seed
        ),
        "baseline": metrics.classification(trivial, truth),
        "confusion": metrics.confusion(scores, truth, len(lesson.classes)),
        "samples": len(first),
    }
    table = [
        {"where": case.where, "label": case.label, "predicted": lesson.classes[int(own.argmax())]}
        | {f"p_{name}": round(float(p), 6) for name, p in zip(lesson.classes, own, strict=True)}
        for case, own in zip(cases, scores, strict=True)
    ]
    return Outcome(result, table, [])


def examine_masks(
    one: Applied,
    cases: Sequence[Case],
    seed: int,
    screen: Screen,
) -> Outcome:
    """Dice, HD95 and what was missed, of every case on its own grid; the baseline is the empty mask."""
    task, modality = one.task, one.modality
    assert task.values is not None
    scored: list[dict[str, float]] = []
    trivial: list[dict[str, float]] = []
    rows, groups, lost = [], [], []
    with screen.progress("testing", len(cases)) as bar:
        for case in cases:
            assert case.record is not None
            try:
                sample = read_checked(modality, case.record)
                labels = one.segment(sample)
            except DataError as error:
                lost.append(LeftOut(case.path, error.what, bad=True))
                continue
            finally:
                bar.advance()
            numbers = read_numbers(modality, case, sample)
            wanted = _masks(labels_of(numbers, task.values, case.where), task.values)
            found = _masks(labels, task.values)
            objects = _objects(numbers, wanted, task.values) if modality.dims == 2 else None
            scored.append(metrics.mask_case(found, wanted, sample.spacing, objects))
            nothing = {name: np.zeros_like(mask) for name, mask in wanted.items()}
            trivial.append(metrics.mask_case(nothing, wanted, sample.spacing, objects))
            rows.append({"where": case.where, **scored[-1]})
            groups.append(case.group)
    if not scored:
        raise DataError("no case can be used", where=cases[0].path if cases else None)
    summary = metrics.mask_summary(scored)
    result = {
        "metrics": summary,
        "intervals": metrics.bootstrap(groups, lambda own: metrics.mask_summary([scored[i] for i in own]), seed),
        "baseline": metrics.mask_summary(trivial),
        "cases": scored,
        "samples": len(scored),
    }
    return Outcome(result, rows, lost)


def draw_cases(one: Applied, cases: Sequence[Case], outcome: Outcome, folder: Path) -> None:
    """Pictures of the three best and the three worst cases by Dice. Private: they show samples."""
    task, modality = one.task, one.modality
    assert task.values is not None
    at = {case.where: case for case in cases}
    dice = [np.mean([row[f"dice_{name}"] for name in task.classes]) for row in outcome.rows]
    ranking = [outcome.rows[i]["where"] for i in np.argsort(dice, kind="stable")]
    few = min(3, (len(ranking) + 1) // 2)
    chosen = {f"worst-{n}": where for n, where in enumerate(ranking[:few], 1)}
    chosen |= {f"best-{n}": where for n, where in enumerate(ranking[::-1][: min(few, len(ranking) - few)], 1)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, where in chosen.items():
        case = at[where]
        assert case.record is not None
        sample = read_checked(modality, case.record)
        truth = read_labels(modality, case, sample, task.values)
        labels = one.segment(sample)
        overlay(sample.array, labels, truth, task.classes, folder / f"{name}.png", sample.spacing)


def draw_classes(task: Task, modality: CompleteModality, cases: Sequence[Case], outcome: Outcome, folder: Path) -> None:
    """Pictures of the three surest right and the three surest wrong cases; texts have none. Private: they show samples."""
    if modality.dims == 1:
        return
    at = {case.where: case for case in cases}
    rows = sorted(outcome.rows, key=lambda row: -float(row[f"p_{row['predicted']}"]))
    right = [row for row in rows if row["label"] == row["predicted"]][:3]
    wrong = [row for row in rows if row["label"] != row["predicted"]][:3]
    folder.mkdir(parents=True, exist_ok=True)
    for kind, chosen in (("right", right), ("wrong", wrong)):
        for number, row in enumerate(chosen, 1):
            case = at[row["where"]]
            assert case.record is not None
            sample = read_checked(modality, case.record)
            share = float(row[f"p_{row['predicted']}"])
            caption = f"{row['label']}, predicted {row['predicted']} ({share:.2f})"
            portrait(sample.array, caption, folder / f"{kind}-{number}.png", sample.spacing)


def _objects(numbers: Array, wanted: dict[str, Array], values: Values) -> dict[str, Array]:
    """Masks whose numbers tell objects apart where a class takes any number, as GlaS files have them."""
    return {name: numbers if values[name] == "any" else mask for name, mask in wanted.items()}


def _masks(labels: Array, values: Values) -> dict[str, Array]:
    return dict(zip(values, targets_of(labels, values), strict=True))
