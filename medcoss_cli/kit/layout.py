"""What a folder's names say where no manifest does: whose a file is, and which files are masks of others.

Names are trusted only as far as other files bear them out: a folder `masks` is one of masks if images lie beside it, folders are
patients if they are numbered as patients are. A class `mask` among classes, and folders grade1 to grade3, stay what they are.
"""

from __future__ import annotations

import gzip
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

MASK, DERIVED = "a mask", "a derivative (BIDS)"
_MASK_FOLDERS = re.compile(
    r"(labels(tr|ts|val)?|masks?|segs?|segmentations?|segmentation_?masks|lesion_?masks|ground_?truths?|gt|annotations)"
)
_IMAGE_FOLDERS = re.compile(r"(images?|imgs?|scans?|volumes?)(tr|ts|val)?")
_WORDS = r"(seg|mask|masks|label|labels|labelmap|segmentation|groundtruth|gt)"
_MASK_FILE = re.compile(rf"(?:(?P<base>.+?)[_.\- ]{_WORDS}|{_WORDS}[_\-](?P<after>.+)|{_WORDS})")
_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_CHANNEL = re.compile(r"_\d{4}$")
_PATIENT_WORDS = re.compile(r"patient|pat|pt|subject|subj|sub|case|pid|p|s|id|person|volunteer|anon")
_CLASS_WORDS = re.compile(
    r"class|label|grade|stage|type|cat|category|level|score|birads|fold|split|group|cluster|series|slice|frame|t|tile|batch|part|"
    r"set|site|center|centre|scanner|week|day|month|year|visit|session|ses"
)
_SPLITS = re.compile(r"train|training|val|valid|validation|dev|test|testing")
_FEW = 5
"""Channels of a scan are not more."""
_MANY = 10
"""Numbered folders of an unknown word that are patients; fewer may be classes."""
_LABEL_INTENT = 1002
"""NIFTI_INTENT_LABEL: values are numbers of structures."""


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


def layout_of(root: Path, files: Sequence[Path], *, chosen: bool = False) -> Layout:
    """The layout of files below a folder. Reads nothing but the first bytes of NIfTI files.

    Args:
        chosen: these were listed by a manifest, or are known to be images: none of them is a mask.
    """
    masks = {} if chosen else _masks(root, files)
    rest = [path for path in files if path not in masks]
    rule, patient = _patients([_parts(root, path) for path in rest])
    return Layout(root, rule, masks, patient)


def stem_of(name: str) -> str:
    """A file's name without its ending; .nii.gz is one ending."""
    return name[:-7] if name.lower().endswith(".nii.gz") else name.rpartition(".")[0] or name


def _parts(root: Path, path: Path) -> tuple[str, ...]:
    inside = path.relative_to(root).parts if path.is_relative_to(root) else ()
    return inside or path.parts[-1:]  # also of a file that is the root itself


def _masks(root: Path, files: Sequence[Path]) -> dict[Path, str]:
    reasons: dict[Path, str] = {}
    below: dict[Path, list[Path]] = defaultdict(list)  # files by each folder above them
    beside: dict[Path, list[Path]] = defaultdict(list)
    folders: dict[Path, set[Path]] = defaultdict(set)  # by the folder above
    for path in files:
        beside[path.parent].append(path)
        for folder in path.parents:
            below[folder].append(path)
            if folder == root:
                break
            folders[folder.parent].add(folder)
    subjects = {path.parent for path in below if _SUBJECT.fullmatch(path.name)}
    for folder, paths in below.items():
        if folder == root:
            continue
        if folder.name.lower() == "derivatives" and folder.parent in subjects:
            reasons.update(dict.fromkeys(paths, DERIVED))
        elif _MASK_FOLDERS.fullmatch(folder.name.lower()) and _has_images(
            folder, folders[folder.parent] - {folder}, below, beside
        ):
            reasons.update(dict.fromkeys(paths, MASK))
    for paths in beside.values():
        rest = [path for path in paths if path not in reasons]
        reasons.update(dict.fromkeys(_named_masks(rest), MASK))
    for path in files:
        if path not in reasons and path.name.lower().endswith((".nii", ".nii.gz")) and _is_label_map(path):
            reasons[path] = f"{MASK} (NIfTI label map)"
    return reasons


def _has_images(
    folder: Path, siblings: set[Path], below: dict[Path, list[Path]], beside: dict[Path, list[Path]]
) -> bool:
    """Images lie beside a folder: in a folder of that name, as files, or under the names of most of the masks."""
    parent = folder.parent
    if any(_IMAGE_FOLDERS.fullmatch(place.name.lower()) for place in siblings):
        return True
    if any(path.suffix.lower() not in (".csv", ".tsv", ".txt", ".json", ".xlsx") for path in beside.get(parent, ())):
        return True
    names = {
        _bare(path) for place in siblings if not _MASK_FOLDERS.fullmatch(place.name.lower()) for path in below[place]
    }
    return sum(_bare(path) in names for path in below[folder]) * 2 > len(below[folder])


