"""Volumes: RICORD, LiTS, Vestibular-Schwannoma-SEG and the left atria of 2018."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from medcoss_cli.datasets.rows import (
    ManifestRow,
    Request,
    draw,
    files,
    home,
    last_fifth,
    missing,
    stem,
    with_split,
)
from medcoss_cli.errors import DataError, ResourceError
from medcoss_cli.kit.manifest import is_junk
from medcoss_cli.kit.readers import plainly
from medcoss_cli.store import atomic

RICORD = {"MIDRC-RICORD-1A": "positive", "MIDRC-RICORD-1B": "negative"}
SERIES = {"positive": {"train": 120, "val": 29, "test": 61}, "negative": {"train": 74, "val": 23, "test": 23}}
"""Of RICORD in the paper."""
LIVERS = frozenset(
    {0, 4, 9, 13, 17, 21, 26, 30, 35, 44, 49, 53, 58, 62, 67, 71, 76, 80, 85, 94, 99, 102, 107, 111, 116, 120, 125}
)
"""Test cases of LiTS (the split of UniSeg)."""
ATRIA = "2018LA_Seg_Training Set"
STEP = 0.625
"""Voxel spacing of the atria in mm; their .h5 files do not tell it."""


def ricord(request: Request) -> list[ManifestRow]:
    """MIDRC-RICORD-1A|1B/PATIENT_*.nii.gz; the split of train.txt, val.txt, test.txt if they lie in the root."""
    layout = "RICORD_nii/MIDRC-RICORD-1A and RICORD_nii/MIDRC-RICORD-1B with PATIENT_DATE_SERIES.nii.gz"
    place = home(request, *RICORD, layout=layout)
    rows = [
        ManifestRow(path, "train", path.name.partition("_")[0], label)
        for folder, label in RICORD.items()
        for path in files(request, place / folder, ".nii.gz")
    ]
    lists = {split: request.root / f"{split}.txt" for split in ("train", "val", "test")}
    if splits := [split for split, path in lists.items() if path.is_file()]:
        return _listed(request, rows, {split: _names(lists[split]) for split in splits})
    request.warn("no train.txt, val.txt and test.txt here, so patients are drawn, in the paper's proportions")
    cases = Counter(row.label for row in rows)
    for split in ("test", "val"):
        counts = {
            label: max(1, round(count * SERIES[label][split] / sum(SERIES[label].values())))
            for label, count in cases.items()
        }
        train = [row for row in rows if row.split == "train"]
        rows = with_split(rows, draw(train, counts, request.seed, request.name, split), split)
    return rows


def _names(path: Path) -> list[str]:
    """The names in a list, one a line: a path or a bare name, with or without ending; what follows a space is dropped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("this cannot be read as text in UTF-8", where=path) from error
    return [line.split()[0] for line in lines if line.strip()]


def _listed(request: Request, rows: list[ManifestRow], lists: dict[str, list[str]]) -> list[ManifestRow]:
    splits: dict[str, str] = {}
    for split, names in lists.items():
        for name in names:
            if splits.setdefault(stem(Path(name)), split) != split:
                raise DataError(f"{name} is in two lists", where=request.root / f"{split}.txt", fix="remove one")
    by_name = {stem(row.path): row for row in rows}
    request.skipped((row.path for name, row in by_name.items() if name not in splits), "files are in no list")
    if missing_names := sorted(splits.keys() - by_name.keys()):
        request.warn(f"{len(missing_names)} names of the lists are not there; the first is {missing_names[0]}")
    return [replace(row, split=splits[name]) for name, row in by_name.items() if name in splits]


def lits(request: Request) -> list[ManifestRow]:
    """volume-N.nii and segmentation-N.nii wherever they lie, or imagesTr|labelsTr/liver_N.nii.gz; no validation."""
    images: dict[int, Path] = {}
    masks: dict[int, Path] = {}
    unknown = []
    for path in sorted(request.root.rglob("*.nii*")):
        match = re.fullmatch(r"(volume-|segmentation-|liver_)(\d+)\.nii(\.gz)?", path.name)
        if is_junk(path) or path.parent.name == "imagesTs" or path.name.startswith("test-volume"):
            continue  # without masks, as they were published
        if not match or (match[1] == "liver_" and path.parent.name not in ("imagesTr", "labelsTr")):
            unknown.append(path)
            continue
        of = masks if match[1] == "segmentation-" or path.parent.name == "labelsTr" else images
        if of.setdefault(int(match[2]), path) != path:
            raise DataError(
                f"case {match[2]} is there twice", where=path, fix=f"keep one; the other is {of[int(match[2])]}"
            )
    if not images:
        raise missing(
            request, "volume-N.nii and segmentation-N.nii, or imagesTr/liver_N.nii.gz and labelsTr/liver_N.nii.gz"
        )
    request.skipped(unknown, "files are not named as in this set")
    request.skipped((path for number, path in images.items() if number not in masks), "volumes have no mask")
    return [
        ManifestRow(path, "test" if number in LIVERS else "train", f"liver_{number}", mask=masks[number])
        for number, path in sorted(images.items())
        if number in masks
    ]


