"""Labelled data: a folder's `manifest.csv` with path, split, group and a target, read without knowing the modality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.data.read import Listing
from medcoss_cli.errors import DataError
from medcoss_cli.kit.layout import layout_of
from medcoss_cli.kit.manifest import NAME, absent, is_present, manifest_of, naming, rows_of, split_of
from medcoss_cli.kit.paths import inside
from medcoss_cli.kit.readers.rows import filled, number_of
from medcoss_cli.kit.sources import holds_samples
from medcoss_cli.kit.sources import number_of as number_in
from medcoss_cli.kit.sources import rows as container_rows
from medcoss_cli.plugin import CompleteModality, Record
from medcoss_cli.randomness import generator

SPLITS = ("train", "val", "test")
MOST_ROWS = 20
"""Rows that one message names."""


@dataclass(frozen=True)
class Target:
    """Where a manifest has what a task learns.

    Args:
        column: its name; a row without an entry is a fault.
        file: entries are paths of files beside the manifest, each of one record; a row with a label alone is passed over.
    """

    column: str
    file: bool = False


LABEL, MASK = Target("label"), Target("mask", file=True)


@dataclass(frozen=True, slots=True)
class Case:
    """One row of a manifest. Private: it names files and patients."""

    path: Path
    split: str
    group: str
    where: str
    """manifest.csv:line"""
    target: str = ""
    """The entry in the target's column."""
    label: str | None = None
    """The entry in the column `label`, whatever the target is."""
    mask: Path | None = None
    """The target's file, where targets are files."""
    row: int | None = None
    """Data row of a table, counted from 0."""
    key: str | None = None
    """Of a container, the array that the row is of."""
    record: Record | None = None
    """What the modality's loader found there."""


@dataclass(frozen=True)
class LabelledSet:
    """Labelled cases with their records, and how their files are read.

    Args:
        root: the manifest's folder.
        prepared: where prepared sets lie.
        workers: processes that read files; None: one per core.
        bad_share: share of files that may be bad.
    """

    modality: CompleteModality
    root: Path
    cases: Sequence[Case]
    prepared: Path
    workers: int | None
    bad_share: float
    screen: Screen

    def split(self, name: str) -> list[Case]:
        """The cases of train, val or test."""
        return [case for case in self.cases if case.split == name]


