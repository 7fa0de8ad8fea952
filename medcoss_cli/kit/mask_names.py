"""Which files of a folder are masks of others, or are derived from them: by their names and, in doubt, by their values.

Names are trusted only as far as other files bear them out: a folder `masks` is one of masks if images lie beside it. A class
`mask` beside a class `no_mask` differs from a folder of masks in its pictures: a mask has few values, an image many.
"""

from __future__ import annotations

import gzip
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from medcoss_cli.errors import DataError, shortage

MASK, DERIVED = "a mask", "derived or source data (BIDS)"
BY_VALUES = f"{MASK} (by its name and few values)"
_WORD = (
    r"(?:segs?|masks?|msk|labels?|labelmap|lbl|segmentations?|ground[_ \-]?truth|gt|roi"
    r"|anno|annotations?|manual\d?|dseg|probseg)"
)
_MASK_FILE = re.compile(rf"(?P<base>.+?)[_.\- ]{_WORD}(?:[_.\- ]?\d\d?)?|{_WORD}[_\- ](?P<after>.+)|{_WORD}\d*")
_MASK_FOLDERS = re.compile(
    r"(labels(tr|ts|val)?|masks?|segs?|segmentations?|segmentation_?masks|lesion_?masks|ground_?truths?|gt|annotations?)"
)
_MASK_PARTS = re.compile(
    rf"(?!(no|non|not|with|without)_)(.+_)?({_WORD}|\w*groundtruth)(_.+)?|segmentation(class|object)"
)
"""Longer names of folders: masks_png, lung_masks; believed only where the values are those of masks."""
IMAGE_FOLDERS = re.compile(r"(images?|imgs?|scans?|volumes?)(tr|ts|val)?")
_IMAGE_WORD = re.compile(r"(?:images?|imgs?|scans?|volumes?|vol|orig|original|raw)[_\- ](.+)")
_PAPERS = frozenset(
    ".csv .tsv .txt .json .jsonl .xlsx .xls .yaml .yml .xml .md .pdf .html .py .ipynb .log .ini .toml .docx .doc".split()  # noqa: SIM905
)
"""Endings of what lies beside images and is none."""
SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
CHANNEL = re.compile(r"_\d{4}$")
_WORD_END = re.compile("[^a-z0-9]")
_LABEL_INTENT = 1002
"""NIFTI_INTENT_LABEL: values are numbers of structures."""
_LOOKED_AT = 3
"""Files of a kind whose values are looked at."""
_FEW = 32
"""Different values that a picture with a motif exceeds."""

_Tree = dict[Path, list[Path]]


def masks_among(root: Path, files: Sequence[Path]) -> dict[Path, str]:
    """Files that are no samples, and why."""
    below: _Tree = defaultdict(list)  # files by each folder above them
    beside: _Tree = defaultdict(list)
    folders: dict[Path, set[Path]] = defaultdict(set)  # by the folder above
    for path in files:
        beside[path.parent].append(path)
        for folder in path.parents:
            below[folder].append(path)
            if folder == root:
                break
            folders[folder.parent].add(folder)
    below.pop(root, None)
    reasons = _derived(below, folders)
    reasons |= _in_folders(root, below, beside, folders)
    rest = {folder: [path for path in paths if path not in reasons] for folder, paths in beside.items()}
    reasons |= _by_name(rest)
    for path in files:
        if path not in reasons and path.name.lower().endswith((".nii", ".nii.gz")) and _is_label_map(path):
            reasons[path] = f"{MASK} (NIfTI label map)"
    return reasons


def stem_of(name: str) -> str:
    """A file's name without its ending; .nii.gz is one ending."""
    return name[:-7] if name.lower().endswith(".nii.gz") else name.rpartition(".")[0] or name


def masks_of(image: Path, masks: Sequence[Path]) -> list[Path]:
    """Those of the masks in an image's folder that are this image's: of its name, else of a name that it begins with.

    A mask that is called so alone, or after what it shows (mask.nii.gz, liver_mask.nii.gz), is that of all images of its folder.
    """
    stem = stem_of(image.name).lower()
    match = _IMAGE_WORD.fullmatch(stem)
    exact = {stem, CHANNEL.sub("", stem), *([match[1]] if match else [])}
    starts = {*_starts(stem)}
    bases = {mask: _bare(mask) if _MASK_FILE.fullmatch(stem_of(mask.name).lower()) else None for mask in masks}
    of_name = [mask for mask, base in bases.items() if base in exact]
    of_start = [mask for mask, base in bases.items() if base and (base in starts or _subject_of(base) & starts)]
    return of_name or of_start or ([*masks] if len(masks) == 1 else [])


