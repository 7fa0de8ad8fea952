"""Published sets in their own layouts: a `manifest.csv` for each, so that all are read the same way."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.datasets import chest, folder, images, scans, sentences, tiles, volumes
from medcoss_cli.datasets.rows import PROFILES, SPLITS, ManifestRow, Request, compare, rename_shared_groups, write
from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.kit.manifest import NAME, rows_of


@dataclass(frozen=True)
class Published:
    """One set: what it is, who finds its rows, and how many cases the paper has."""

    title: str
    rows: Callable[[Request], list[ManifestRow]]
    expected: Mapping[str, int] = field(default_factory=dict)


UPSTREAM = {
    "mimic-cxr": Published("chest radiographs and their reports, unlabelled", chest.mimic_cxr),
    "deeplesion": Published("CT of lesions, unlabelled", scans.deeplesion),
    "adni": Published("MRI of the head, unlabelled", scans.adni),
    "tcga": Published("tiles of stained tissue, unlabelled", tiles.tcga),
}
"""What the paper pre-trains on. Their counts are compared where the whole set is there."""
LABELLED = {
    "pubmed20k": Published(
        "sentences of abstracts, 5 roles", sentences.pubmed20k, {"train": 180_040, "val": 30_212, "test": 30_135}
    ),
    "chestxr": Published(
        "chest radiographs, 3 diagnoses", images.chestxr, {"train": 14_365, "val": 3_593, "test": 3_432}
    ),
    "qata": Published(
        "chest radiographs with masks of infected lung", images.qata, {"train": 5_716, "val": 1_429, "test": 2_113}
    ),
    "ricord": Published("chest CT with and without COVID-19", volumes.ricord, {"train": 194, "val": 52, "test": 84}),
    "lits": Published("abdominal CT with masks of liver and tumour", volumes.lits, {"train": 104, "test": 27}),
    "vs": Published("contrast-enhanced T1 with masks of schwannoma", volumes.vs, {"train": 193, "test": 49}),
    "la": Published("cardiac MRI with masks of the left atrium", volumes.la, {"train": 80, "test": 20}),
    "nch": Published(
        "patches of colorectal tissue, 9 kinds", images.nch, {"train": 79_994, "val": 20_006, "test": 7_180}
    ),
    "glas": Published("colon tissue with masks of glands", images.glas, {"train": 67, "val": 18, "test": 80}),
    "folder": Published("a folder of your own: a subfolder per class, images and masks, or a table", folder.rows),
}
PUBLISHED = UPSTREAM | LABELLED


def build(
    name: str,
    root: Path,
    profile: str = "paper",
    seed: int = 0,
    screen: Screen | None = None,
    *,
    overwrite: bool = False,
    val: float = 0.2,
    test: float = 0.2,
    pattern: str | None = None,
) -> Path:
    """Write `root/manifest.csv` for a set; returns its path. Differences from the paper are reported, not refused.

    Args:
        name: a key of PUBLISHED.
        profile: "paper" draws validation cases at random, "official" takes those that the authors' code takes.
        val: share for validation where an own folder has none of its own; `test` likewise.
        pattern: regular expression with one group, which tells the patient from a file's name (own folder).

    Raises: UsageError for an unknown name or a manifest that is there, DataError where the set is not there.
    """
    if name not in PUBLISHED:
        candidates = difflib.get_close_matches(name, PUBLISHED, 1, 0.5)
        raise UsageError(
            f"there is no known layout named {name!r}",
            fix=(f"did you mean {candidates[0]}? " if candidates else "") + f"there are {', '.join(PUBLISHED)}",
        )
    if profile not in PROFILES:
        raise UsageError(f"--profile {profile} is unknown", fix=f"choose {' or '.join(PROFILES)}")
    if not root.is_dir():
        raise DataError("the folder does not exist", where=root)
    if (root / NAME).exists() and not overwrite:
        raise UsageError("a manifest already exists", where=root / NAME, fix="add --overwrite to replace it")
    request = Request(name, root, profile, seed, screen or Screen(), overwrite, val, test, pattern)
    published = PUBLISHED[name]
    rows = rename_shared_groups(request, published.rows(request))
    cases = Counter(f"{row.split} cases" for row in rows)
    compare(request, cases, {f"{split} cases": count for split, count in published.expected.items()})
    return write(request, rows)


@dataclass(frozen=True, slots=True)
class Count:
    """How much of one class is in one split."""

    split: str
    label: str
    """Or the grade; empty where the set has neither."""
    cases: int
    groups: int


def counts(manifest: Path) -> list[Count]:
    """What a manifest lists, by split and class."""
    groups: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for _, row in rows_of(manifest):
        groups[row["split"], row.get("label") or row.get("grade", "")][row["group"]] += 1
    ordered = sorted(groups, key=lambda key: (SPLITS.index(key[0]), key[1]))
    return [Count(*key, groups[key].total(), len(groups[key])) for key in ordered]
