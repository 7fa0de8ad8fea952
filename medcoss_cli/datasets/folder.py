"""A folder of one's own: a subfolder per class, images with masks (in folders or beside each other), or a table of texts."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medcoss_cli.datasets.rows import ManifestRow, Request, draw, stem, with_split
from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.kit.layout import layout_of
from medcoss_cli.kit.manifest import NAME, is_junk
from medcoss_cli.kit.mask_names import DERIVED, is_data, masks_among, masks_of
from medcoss_cli.kit.readers.rows import filled, number_of

GIVEN = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""What a folder, a table or a value of a column `split` may be called."""
PAIRS = (("images", ("masks", "labels", "annotations")), ("imagesTr", ("labelsTr",)))
"""Folders of images, and what those of their masks are called; the second is the Decathlon's and nnU-Net's."""
TABLES = (".csv", ".tsv", ".xlsx", ".jsonl")
LAYOUT = (
    "a folder per class, or images and masks (two folders, or beside each other), each perhaps inside train, val and test; "
    "or a .csv with label and text"
)


def rows(request: Request) -> list[ManifestRow]:
    """A row for each case. Splits that are not given are drawn from the training cases, by groups.

    Raises: DataError where nothing of the kind lies there, or given splits share a group; UsageError for the options.
    """
    if request.val + request.test >= 1:
        raise UsageError("--val and --test leave nothing to train on", fix="choose shares that add up to less than 1")
    pattern = _compiled(request.pattern)
    below = sorted(path for path in request.root.iterdir() if path.is_dir() and not _passed(path))
    parts = {path: GIVEN[path.name.lower()] for path in below if path.name.lower() in GIVEN}
    if _masks(request.root):
        listed = _pairs(request, request.root, "")
    elif parts:
        listed = [row for part, split in parts.items() for row in _part(request, part, split)]
        request.skipped((path for path in below if path not in parts), "folders are no split")
    elif below:
        listed = _classes(request, request.root, "")
    else:
        listed = _beside(request, request.root, "")
        if not listed:
            return _draw_splits(request, _texts(request, pattern))
    return _draw_splits(request, _grouped(request, listed, pattern))


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group-pattern {pattern} is no regular expression ({error})") from error
    if compiled.groups != 1:
        raise UsageError(
            f"--group-pattern {pattern} has {compiled.groups} groups",
            fix=r"put one pair of parentheses around what names the patient: '^(p\d+)_'",
        )
    return compiled


def _passed(path: Path) -> bool:
    return is_junk(path) or path.name == "__MACOSX"


def _below(folder: Path) -> Iterator[Path]:
    """All files, sorted, without what systems leave behind."""
    for path in sorted(folder.rglob("*")):
        chain = [path, *(parent for parent in path.parents if parent.is_relative_to(folder) and parent != folder)]
        if path.is_file() and path.name != NAME and not any(map(_passed, chain)):
            yield path


def _masks(folder: Path) -> Path | None:
    """The folder of masks, where there is one beside a folder of images."""
    return next((masks for _, masks in _paired(folder)), None)