def _derived(below: _Tree, folders: dict[Path, set[Path]]) -> dict[Path, str]:
    """Files of `derivatives` and `sourcedata` beside subjects (sub-01), or beside the folder of these (rawdata)."""
    with_subjects = {folder.parent for folder in below if SUBJECT.fullmatch(folder.name)}
    reasons = {}
    for folder, paths in below.items():
        if folder.name.lower() in ("derivatives", "sourcedata"):
            siblings = {
                place for place in folders[folder.parent] if place.name.lower() not in ("derivatives", "sourcedata")
            }
            if folder.parent in with_subjects or siblings & with_subjects:
                reasons.update(dict.fromkeys(paths, DERIVED))
    return reasons


def _in_folders(root: Path, below: _Tree, beside: _Tree, folders: dict[Path, set[Path]]) -> dict[Path, str]:
    """Files in folders of masks. Folders of one name at one depth (p1/masks, p2/masks) are judged together."""
    alike: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for folder in below:
        name = _plain(folder.name)
        if _MASK_FOLDERS.fullmatch(name) or _MASK_PARTS.fullmatch(name):
            alike[len(folder.parts), re.sub(r"\d+", "#", name)].append(folder)
    reasons: dict[Path, str] = {}
    for (_, name), places in alike.items():
        siblings: dict[Path, list[Path]] = {}  # by the folder above
        images: list[Path] = []
        own = set(places)
        for parent in {folder.parent: None for folder in places}:
            others = sorted(folders[parent] - own)
            siblings[parent] = [place for place in others if not _MASK_FOLDERS.fullmatch(_plain(place.name))]
            near = (path for place in siblings[parent] for path in below[place])
            images += filter(is_data, (*near, *beside.get(parent, ())))
        if not images:
            continue
        known = bool(_MASK_FOLDERS.fullmatch(name))
        of_masks = _compared([path for folder in places for path in below[folder]], images)
        for folder in places:
            beside_it = siblings[folder.parent]
            sure = known and any(IMAGE_FOLDERS.fullmatch(_plain(place.name)) for place in beside_it)
            by_name = known and of_masks is None and _has_images(root, folder, beside_it, below, beside)
            if sure or by_name or of_masks:
                reasons.update(dict.fromkeys(below[folder], MASK if sure or by_name else BY_VALUES))
    return reasons


def _has_images(root: Path, folder: Path, siblings: Sequence[Path], below: _Tree, beside: _Tree) -> bool:
    """Images lie beside a folder: as files, or in folders under the names of most of the masks.

    Several folders at the top with the same names of files are classes, whose files are numbered alike.
    """
    if any(map(is_data, beside.get(folder.parent, ()))):
        return True
    masks = below[folder]
    names = [{_bare(path) for path in below[place]} for place in siblings]
    if folder.parent == root and sum(sum(_bare(mask) in of for mask in masks) * 2 > len(masks) for of in names) > 1:
        return False
    return sum(any(_bare(mask) in of for of in names) for mask in masks) * 2 > len(masks)


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]+", "_", name.strip().lower())


def is_data(path: Path) -> bool:
    """No table, text or document, by its ending."""
    return path.suffix.lower() not in _PAPERS


def _bare(path: Path) -> str:
    """What the names of an image and of its mask have in common."""
    stem = CHANNEL.sub("", stem_of(path.name).lower())
    match = _MASK_FILE.fullmatch(stem)
    return (match["base"] or match["after"] or stem) if match else stem


