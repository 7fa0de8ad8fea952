"""`data check`: read every file and report what happened, by folder, by reason, and what to type next."""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.data.read import Blank, listed, read_checked, tell_links
from medcoss_cli.errors import DataError
from medcoss_cli.kit.loaders import ImageFolder, SignalFolder, TextFolder, VolumeFolder
from medcoss_cli.kit.manifest import manifest_of
from medcoss_cli.plugin import CompleteModality, Record

MOST_FOLDERS = 20
"""Lines of folders; more are put together by the folders above them."""
LONGEST = 60
"""Letters of a path in a table; JSON has them all."""
EXAMPLES = 3
VERDICTS = ("read", "left out", "quarantine")
_READ_FROM = {
    ImageFolder: "PNG, JPEG, TIFF and BMP",
    VolumeFolder: "NIfTI, NRRD and MetaImage",
    TextFolder: ".txt, .csv, .tsv, .xlsx and .jsonl",
    SignalFolder: ".csv and .npy",
}
"""What a loader of the kit reads beside DICOM and containers; what a plugin's own reads, nobody can say here."""


@dataclass(frozen=True)
class Verdict:
    """The outcome for one file, or one series of slices. `verdict` is read, quarantine or left out.

    Args:
        what: what it is, as a person says it.
        parts: pages, frames, windows or rows of it that this is said of.
        files: files that belong to it; 0 where another verdict counts them.
        folder: where it lies; of a series, its own.
        group: its patient, where that is known.
    """

    file: str
    kind: str
    verdict: str
    reason: str
    notes: tuple[str, ...] = ()
    what: str = ""
    parts: int = 1
    files: int = 1
    folder: str = "."
    group: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Checked:
    """All verdicts on a folder, and how many samples of it each installed modality reads, where none was named."""

    root: Path
    verdicts: Sequence[Verdict]
    fitting: Mapping[tuple[str, ...], int]
    """Names of the modalities that read the same samples, and how many these are."""


def check_modality(
    modality: CompleteModality, root: Path, split: str, screen: Screen, columns: Mapping[str, str] | None = None
) -> Checked:
    """Read all records of a folder as one modality; the parts of a recording with one outcome are one verdict.

    Raises: DataError for a missing folder, or a manifest with faults.
    """
    if not root.exists():
        raise DataError("the folder does not exist", where=root, fix="check the path")
    counts: dict[Verdict, int] = {}
    items = listed(modality, root, split, columns)
    found = [item for item in items if isinstance(item, Record)]
    tell_links(root, (file for record in found for file in record.files or (record.source,)), screen)
    with screen.progress(f"reading {modality.name}", len(items)) as bar:
        for item in items:
            bar.advance()
            name = _name(item.source, root)
            folder = name if item.source.is_dir() else str(PurePosixPath(name).parent)
            if not isinstance(item, Record):
                outcome = "quarantine" if item.bad else "left out"
                verdict = Verdict(name, modality.name, outcome, item.reason, what="other files")
            else:
                verdict = _of_record(modality, item, " ".join((name, *map(str, item.recording[1]))))
            verdict = replace(verdict, folder=folder)
            counts[verdict] = counts.get(verdict, 0) + 1
    verdicts, named = [], set[str]()
    for verdict, count in counts.items():
        verdicts.append(replace(verdict, parts=count, files=0 if verdict.file in named else verdict.files))
        named.add(verdict.file)
    samples = sum(verdict.parts for verdict in verdicts if verdict.verdict == "read")
    return Checked(root, verdicts, {(modality.name,): samples} if samples else {})


def _of_record(modality: CompleteModality, record: Record, name: str) -> Verdict:
    files = max(1, len(record.files))
    try:
        sample = read_checked(modality, record)
    except DataError as error:
        verdict = "left out" if isinstance(error, Blank) else "quarantine"
        return Verdict(name, modality.name, verdict, error.what, what=f"{modality.title} samples", files=files)
    what = f"{modality.title} samples"
    return Verdict(
        name, modality.name, "read", _shape(sample.array), sample.notes, what, files=files, group=record.group
    )


