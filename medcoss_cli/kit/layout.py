"""What a folder's names say where no manifest does: whose a file is, and which files are masks of others.

Folders are patients if they are numbered as patients are; folders grade1 to grade3, 0 to 9 and 2020-01-03 stay what they are.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medcoss_cli.kit.mask_names import CHANNEL, IMAGE_FOLDERS, SUBJECT, masks_among, stem_of

_PATIENT_WORDS = re.compile(r"patient|pat|pt|subject|subj|sub|case|pid|p|s|id|person|volunteer|anon")
_CLASS_WORDS = re.compile(
    r"class|label|grade|stage|type|cat|category|level|score|birads|fold|split|group|cluster|series|slice|frame|t|tile|batch|part|"
    r"set|site|center|centre|scanner|week|day|month|year|visit|session|ses|study|exam|scan|image|img|run|phase|echo|acq|tp|hospital"
)
_SITES = re.compile(r"(site|center|centre|hospital|clinic|scanner|institut).*")
_SPLITS = re.compile(r"train|training|val|valid|validation|dev|test|testing")
_DATES = ("%Y%m%d", "%Y-%m-%d", "%Y_%m_%d", "%Y.%m.%d", "%d.%m.%Y", "%d-%m-%Y", "%Y-%m", "%Y_%m", "%Y")
_FEW = 5
"""Channels of a scan are not more."""
_MANY = 10
"""Numbered folders of an unknown word that are patients, fewer may be classes; days in a row that are numbers."""


@dataclass(frozen=True)
class Layout:
    """What the names of these files say.

    Args:
        rule: how patients are inferred, in words; None: they are not.
        masks: files that are no samples, and why.
    """

    root: Path
    rule: str | None
    masks: dict[Path, str]
    _patient: Callable[[tuple[str, ...]], str | None]

    def patient(self, path: Path) -> str | None:
        """The patient a file belongs to, or None."""
        return self._patient(_parts(self.root, path)) if self.rule else None

    def reason(self, path: Path) -> str | None:
        """Why a file is no sample, or None."""
        return self.masks.get(path)

    def patients(self, paths: Sequence[Path], labels: Sequence[str | None]) -> list[str | None]:
        """The patient of each file; of none where the folders are called as the labels of their files are: classes."""
        patients = [self.patient(path) for path in paths]
        pairs = [(patient, label) for patient, label in zip(patients, labels, strict=True) if patient is not None]
        if pairs and all(label is not None and patient.casefold() == label.casefold() for patient, label in pairs):
            return [None] * len(patients)
        return patients


def layout_of(root: Path, files: Sequence[Path], *, chosen: bool = False) -> Layout:
    """The layout of files below a folder. Of the files it reads the first bytes of NIfTI, and a few that may be masks.

    Args:
        chosen: these were listed by a manifest, or are known to be images: none of them is a mask.
    """
    masks = {} if chosen else masks_among(root, files)
    rest = [path for path in files if path not in masks]
    rule, patient = _patients([_parts(root, path) for path in rest])
    return Layout(root, rule, masks, patient)


def _parts(root: Path, path: Path) -> tuple[str, ...]:
    inside = path.relative_to(root).parts if path.is_relative_to(root) else ()
    return inside or path.parts[-1:]  # also of a file that is the root itself


def _nobody(parts: tuple[str, ...]) -> str | None:
    return None


def _patients(files: Sequence[tuple[str, ...]]) -> tuple[str | None, Callable[[tuple[str, ...]], str | None]]:
    """The rule that infers patients, and the patient of a file by the parts of its path below the root."""
    if sum(_subject(parts) is not None for parts in files) * 2 > len(files):
        return "sub-* (BIDS)", _subject
    cases = [case for parts in files if (case := _case(parts)) is not None]
    if len(cases) * 2 > len(files):
        if _are_channels(cases):
            return "case of imagesTr (nnU-Net)", lambda parts: CHANNEL.sub("", _case(parts) or "") or None
        return "case of imagesTr (Medical Segmentation Decathlon)", _case
    level = _patient_level(files) or _one_patient(files)
    if level is None:
        return None, _nobody
    at, above = level
    names = sorted({parts[at] for parts in files if len(parts) > at + 1 and not _is_passed(parts[at])})
    example = f"({names[0]}, {names[1]}, …)" if len(names) > 1 else f"({names[0]})"
    if not above:
        return f"folder {example}", lambda parts: parts[at] if _has_patient(parts, at) else None
    # p1 of one site is not p1 of another; below classes it is, since a patient may have findings of both
    by_site = all(_SITES.fullmatch(name.lower()) for name in above)
    start = at - 1 if by_site else at
    return (
        f"folder below {', '.join(sorted(above)[:2])}{', …' if len(above) > 2 else ''} {example}",
        lambda parts: "/".join(parts[start : at + 1]) if _has_patient(parts, at) else None,
    )


def _has_patient(parts: tuple[str, ...], level: int) -> bool:
    return len(parts) > level + 1 and not _is_passed(parts[level])


def _is_passed(name: str) -> bool:
    """A split or a folder of images: what lies in it says more."""
    return bool(_SPLITS.fullmatch(name.lower()) or IMAGE_FOLDERS.fullmatch(name.lower()))


def _subject(parts: tuple[str, ...]) -> str | None:
    found = next((part for part in parts[:-1] if SUBJECT.fullmatch(part)), None)
    match = re.match(rf"({SUBJECT.pattern})_", parts[-1])
    return found or (match[1] if match else None)


def _case(parts: tuple[str, ...]) -> str | None:
    inside = any(part in ("imagesTr", "imagesTs", "imagesVal") for part in parts[:-1])
    return stem_of(parts[-1]) if inside else None


def _are_channels(cases: Sequence[str]) -> bool:
    """Names that end in the channel of nnU-Net: case_0000, case_0001; and not in the number of a case: amos_0004."""
    if not all(CHANNEL.search(case) for case in cases):
        return False
    channels: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        channels[case[:-5]].add(case[-5:])
    return "_0000" in set.union(*channels.values()) and (len(channels) > 1 or len(cases) < _FEW)


def _patient_level(files: Sequence[tuple[str, ...]]) -> tuple[int, set[str]] | None:
    """Depth of the folders that are patients, and the folders of the level above if these are classes or sites.

    They are the first of which there are several, splits and folders of images passed over; or those right below.
    """
    above: set[str] = set()
    for level in range(max(map(len, files), default=1) - 1):
        deep = [parts for parts in files if len(parts) > level + 1]
        if len(deep) * 2 <= len(files):
            return None
        names = {parts[level] for parts in deep if not _is_passed(parts[level])}
        if above:
            by_site = all(_SITES.fullmatch(name.lower()) for name in above)
            count = len({parts[level - 1 : level + 1] for parts in deep}) if by_site else len(names)
            # fewer names than folders above: visits of patients who are called by their names
            return (level, above) if count >= len(above) and len(names) > 1 and _are_patients(names) else None
        if len(names) > 1 or (names and len({parts[level] for parts in deep}) > 1):
            if len(names) > 1 and _are_patients(names):
                return level, above
            above = names
    return None


def _are_patients(names: Iterable[str]) -> bool:
    """Names that are numbered alike: p01, p02; LIDC-IDRI-0001; 10034. Short numbers, years, dates and UIDs are no patients."""
    folders = [name.lower() for name in names if name.count(".") < 5]
    kinds = Counter(re.sub(r"\d+", "#", name) for name in folders)
    if not kinds:
        return False
    kind, count = kinds.most_common(1)[0]
    word = re.match(r"[a-z]*", kind)
    assert word is not None
    if "#" not in kind or count < 0.8 * len(folders) or count < 2 or _CLASS_WORDS.fullmatch(word[0]):
        return False
    if _are_dates(folders):
        return False
    digits = min(sum(map(str.isdigit, name)) for name in folders if re.sub(r"\d+", "#", name) == kind)
    return digits >= 4 or bool(_PATIENT_WORDS.fullmatch(word[0])) or (len(folders) >= _MANY and kind != "#")


def _one_patient(files: Sequence[tuple[str, ...]]) -> tuple[int, set[str]] | None:
    """As `_patient_level`, of the one folder that all files lie in if it is called as patients are: P001.

    Other words, and numbers alone, may be anything.
    """
    for level in range(min(map(len, files), default=1) - 1):
        names = {parts[level] for parts in files if not _is_passed(parts[level])}
        match = re.fullmatch(r"([a-z]+)[_\- ]?\d+", min(names, default="").lower())
        if len(names) == 1 and match and _PATIENT_WORDS.fullmatch(match[1]):
            return level, set()
    return None


def _are_dates(names: Sequence[str]) -> bool:
    """All are years, months or days of one form; but not numbers that run on: 20010101 to 20010119."""
    for form in _DATES:
        try:
            days = {datetime.datetime.strptime(name, form) for name in names}
        except ValueError:
            continue
        if form == "%Y%m%d" and any(len(name) != 8 for name in names):
            continue
        years = {day.year for day in days}
        run = form == "%Y%m%d" and len(days) >= _MANY and (max(days) - min(days)).days == len(days) - 1
        return min(years) >= 1950 and max(years) <= datetime.date.today().year + 1 and not run
    return False
