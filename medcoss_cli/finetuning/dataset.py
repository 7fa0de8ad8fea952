"""A task's cases: a manifest's rows with the records that the modality's loader finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medcoss_cli.console import Screen
from medcoss_cli.data.labelled import MASK, SPLITS, Case, Target, one_each, read_manifest, with_records
from medcoss_cli.data.read import find, reason_counts
from medcoss_cli.data.segmented import check_grid
from medcoss_cli.errors import DataError
from medcoss_cli.kit.manifest import manifest_of, naming, rows_of
from medcoss_cli.kit.sources import holds_samples
from medcoss_cli.plugin import CompleteModality, Skipped
from medcoss_cli.randomness import generator
from medcoss_cli.tasks import TaskKind


def find_cases(
    modality: CompleteModality,
    root: Path,
    target: Target,
    *,
    screen: Screen,
    fold: int | None = None,
    validation: float = 0.0,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
) -> tuple[list[Case], list[Skipped]]:
    """The manifest's cases with the records the modality's loader finds at their paths, and what it cannot use.

    Raises: DataError for a manifest with faults, or a folder with nothing of this modality; PluginError where targets are
        masks and the loader does not place its volumes.
    """
    cases = read_manifest(root, target, fold=fold, validation=validation, seed=seed, columns=columns)
    listing = find(modality, root, split="all", screen=screen, columns=columns)
    paths = {case.path for case in cases}
    lost = [item for item in listing.skipped if item.source in paths and (item.bad or not holds_samples(item.source))]
    matched = with_records(cases, listing, single=target.file)
    if target == MASK:
        check_grid(modality, matched)
    return matched, lost


def bounded(cases: Sequence[Case], lost: Sequence[Skipped], share: float, screen: Screen) -> None:
    """Tell labelled files that cannot be used. Raises: DataError where they are more than the allowed share."""
    if not lost:
        return
    screen.warn(f"{len(lost)} labelled files cannot be used: {reason_counts(item.reason for item in lost)}")
    if len(lost) > share * (len(lost) + len(cases)):
        raise DataError(
            f"{len(lost)} of {len(lost) + len(cases)} labelled files cannot be used, the first: {lost[0].reason}",
            where=lost[0].source,
            fix="repair or remove them, or raise the limit with data.bad_share=0.2",
        )


def fewer_labels(cases: Sequence[Case], share: float, seed: int) -> list[Case]:
    """The cases without some of the training groups: of the groups of every class a share is left, at least one.

    The order of leaving out is a function of the seed, so that a smaller share is part of a larger one.
    """
    if share == 1.0:
        return list(cases)
    by_class: dict[str | None, dict[str, None]] = {}
    for case in cases:
        if case.split == "train":
            by_class.setdefault(case.label, {})[case.group] = None
    kept: set[str] = set()
    for label, groups in by_class.items():
        names = sorted(groups)
        order = torch.randperm(len(names), generator=generator(seed, "labels", str(label))).tolist()
        kept |= {names[i] for i in order[: max(1, round(share * len(names)))]}
    return [case for case in cases if case.split != "train" or case.group in kept]


def facts_of(kind: TaskKind, cases: Sequence[Case]) -> dict[str, Any]:
    """Per split: recordings, groups, and recordings by class; numbers and classes only."""
    facts: dict[str, Any] = {}
    cases = one_each(cases)
    for split in SPLITS:
        members = [case for case in cases if case.split == split]
        facts[split] = {
            "samples": len(members),
            "groups": len({case.group for case in members}),
            "classes": kind.counts(members),
        }
    return facts


def rows_in(root: Path, columns: Mapping[str, str] | None = None) -> int:
    """What a folder's manifest lists, each once."""
    with naming(columns):
        manifest = manifest_of(root)
        rows = [] if manifest is None else list(rows_of(manifest))
    return len({(row["path"], row.get("index", "")) for _, row in rows if row.get("path")})


def whole(cases: Sequence[Case], screen: Screen) -> list[Case]:
    """All cases as test cases: data of others was not trained on, whatever splits its manifest has; printed."""
    counts = {split: sum(case.split == split for case in one_each(cases)) for split in SPLITS}
    if counts["test"] < sum(counts.values()):
        splits = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
        screen.say(f"all {sum(counts.values())} cases are tested, whatever their split ({splits})")
    return [replace(case, split="test") for case in cases]


def for_test(cases: Sequence[Case], screen: Screen) -> list[Case]:
    """The cases of split test; all of them where none says so, printed."""
    tests = [case for case in cases if case.split == "test"]
    if tests:
        return tests
    screen.warn("the manifest has no split 'test': all of its cases are taken")
    return [replace(case, split="test") for case in cases]