def _bare(path: Path) -> str:
    """What the names of an image and of its mask have in common."""
    stem = _CHANNEL.sub("", stem_of(path.name).lower())
    match = _MASK_FILE.fullmatch(stem)
    return (match["base"] or match["after"] or stem) if match else stem


def _named_masks(paths: Sequence[Path]) -> list[Path]:
    """Files of one folder that are called masks, of an image that is there: p1_seg.nii.gz beside p1_t1.nii.gz."""
    matches = {path: _MASK_FILE.fullmatch(stem_of(path.name).lower()) for path in paths}
    images = [stem_of(path.name).lower() for path, match in matches.items() if match is None]
    if not images:
        return []
    masks = []
    for path, match in matches.items():
        if match is None:
            continue
        base = match["base"] or match["after"]
        whole = base is None or path.name.lower().endswith((".seg.nrrd", "-label.nrrd"))  # what Slicer writes
        if whole or any(re.match(rf"{re.escape(base)}(?![a-z0-9])", image) for image in images):
            masks.append(path)
    return masks


def _is_label_map(path: Path) -> bool:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            head = file.read(540)
    except (OSError, EOFError, ValueError):
        return False
    for order in "<>":
        if len(head) >= 348 and struct.unpack_from(order + "i", head)[0] == 348:
            return bool(head[344:347] == b"n+1" and struct.unpack_from(order + "h", head, 68)[0] == _LABEL_INTENT)
        if len(head) == 540 and struct.unpack_from(order + "i", head)[0] == 540:
            return bool(struct.unpack_from(order + "i", head, 504)[0] == _LABEL_INTENT)
    return False


def _nobody(parts: tuple[str, ...]) -> str | None:
    return None


def _patients(files: Sequence[tuple[str, ...]]) -> tuple[str | None, Callable[[tuple[str, ...]], str | None]]:
    """The rule that infers patients, and the patient of a file by the parts of its path below the root."""
    if sum(_subject(parts) is not None for parts in files) * 2 > len(files):
        return "sub-* (BIDS)", _subject
    cases = [case for parts in files if (case := _case(parts)) is not None]
    if cases:
        if _are_channels(cases):
            return "case of imagesTr (nnU-Net)", lambda parts: _CHANNEL.sub("", _case(parts) or "") or None
        return "case of imagesTr (Medical Segmentation Decathlon)", _case
    level = _patient_level(files)
    if level is None:
        return None, _nobody
    names = sorted({parts[level] for parts in files if len(parts) > level + 1})
    return f"folder ({names[0]}, {names[1]}, …)", lambda parts: parts[level] if len(parts) > level + 1 else None


def _subject(parts: tuple[str, ...]) -> str | None:
    found = next((part for part in parts[:-1] if _SUBJECT.fullmatch(part)), None)
    match = re.match(rf"({_SUBJECT.pattern})_", parts[-1])
    return found or (match[1] if match else None)


def _case(parts: tuple[str, ...]) -> str | None:
    inside = any(part in ("imagesTr", "imagesTs", "imagesVal") for part in parts[:-1])
    return stem_of(parts[-1]) if inside else None


def _are_channels(cases: Sequence[str]) -> bool:
    """Names that end in the channel of nnU-Net: case_0000, case_0001; and not in the number of a case: amos_0004."""
    if not all(_CHANNEL.search(case) for case in cases):
        return False
    channels: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        channels[case[:-5]].add(case[-5:])
    return "_0000" in set.union(*channels.values()) and (len(channels) > 1 or len(cases) < _FEW)


def _patient_level(files: Sequence[tuple[str, ...]]) -> int | None:
    """Depth of the folders that are patients: the first with several, splits and folders of images passed over."""
    for level in range(max(map(len, files), default=1) - 1):
        names = {parts[level] for parts in files if len(parts) > level + 1}
        inside = sum(len(parts) > level + 1 for parts in files)
        if inside * 2 <= len(files):
            return None
        passed = all(_SPLITS.fullmatch(name.lower()) or _IMAGE_FOLDERS.fullmatch(name.lower()) for name in names)
        if len(names) > 1 and not passed:
            return level if _are_patients(names) else None
    return None


def _are_patients(names: Iterable[str]) -> bool:
    """Names that are numbered alike: p01, p02; LIDC-IDRI-0001; 10034. Years, dates and UIDs are no patients."""
    folders = [name.lower() for name in names if name.count(".") < 5]
    kinds = Counter(re.sub(r"\d+", "#", name) for name in folders)
    if not kinds:
        return False
    kind, count = kinds.most_common(1)[0]
    word = re.match(r"[a-z]*", kind)
    assert word is not None
    if "#" not in kind or count < 0.8 * len(folders) or count < 2 or _CLASS_WORDS.fullmatch(word[0]):
        return False
    if all(re.fullmatch(r"(19|20)\d\d([-_]?\d\d){0,2}", name) for name in folders):
        return False
    digits = min(sum(map(str.isdigit, name)) for name in folders if re.sub(r"\d+", "#", name) == kind)
    return bool(_PATIENT_WORDS.fullmatch(word[0])) or digits >= 4 or len(folders) >= _MANY