def read_manifest(
    root: Path,
    target: Target = LABEL,
    *,
    fold: int | None = None,
    validation: float = 0.0,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
) -> list[Case]:
    """The cases of a folder, each in train, val or test. A row without a group has the patient of the folder's layout.

    Args:
        target: which column is read.
        fold: rows of this fold validate, train rows of other folds train.
        validation: share of the training groups that validates where the manifest names nothing for it.
        columns: names of the manifest's columns where they differ.

    Raises: DataError for a path outside the folder, a missing target, a group on two sides of a split.
    """
    in_container = holds_samples(root)
    if in_container and target.file:
        raise DataError(f"a container of arrays has no column {target.column} of files", where=root)
    with naming(columns):
        manifest = root if in_container else manifest_of(root)
        if manifest is None and not root.is_dir():
            what = (
                "there is no such folder" if not root.exists() else f"this is a file; a folder with a {NAME} is needed"
            )
            raise DataError(what, where=root, fix="check the path")
        if manifest is None:
            raise absent(root)
        listed = list(enumerate(container_rows(root, columns or {}), 1)) if in_container else list(rows_of(manifest))
    column = target.column
    root = manifest.parent
    cases: list[Case] = []
    alone: list[str] = []  # the group of a case of which nobody says whose it is
    missing: list[str] = []
    for line, row in listed:
        where = f"{manifest}:{line}"
        if not row.get("path"):
            continue
        entry, label = filled(row.get(column, "")), filled(row.get("label", "")) or None
        if not entry and not (target.file and label):
            cell = f" ({row[column]!r} stands for a missing value)" if row.get(column) else ""
            raise DataError(
                f"no {column} in this row{cell}", where=where, fix=f"fill the column {column!r}, or drop the row"
            )
        if not entry:
            continue  # a set with labels and masks may have images without a mask
        path = inside(root, row["path"], where)
        mask = inside(root, entry, where) if target.file else None
        if mask == path:
            raise DataError(f"{path.name} is listed as its own {column}", where=where, fix=f"correct the {column}")
        names = {"path": path, column: mask}
        missing += [f"line {line}: {row[name]!r}" for name, file in names.items() if file and not is_present(file)]
        index, number = number_of(row.get("index", "")), number_of(row.get("fold", ""))
        if index and not index.isdecimal():
            raise DataError(f"index {index!r} is no row number", where=where, fix="count data rows from 0")
        split = _split(row.get("split", ""), number, fold, where)
        alone.append(f"{row['path']}|{index}")
        number_in_table = int(index) if index else None
        cases.append(
            Case(
                path,
                split,
                row.get("group", ""),
                where,
                entry,
                label,
                mask,
                number_in_table,
                row.get("key") if in_container else None,
            )
        )
    if missing:
        more = f" and {len(missing) - MOST_ROWS} more" if len(missing) > MOST_ROWS else ""
        files = "a file that is" if len(missing) == 1 else f"{len(missing)} files that are"
        raise DataError(
            f"the manifest names {files} not there ({', '.join(missing[:MOST_ROWS])}{more})",
            where=manifest,
            fix="check the paths, or drop the rows",
        )
    layout = layout_of(root, [case.path for case in cases], chosen=True)
    patients = layout.patients([case.path for case in cases], [case.label for case in cases])
    cases = [
        replace(case, group=case.group or patient or own)
        for case, patient, own in zip(cases, patients, alone, strict=True)
    ]
    if not cases:
        raise DataError(f"the manifest has no row with a {column}", where=manifest)
    cases = _each_once(cases)
    _disjoint(cases)
    if not any(case.split == "val" for case in cases) and validation:
        cases = _set_aside(cases, validation, seed)
    return cases


def _split(word: str, number: str, fold: int | None, where: str) -> str:
    split = split_of(word) or "train"
    if split not in SPLITS:
        raise DataError(f"split {word!r} is not one of {', '.join(SPLITS)}", where=where)
    if fold is None or split == "test":
        return split
    if not number.isdecimal():
        what = f"the fold {number!r} is no whole number" if number else "no fold in this row"
        raise DataError(what, where=where, fix="fill the column 'fold', or leave data.fold out")
    return "val" if int(number) == fold else "train"


def _each_once(cases: Sequence[Case]) -> list[Case]:
    """Without rows that say the same of one file. Raises: DataError for two that do not."""
    first: dict[tuple[Path, int | None], Case] = {}
    for case in cases:
        earlier = first.setdefault((case.path, case.row), case)
        said, said_before = ((c.target, c.label, c.split, c.group) for c in (case, earlier))
        if said != said_before:
            line = earlier.where.rpartition(":")[2]
            raise DataError(
                f"{case.path.name} is listed in line {line}, too, with another target, split or group",
                where=case.where,
                fix="keep the row that is right",
            )
    return list(first.values())


def _disjoint(cases: Sequence[Case]) -> None:
    """Raises: DataError if a group (patient, document) is on two sides of a split."""
    first: dict[str, Case] = {}
    torn: dict[str, Case] = {}
    for case in cases:
        earlier = first.setdefault(case.group, case)
        if earlier.split != case.split:
            torn.setdefault(case.group, case)
    if torn:
        group, case = next(iter(torn.items()))
        raise DataError(
            f"{len(torn)} groups (patients) are in two splits, the first is {group!r} in {first[group].split} "
            f"(line {first[group].where.rpartition(':')[2]}) and {case.split}",
            where=case.where,
            fix="put all rows of a group into one split",
        )