def check_content(root: Path, screen: Screen, modalities: Iterable[CompleteModality] = ()) -> Checked:
    """Read everything under a folder (or that of a manifest) as what its content is.

    Args:
        modalities: those that are looked for.

    Raises: DataError for a missing folder.
    """
    from medcoss_cli.kit.readers.survey import files_in, survey

    if not root.exists():
        raise DataError("the folder does not exist", where=root, fix="check the path")
    root = root.parent if root.is_file() and manifest_of(root) == root else root
    files = files_in(root)
    tell_links(root, files, screen)
    with screen.progress("reading", len(files) or 1) as bar:
        entries = survey(root, bar.advance)
    known = list(modalities)
    verdicts: list[Verdict] = []
    fitting: Counter[tuple[str, ...]] = Counter()
    for entry in entries:
        verdict = "left out" if entry.verdict == "ignored" else entry.verdict
        verdicts.append(
            Verdict(
                entry.path,
                entry.kind,
                verdict,
                entry.reason,
                tuple(entry.notes),
                entry.what,
                entry.parts,
                entry.files,
                entry.path if entry.files > 1 else str(PurePosixPath(entry.path).parent),
                entry.group,
            )
        )
        if verdict == "read":
            names = tuple(modality.name for modality in known if _fits(modality, entry))
            fitting[names] += entry.parts
    return Checked(root, verdicts, {names: count for names, count in fitting.items() if names})


def nothing_found(root: Path, modality: CompleteModality | None) -> DataError:
    """What to say where there is no verdict at all, and so no table with reasons."""
    fix = "name the folder that holds them: medcoss data check FOLDER"
    if modality is not None:
        kinds = next((kinds for kind, kinds in _READ_FROM.items() if isinstance(modality.loader, kind)), None)
        dicom = "DICOM, " if getattr(modality.loader, "dicom", ()) else ""
        fix += f" --modality {modality.name}" + (f"; {modality.title} is read from {dicom}{kinds}" if kinds else "")
    return DataError("no data files were found here", where=root, fix=fix)


def _fits(modality: CompleteModality, entry: Any) -> bool:
    """Would its loader take this, as far as dimensions, channels and the header tell?"""
    if modality.text_tokenizer is not None or entry.kind == "text":
        return modality.text_tokenizer is not None and entry.kind == "text"
    codes = getattr(modality.loader, "dicom", None)
    is_dicom = entry.kind in ("image", "volume") and bool(re.fullmatch(r"[A-Z]{2,}", entry.what))
    if is_dicom and codes is not None and entry.what not in codes:
        return False
    return bool(entry.shape) and len(entry.shape) - 1 == modality.dims and entry.shape[0] == modality.channels


def show(checked: Checked, screen: Screen, given: Sequence[str] = ()) -> None:
    """Folders, what was not read and why, notes, patients, and what to type next."""
    verdicts = checked.verdicts
    screen.table(
        "What lies here", ["folder", "what", "files", "read", "left out", "refused", "sizes"], _folders(verdicts)
    )
    unread = [(f"{_word(v.verdict)}: {v.reason}", v) for v in verdicts if v.verdict != "read"]
    if unread:
        screen.table("Not read", ["count", "why", "which"], _grouped(unread))
    noted = [(note, v) for v in verdicts if v.verdict == "read" for note in v.notes]
    if noted:
        screen.table("Read, with a note", ["count", "note", "which"], _grouped(noted))
    counts = Counter(v.verdict for v in verdicts)
    screen.say("files and series: " + ", ".join(f"{counts[verdict]} {_word(verdict)}" for verdict in VERDICTS))
    groups = {v.group for v in verdicts if v.group}
    read = counts["read"]
    if groups:
        alone = sum(v.verdict == "read" and not v.group for v in verdicts)
        screen.say(f"patients: {len(groups)}" + (f", and {alone} files that name none" if alone else ""))
    elif read > 1:
        screen.say("patients: none is named by a manifest, a header or the folders; each file counts as one")
    if checked.fitting:
        screen.say(_next(checked, given))


def _next(checked: Checked, given: Sequence[str]) -> str:
    """The command that goes on, with the modalities that fit and what fits several, and with the options that were given."""
    where = " ".join(map(shlex.quote, (str(checked.root), *given)))
    totals: Counter[str] = Counter()
    for names, count in checked.fitting.items():
        totals.update(dict.fromkeys(names, count))
    command = f"next: medcoss data prepare {where} --modality"
    if len(totals) == 1:
        return f"{command} {next(iter(totals))}"
    fits = ", ".join(f"{name} ({count} samples)" for name, count in totals.most_common())
    several = [f"{count} are {' or '.join(names)}" for names, count in checked.fitting.items() if len(names) > 1]
    return f"{command} NAME, where NAME is {fits}" + (f"; by their content {', '.join(several)}" if several else "")


def _word(verdict: str) -> str:
    return "refused" if verdict == "quarantine" else verdict