def _by_name(folders: _Tree) -> dict[Path, str]:
    """Files that are called masks, of an image in their folder: p1_seg.nii.gz beside p1_t1.nii.gz.

    Where the name is that of an image (p1.png and p1_mask.png) or `mask` alone, it is enough. Where an image begins with it, the
    values may contradict (a_mask.png and a_nomask.png are two classes); else (liver_mask.nii.gz beside ct.nii.gz) they must bear
    it out.
    """
    likely, possible = list[Path](), list[Path]()
    images_of: dict[Path, list[Path]] = {}
    reasons: dict[Path, str] = {}
    for folder, paths in folders.items():
        matches = {path: _MASK_FILE.fullmatch(stem_of(path.name).lower()) for path in paths}
        images = images_of[folder] = [path for path, match in matches.items() if match is None and is_data(path)]
        if not images:
            continue
        stems = {stem_of(path.name).lower() for path in images}
        exact = {CHANNEL.sub("", stem) for stem in stems} | stems
        exact |= {match[1] for stem in stems if (match := _IMAGE_WORD.fullmatch(stem))}
        starts = {start for stem in stems for start in _starts(stem)}
        for path, match in matches.items():
            if match is None or not is_data(path):
                continue
            base = match["base"] or match["after"]
            whole = base is None or path.name.lower().endswith((".seg.nrrd", "-label.nrrd"))  # what Slicer writes
            if whole or base in exact or _subject_of(base) & starts:
                reasons[path] = MASK
            elif base in starts:
                likely.append(path)
            else:
                possible.append(path)
    for candidates, enough in ((likely, (True, None)), (possible, (True,))):
        near = {path: None for candidate in candidates for path in images_of[candidate.parent]} if candidates else {}
        if candidates and _compared(candidates, list(near)) in enough:
            reasons.update(dict.fromkeys(candidates, MASK if None in enough else BY_VALUES))
    return reasons


def _starts(stem: str) -> Iterable[str]:
    """Beginnings of a name that end with one of its words."""
    yield stem
    for end in _WORD_END.finditer(stem):
        yield stem[: end.start()]


def _subject_of(base: str) -> set[str]:
    """Of a name in BIDS (sub-1_ses-2_space-MNI_label-L) subject and session, with which the image of a mask begins."""
    match = re.match(r"(sub-[a-z0-9]+)(_ses-[a-z0-9]+)?", base)
    return {match[0]} if match else set()


def _compared(masks: Sequence[Path], images: Sequence[Path]) -> bool | None:
    """Do the values tell these from images? False: they are images as well; None: values do not tell."""
    found = {of for path in _some(masks) if (of := looks_like_mask(path)) is not None}
    if found == {False}:
        return False
    others = {looks_like_mask(path) for path in _some(images)} if found == {True} else set()
    return True if False in others and True not in others else None


def _some(paths: Sequence[Path]) -> list[Path]:
    data = sorted(filter(is_data, paths))
    return [data[len(data) * n // _LOOKED_AT] for n in range(min(_LOOKED_AT, len(data)))]


def looks_like_mask(path: Path) -> bool | None:
    """Has a picture or volume few values, in areas of one value? None where it cannot be read."""
    import numpy as np

    from medcoss_cli.kit.readers import IMAGES, VOLUMES, image, kind_of, nifti, pixels

    try:
        kind = kind_of(path)
        if kind in IMAGES:
            array = image.read(path)[0]
        elif kind in VOLUMES:
            array = nifti.read(path)[0][None]
        elif kind == "dicom":
            array = pixels.read_frame(path)[0]
        else:
            return None
    except DataError:
        return None
    rows = array.reshape(len(array), -1, array.shape[-1])
    rows = rows[:, :: max(1, rows[0].size // 2**20)].astype(np.float64)
    values = rows[0] + rows[1] * 256 + rows[2] * 65536 if len(rows) == 3 else rows[0]
    different, counts = np.unique(values, return_counts=True)
    if len(different) <= _FEW:
        return True
    if kind == "jpeg":  # whose compression blurs the edges of two values
        return bool(((rows > 40) & (rows < 215)).mean() < 0.03 and (rows >= 215).mean() > 0.001)
    inside = (values[:, 1:] != different[counts.argmax()]) | (values[:, :-1] != different[counts.argmax()])
    same = values[:, 1:] == values[:, :-1]
    return bool((different == np.round(different)).all() and same[inside].mean() > 0.8)


def _is_label_map(path: Path) -> bool:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            head = file.read(540)
    except (OSError, EOFError, ValueError) as error:
        if (fault := shortage(error, path)) is not None:
            raise fault from error
        return False
    for order in "<>":
        if len(head) >= 348 and struct.unpack_from(order + "i", head)[0] == 348:
            return bool(head[344:347] == b"n+1" and struct.unpack_from(order + "h", head, 68)[0] == _LABEL_INTENT)
        if len(head) == 540 and struct.unpack_from(order + "i", head)[0] == 540:
            return bool(struct.unpack_from(order + "i", head, 504)[0] == _LABEL_INTENT)
    return False