def _set_aside(cases: list[Case], share: float, seed: int) -> list[Case]:
    """Some groups of the training cases validate: of each label as many, as far as groups allow."""
    import torch  # not where labels are only predicted

    train = [case for case in cases if case.split == "train"]
    groups = sorted({case.group for case in train})
    label_of = {case.group: case.label for case in train}
    drawn: set[str] = set()
    for label in sorted({str(label) for label in label_of.values()}):
        members = [group for group in groups if str(label_of[group]) == label]
        order = torch.randperm(len(members), generator=generator(seed, "validation", label)).tolist()
        drawn |= {members[i] for i in order[: round(share * len(members))]}
    return [replace(c, split="val") if c.split == "train" and c.group in drawn else c for c in cases]


def with_records(cases: Sequence[Case], listing: Listing, *, single: bool) -> list[Case]:
    """Each case with what the loader found at its path; a case of several records comes several times.

    Args:
        single: a case must be one record (it has one mask).

    Raises: DataError for a case of which nothing was found, with the loader's reason.
    """
    at: dict[tuple[Path, int | None], Case] = {(case.path, case.row): case for case in cases}
    matched: list[Case] = []
    counts: Counter[tuple[Path, int | None]] = Counter()
    for record in listing.records:
        row = int(record.part[1]) if record.part is not None and record.part[0] == "row" else number_in(record)
        places = [record.source, *record.source.parents]
        case = next((at[place, row] for place in places if (place, row) in at), None)
        if case is None or (case.key is not None and (record.part or ("", None))[1] != case.key):
            continue
        counts[case.path, case.row] += 1
        if single and counts[case.path, case.row] > 1:
            raise DataError(
                "several images in one case that has one mask",
                where=case.where,
                fix=f"give each its own row, or let the loader of {record.source.name} read it whole (Loader.whole)",
            )
        matched.append(replace(case, record=record))
    reasons = {item.source: item.reason for item in listing.skipped}
    for case in cases:
        if not counts[case.path, case.row] and case.path not in reasons:
            raise DataError(f"nothing that can be read at {case.path.name}", where=case.where)
    return matched


def one_each(cases: Iterable[Case]) -> list[Case]:
    """The first case of every recording, so that parts are not counted."""
    first: dict[object, Case] = {}
    for case in cases:
        first.setdefault(case.where if case.record is None else case.record.recording, case)
    return list(first.values())


def only_labels(
    cases: Iterable[Case],
    classes: Sequence[str],
    fix: str = "correct the row, or leave it out; a new class needs a new training",
) -> None:
    """Raises: DataError for a label that is none of these."""
    if other := [case for case in cases if case.label not in classes]:
        more = f" (and {len(other) - 1} rows more)" if len(other) > 1 else ""
        raise DataError(
            f"the label {other[0].label!r} is none of {', '.join(classes)}{more}", where=other[0].where, fix=fix
        )


def classes_of(cases: Iterable[Case], requested: Sequence[str] | None, screen: Screen) -> list[str]:
    """The labels in order: as asked, else all of the training cases, sorted.

    Raises: DataError for a label that is not among them, or a class without a training case; classes with few cases are reported.
    """
    cases = one_each(cases)
    counts = {split: Counter(case.label for case in cases if case.split == split) for split in SPLITS}
    classes = [number_of(name) for name in requested] if requested else sorted(str(label) for label in counts["train"])
    only_labels(cases, classes, "name all labels under `classes`, or correct the row")
    if len(classes) < 2:
        raise DataError("a classification needs at least two classes", where=cases[0].where.rpartition(":")[0])
    for name in classes:
        if not counts["train"][name]:
            raise DataError(
                f"the class {name!r} has no training case",
                where=cases[0].where.rpartition(":")[0],
                fix="add cases, or leave the class out of `classes` and of the manifest",
            )
        if counts["train"][name] == 1:
            screen.warn(f"the class {name!r} has only one training case; do not trust its predictions")
        for split in ("val", "test"):
            if counts[split] and not counts[split][name]:
                screen.warn(f"the class {name!r} has no case in {split}; its scores there cover the other classes only")
    return classes