def _paired(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Folders of images with those of their masks."""
    for images, names in PAIRS:
        found = next((folder / name for name in names if (folder / name).is_dir()), None)
        if found is not None and (folder / images).is_dir():
            yield folder / images, found


def _part(request: Request, folder: Path, split: str) -> list[ManifestRow]:
    return _pairs(request, folder, split) if _masks(folder) else _classes(request, folder, split)


def _classes(request: Request, folder: Path, split: str) -> list[ManifestRow]:
    """Each folder below is a class; where they are patients, or only one is left, images with masks beside them."""
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not _passed(path))
    found = {place: list(_below(place)) for place in below}
    if any(place.name.lower() in ("derivatives", "sourcedata") for place in below):
        everything = [path for paths in found.values() for path in paths]
        derived = {path for path, reason in masks_among(folder, everything).items() if reason == DERIVED}
        request.skipped(sorted(derived), "files are derived or source data (BIDS)")
        found = {place: [path for path in paths if path not in derived] for place, paths in found.items()}
        found = {place: paths for place, paths in found.items() if paths}
    rule = _rule_of_patients(folder, found)
    if rule is not None or len(found) < 2:
        pairs = _beside(request, folder, split)
        if pairs or len(found) < 2 or request.pattern is None:  # who says what names the patient has classes
            return pairs or _no_classes(folder, len(found), rule)
    request.skipped(
        (path for path in sorted(folder.iterdir()) if path.is_file() and path.name != NAME and not is_junk(path)),
        "files lie in no class's folder",
    )
    listed, masks, several = [], list[Path](), list[Path]()
    for place, paths in found.items():
        among = masks_among(place, paths)  # of the class alone: a class may be called mask
        masks += among
        for path, own in _with_masks(paths, among):
            several += [path] if len(own) > 1 else []
            listed.append(ManifestRow(path, split, "", place.name, own[0] if len(own) == 1 else None))
    used = {row.mask for row in listed}
    request.skipped((path for path in masks if path not in used), "files are masks of images beside them")
    if several:
        request.warn(f"{len(several)} images have several masks, none is listed; the first is {several[0].name}")
    return listed


def _rule_of_patients(folder: Path, found: Mapping[Path, Sequence[Path]]) -> str | None:
    """How the folders below are known to be patients, in words; None: they are not."""
    files = [path for paths in found.values() for path in paths]
    layout = layout_of(folder, files, chosen=True)
    agree = sum(layout.patient(path) == place.name for place, paths in found.items() for path in paths)
    return layout.rule if agree * 2 > len(files) else None


def _no_classes(folder: Path, count: int, rule: str | None) -> list[ManifestRow]:
    """Raises: DataError."""
    if rule is None:
        raise DataError(f"{count} class folders, where two or more are needed", where=folder, fix=f"expected: {LAYOUT}")
    raise DataError(
        f"the folders are patients, by {rule}, not classes, and no masks lie beside their images, so there is nothing to learn",
        where=folder,
        fix="list labels in a table: --columns path=File,label=Finding; if the folders are classes, say what names the patient "
        "with --group-pattern",
    )


def _with_masks(paths: Sequence[Path], among: Collection[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """The images of these files, each with its masks of the same folder."""
    masks: dict[Path, list[Path]] = defaultdict(list)
    for path in among:
        masks[path.parent].append(path)
    for path in paths:
        if path not in among:
            yield path, masks_of(path, masks[path.parent])


def _beside(request: Request, folder: Path, split: str) -> list[ManifestRow]:
    """Images with masks in their own folders: volume-0.nii and segmentation-0.nii, p1/p1_t1.nii.gz and p1/p1_seg.nii.gz.

    Of an image of several sequences each is listed, with the one mask. Nothing where no image has a mask.
    """
    paths = [path for path in _below(folder) if is_data(path)]
    among = masks_among(folder, paths)
    pairs = list(_with_masks(paths, among))
    listed = [ManifestRow(path, split, "", mask=own[0]) for path, own in pairs if len(own) == 1]
    if listed:
        used = {row.mask for row in listed}
        request.skipped((path for path, own in pairs if not own), "images have no mask of their name beside them")
        request.skipped((path for path, own in pairs if len(own) > 1), "images have several masks")
        request.skipped(
            (path for path in sorted(among) if path not in used), "masks or derived files belong to no image"
        )
    return listed


def _pairs(request: Request, folder: Path, split: str) -> list[ManifestRow]:
    """images/NAME.* with masks/NAME.*, NAME_mask.*, NAME_seg.* or mask_NAME.*, also inside train, val and test; of nnU-Net
    imagesTr/NAME_0000.* with labelsTr/NAME.*, every channel an image.
    """
    images, place = next(_paired(folder))
    masks: dict[tuple[Path, str], Path] = {}
    for path in _below(place):
        key = path.parent.relative_to(place), stem(path)
        if key in masks:
            raise DataError(f"two masks for one image: {masks[key].name} and {path.name}", where=path, fix="keep one")
        masks[key] = path
    pairs, without, used = [], [], set[Path]()
    for path in _below(images):
        below, name = path.parent.relative_to(images), stem(path)
        names = (name, f"{name}_mask", f"{name}_seg", f"mask_{name}", re.sub(r"_\d{4}$", "", name))
        mask = next((masks[below, each] for each in names if (below, each) in masks), None)
        if mask is None:
            without.append(path)
            continue
        used.add(mask)
        pairs.append(
            ManifestRow(path, split or GIVEN.get(below.parts[0].lower() if below.parts else "", ""), "", mask=mask)
        )
    request.skipped(without, f"images have no mask of their name in {place.name}")
    request.skipped(sorted(set(masks.values()) - used), "masks have no image of their name")
    return pairs


def _grouped(request: Request, listed: Sequence[ManifestRow], pattern: re.Pattern[str] | None) -> list[ManifestRow]:
    names = [row.path.relative_to(request.root).as_posix() for row in listed]
    if pattern is None:
        layout = layout_of(request.root, [row.path for row in listed], chosen=True)
        patients = layout.patients([row.path for row in listed], [row.label or None for row in listed])
        if not any(patients):
            _risk(request, "file")
        else:
            request.screen.say(f"{request.name}: patients: {len(set(patients) - {None})}, by {layout.rule}")
        return [replace(row, group=patient or name) for row, name, patient in zip(listed, names, patients, strict=True)]
    matches = [pattern.search(row.path.name) or pattern.search(name) for row, name in zip(listed, names, strict=True)]
    return [replace(row, group=group) for row, group in zip(listed, _groups(request, names, matches), strict=True)]


def _groups(request: Request, names: Sequence[str], matches: Sequence[re.Match[str] | None]) -> list[str]:
    unmatched = [name for name, match in zip(names, matches, strict=True) if not match or not match[1]]
    if unmatched:
        raise DataError(
            f"--group-pattern {request.pattern} finds no patient in {len(unmatched)} of {len(names)} names, as in {unmatched[0]}",
            where=request.root,
            fix="write a pattern that all names match",
        )
    return [str(match[1]) for match in matches if match]


def _risk(request: Request, what: str) -> None:
    request.warn(
        f"each {what} counts as a patient of its own: if patients have several, scores will be too good; "
        r"tell who is who, as in --group-pattern '^(p\d+)_'"
    )


def _texts(request: Request, pattern: re.Pattern[str] | None) -> list[ManifestRow]:
    """Rows of train.csv, val.csv, test.csv, or of one table; of a column `split`, where there is one."""
    tables = [path for path in sorted(request.root.iterdir()) if path.suffix.lower() in TABLES and path.is_file()]
    tables = [path for path in tables if path.name != NAME and not is_junk(path)]
    split_of = {path: GIVEN[path.stem.lower()] for path in tables if path.stem.lower() in GIVEN}
    if not split_of and len(tables) != 1:
        what = "no data to list" if not tables else f"{len(tables)} tables, none named after a split"
        raise DataError(what, where=request.root, fix=f"expected: {LAYOUT}")
    request.skipped((path for path in tables if split_of and path not in split_of), "tables are named after no split")
    listed = [row for path in split_of or tables for row in _table(request, path, split_of.get(path, ""))]
    names = [row.group for row in listed]
    if pattern is not None:
        matches = [pattern.search(name) for name in names]
        return [replace(row, group=group) for row, group in zip(listed, _groups(request, names, matches), strict=True)]
    if all(row.group.startswith(row.path.name) for row in listed):
        _risk(request, "row")
    return listed


def _table(request: Request, path: Path, split: str) -> list[ManifestRow]:
    from medcoss_cli.kit.readers.table import read_table

    texts = read_table(path, "text").texts
    labels = read_table(path, "label")
    splits = {} if split else _column(path, "split")
    group_of: dict[int, str] = next(filter(None, (_column(path, name) for name in ("group", "patient", "id"))), {})
    listed = []
    for row in labels.rows:
        if row.index not in texts or not filled(row.text):
            continue
        split_name = filled(splits.get(row.index, "")).lower()
        if split_name and split_name not in GIVEN:
            raise DataError(f"split {split_name!r} is none of train, val, test", where=f"{path}, data row {row.index}")
        group = number_of(filled(group_of.get(row.index, ""))) or f"{path.name} {row.index}"
        label = number_of(row.text.strip())
        listed.append(ManifestRow(path, split or GIVEN.get(split_name, ""), group, label, index=row.index))
    if len(listed) < labels.count:
        request.warn(f"{labels.count - len(listed)} rows of {path.name} lack a label or a text, left out")
    return listed


def _column(path: Path, name: str) -> dict[int, str]:
    """Values by data row; none where there is no such column."""
    from medcoss_cli.kit.readers.table import read_table

    try:
        return read_table(path, name).texts
    except DataError:
        return {}


def _draw_splits(request: Request, listed: list[ManifestRow]) -> list[ManifestRow]:
    """The rows, each in a split: in the one that is given, else for training, some groups of it for what is not given."""
    _disjoint(request, listed)
    splits = {row.split for row in listed}
    listed = [replace(row, split=row.split or "train") for row in listed]
    for split, share in (("test", request.test), ("val", request.val)):
        if split in splits or not share:
            continue
        train = [row for row in listed if row.split == "train"]
        cases = Counter(row.label for row in train)
        remainder = 1 - request.test if split == "val" and "test" not in splits else 1  # of what was there at first
        counts = {label: max(1, round(count * share / remainder)) for label, count in cases.items()}
        listed = with_split(listed, draw(train, counts, request.seed, split), split)
        if splits != {""}:
            request.warn(f"no {split} split is given, so {share:.0%} of the training cases are drawn for it")
    return listed


def _disjoint(request: Request, listed: Sequence[ManifestRow]) -> None:
    splits: dict[str, set[str]] = defaultdict(set)
    for row in listed:
        splits[row.group].add(row.split)
    shared = sorted(group for group, of in splits.items() if len(of) > 1)
    if shared:
        raise DataError(
            f"{len(shared)} patients are in more than one of the given splits, the first is {shared[0]!r}",
            where=request.root,
            fix="put all files of a patient into one split",
        )