def vs(request: Request) -> list[ManifestRow]:
    """vs_gk_*/vs_gk_t1_refT1.nii.gz with vs_gk_seg_refT1.nii.gz; sorted names shuffled, the last fifth tests.

    The seed is UniSeg's 1234 (paper) or 0 (official); there is no validation.
    """
    layout = "vs_gk_N/vs_gk_t1_refT1.nii.gz and vs_gk_N/vs_gk_seg_refT1.nii.gz, as VS_Seg of KCL converts them"
    below = (path for path in sorted(request.root.iterdir()) if path.is_dir() and not is_junk(path))
    places = (request.root, *(path for path in below if not path.name.startswith("vs_gk_")))
    folders = next((cases for place in places if (cases := sorted(place.glob("vs_gk_*/")))), [])
    rows = [
        ManifestRow(case / "vs_gk_t1_refT1.nii.gz", "train", case.name, mask=case / "vs_gk_seg_refT1.nii.gz")
        for case in folders
    ]
    complete = [row for row in rows if row.path.is_file() and row.mask and row.mask.is_file()]
    if not complete:
        raise missing(request, layout)
    request.skipped((row.path for row in rows if row not in complete), "cases lack the image or the mask")
    Random(1234 if request.profile == "paper" else 0).shuffle(complete)
    return last_fifth(complete, "test")


def la(request: Request) -> list[ManifestRow]:
    """2018LA_Seg_Training Set/ID/mri_norm2.h5, copied to nifti/ID_image.nii.gz and nifti/ID_label.nii.gz in the root.

    The split of train.list and test.list if they lie in the root or beside the set, else the first 80 names train.
    """
    place = home(request, ATRIA, layout=f"{ATRIA}/ID/mri_norm2.h5")
    sources = {path.parent.name: path for path in sorted((place / ATRIA).glob("*/mri_norm2.h5"))}
    if not sources:
        raise missing(request, f"{ATRIA}/ID/mri_norm2.h5")
    target = request.root / "nifti"
    rows = [
        ManifestRow(
            target / f"{name}_image.nii.gz", "train" if i < 80 else "test", name, mask=target / f"{name}_label.nii.gz"
        )
        for i, name in enumerate(sources)
    ]
    lists = {split: _first(f"{split}.list", request.root, place, place / ATRIA) for split in ("train", "test")}
    if lists["train"] and lists["test"]:
        splits = {name: split for split, path in lists.items() if path for name in _names(path)}
        if unlisted := [name for name in sources if name not in splits]:
            request.warn(f"{len(unlisted)} cases are in no list, left out; the first is {unlisted[0]}")
        rows = [replace(row, split=splits[row.group]) for row in rows if row.group in splits]
    else:
        request.warn("no train.list and test.list here, so the first 80 names train and the others test")
    with request.screen.progress("copying to NIfTI", len(rows)) as bar:
        for row in rows:
            assert row.mask is not None
            _convert(sources[row.group], row.path, row.mask)
            bar.advance()
    return rows


def _first(name: str, *places: Path) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)


def _convert(source: Path, image: Path, label: Path) -> None:
    """Copy what an .h5 file holds, (x, y, z), to NIfTI; what already exists stays."""
    if image.exists() and label.exists():
        return
    arrays = _read(source)
    image_array, label_array = (array.transpose(2, 1, 0) for array in arrays)  # to (z, y, x)
    atomic.write(image, nifti(image_array.astype("float32"), (STEP, STEP, STEP)))
    atomic.write(label, nifti(label_array.astype("uint8"), (STEP, STEP, STEP)))


def _read(source: Path) -> tuple[Any, Any]:
    try:
        import h5py
    except ImportError as error:
        raise ResourceError("h5py, which reads .h5 files, is not installed", fix='pip install "medcoss[la]"') from error

    with plainly(source), h5py.File(source, "r") as file:
        lacking = [name for name in ("image", "label") if name not in file]
        if lacking:
            raise DataError(f"there is no {' and no '.join(lacking)} in this file", where=source)
        image, label = file["image"][()], file["label"][()]
    if image.ndim != 3 or image.shape != label.shape:
        raise DataError(f"an image of shape {image.shape} with a label of {label.shape}", where=source)
    return image, label


def nifti(array: Any, spacing: tuple[float, float, float]) -> bytes:
    """A .nii.gz file of an array (z, y, x) whose axes point to superior, posterior and left; spacing (x, y, z) in mm."""
    import SimpleITK

    volume = SimpleITK.GetImageFromArray(array)
    volume.SetSpacing(spacing)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii.gz"
        SimpleITK.WriteImage(volume, str(path), useCompression=True)
        return path.read_bytes()