def _folders(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """A line for each folder and kind of thing in it."""
    labels = _labels(verdicts)
    folders: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    groups: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        label = labels[_folder(verdict)]
        folders[label].add(_folder(verdict))
        groups[label, _what(verdict)].append(verdict)
    rows = []
    for (label, what), members in sorted(groups.items()):
        counts = Counter(v.verdict for v in members)
        more = f" ({len(folders[label])} folders)" if len(folders[label]) > 1 else ""
        cells = [str(counts[verdict] or "") for verdict in VERDICTS]
        sizes = [v.reason for v in members if v.verdict == "read"]
        rows.append([_short(label) + more, what, str(sum(v.files for v in members)), *cells, _span(sizes)])
    return rows


def _labels(verdicts: Sequence[Verdict]) -> dict[tuple[str, ...], str]:
    """What a folder is called in the table: by itself; where there are many, with those numbered as it is (p01, p02: p*), then
    with those of the folder above; the smallest of what is left are others.
    """
    sizes: Counter[tuple[str, ...]] = Counter()
    for verdict in verdicts:
        sizes[_folder(verdict)] += verdict.files
    depth = max(map(len, sizes), default=0)
    labels = _named(sizes, depth, numbered=len(sizes) > MOST_FOLDERS)
    while len(set(labels.values())) > MOST_FOLDERS and depth > 1:
        depth -= 1
        labels = _named(sizes, depth, numbered=True)
    if len(set(labels.values())) > MOST_FOLDERS:
        totals: Counter[str] = Counter()
        for folder, label in labels.items():
            totals[label] += sizes[folder]
        kept = {label for label, _ in totals.most_common(MOST_FOLDERS - 1)}
        labels = {folder: label if label in kept else "others" for folder, label in labels.items()}
    return labels


def _named(folders: Iterable[tuple[str, ...]], depth: int, *, numbered: bool) -> dict[tuple[str, ...], str]:
    """The first parts of each path; where `numbered`, those that differ in numbers alone under one name."""
    tops = {folder: "/".join(folder[:depth] or (".",)) for folder in folders}
    if not numbered:
        return tops
    kinds: dict[str, set[str]] = defaultdict(set)
    for top in tops.values():
        kinds[re.sub(r"\d+", "*", top)].add(top)
    return {folder: kind if len(kinds[kind := re.sub(r"\d+", "*", top)]) > 1 else top for folder, top in tops.items()}


def _folder(verdict: Verdict) -> tuple[str, ...]:
    return PurePosixPath(verdict.folder).parts


def _what(verdict: Verdict) -> str:
    if verdict.verdict == "quarantine" and verdict.kind == "other":
        return "other files"  # which they are not is a reason, not a kind
    if verdict.what == "DICOM":
        return "other DICOM"
    if verdict.what and re.fullmatch(r"[A-Z]{2,}", verdict.what):
        return f"{verdict.what} {'series' if verdict.kind == 'volume' else 'images'} (DICOM)"
    return verdict.what.removeprefix("a ").removeprefix("an ") or verdict.kind


def _span(sizes: Sequence[str]) -> str:
    """The first size, and how many others there are."""
    different = list(dict.fromkeys(sizes))
    return different[0] + (f" and {len(different) - 1} more" if len(different) > 1 else "") if different else ""


def _grouped(reasons: Sequence[tuple[str, Verdict]]) -> list[list[str]]:
    """Count, reason and examples; reasons that differ in numbers alone are one."""
    groups: dict[str, list[tuple[str, Verdict]]] = defaultdict(list)
    for reason, verdict in reasons:
        groups[re.sub(r"\d[\d.,]*", "#", reason)].append((reason, verdict))
    rows = []
    for members in sorted(groups.values(), key=len, reverse=True):
        names = list(dict.fromkeys(v.file for _, v in members))
        more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
        count = sum(1 if v.verdict == "read" else v.parts for _, v in members)
        rows.append([str(count), members[0][0], ", ".join(map(_short, names[:EXAMPLES])) + more])
    return rows


def _short(name: str) -> str:
    """A path that a line of the screen has room for: its beginning and its end."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 3]}…{name[-(LONGEST - LONGEST // 3 - 1) :]}"


def _name(source: Path, root: Path) -> str:
    return str(source.relative_to(root)) if source.is_relative_to(root) and source != root else source.name


def _shape(array: object) -> str:
    if isinstance(array, str):
        return f"{len(array.split())} words"
    return " x ".join(map(str, getattr(array, "shape", ())[1:]))
