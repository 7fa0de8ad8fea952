"""Volumes to pre-train on: DeepLesion and ADNI. Windows are cut where a volume is read, by the plugin of its modality."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from medcoss_cli.datasets.rows import ManifestRow, Request, compare, is_complete, missing, read_columns
from medcoss_cli.datasets.volumes import nifti
from medcoss_cli.errors import DataError
from medcoss_cli.kit.loaders import VolumeFolder
from medcoss_cli.kit.manifest import is_junk
from medcoss_cli.kit.readers import plainly
from medcoss_cli.plugin import Record
from medcoss_cli.store import atomic

LESIONS = VolumeFolder(dicom=(), window=24, stride=12, spacing=1.0, crop_above=320)
"""How the paper cuts DeepLesion into windows; here only to count them."""
HEADS = VolumeFolder(dicom=("MR",), window=16, stride=8, spacing=None, trim=0.1, slices="acquired")
"""Likewise ADNI."""
DEEPLESION = {"scans": 10_594, "patients": 4_427, "windows": 125_070}
ADNI = {"scans": 3_789, "windows": 59_205}
GROUPS = ("AD", "MCI", "EMCI", "LMCI", "CN")
"""Diagnoses that the paper takes: Alzheimer's disease, mild cognitive impairment (early, late), cognitively normal."""
ZERO = 32_768
"""What DeepLesion's PNGs add to Hounsfield units."""
SERIES = re.compile(r"(\d{6})_(\d{2})_\d{2}")
"""Patient, study, series."""
TABLE = ("Image Data ID", "Subject", "Group", "Modality")
COLLECTION = "the collection's table (.csv with Image Data ID, Subject, Group, Modality)"


def deeplesion(request: Request) -> list[ManifestRow]:
    """DL_info.csv with Images_nifti/SERIES_FIRST-LAST.nii.gz, as DL_save_nifti.py of the release writes them, or with
    Images_png/SERIES/SLICE.png, where SERIES is PATIENT_STUDY_SERIES (000001_01_01).

    The release has the slices around each key slice. Of PNGs, which hold Hounsfield units + 32768, each run of slices whose
    numbers follow one another becomes a volume nifti/SERIES_FIRST-LAST.nii.gz in the root, as in that script, its spacing from
    DL_info.csv; slices are numbered from head to feet. All are for training, as in the paper: Train_Val_Test is ignored.

    Raises: DataError where DL_info.csv or the images are not there.
    """
    layout = "DL_info.csv beside Images_png or Images_nifti"
    below = (path for path in sorted(request.root.iterdir()) if path.is_dir() and not is_junk(path))
    places = (request.root, *below)
    forms = ("Images_nifti", "Images_png")
    source = next((place / form for place in places for form in forms if (place / form).is_dir()), None)
    if source is None:
        raise missing(request, layout)
    place = source.parent
    if not (place / "DL_info.csv").is_file():
        raise DataError(
            "DL_info.csv, which tells patients and voxel spacings, is not here",
            where=place,
            fix="download it from nihcc.app.box.com/v/DeepLesion",
        )
    paths = sorted(source.glob("*.nii.gz")) if source.name == forms[0] else _volumes(request, source)
    named = {path: match for path in paths if (match := SERIES.match(path.name))}
    request.skipped((path for path in paths if path not in named), "volumes are not named PATIENT_STUDY_SERIES")
    if not named:
        raise DataError(f"no volume is in {source.name}", where=place, fix=f"expected: {layout}")
    rows = [ManifestRow(path, "train", match[1]) for path, match in named.items()]
    scans = len({match[0][:9] for match in named.values()})
    return _counted(request, rows, scans, DEEPLESION, LESIONS)


def _volumes(request: Request, source: Path) -> list[Path]:
    """Slices as NIfTI in the root, one file a run of slices; what already exists stays."""
    spacings = _spacings(source.parent / "DL_info.csv")
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not is_junk(path))
    request.skipped((path for path in folders if path.name not in spacings), "series have no spacing in DL_info.csv")
    known = [path for path in folders if path.name in spacings]
    paths = []
    with request.screen.progress("copying to NIfTI", len(known)) as bar:
        for folder in known:
            for run in _runs(folder):
                name = f"{folder.name}_{int(run[0].stem):03d}-{int(run[-1].stem):03d}.nii.gz"
                path = request.root / "nifti" / name
                if not path.exists():
                    atomic.write(path, nifti(_hounsfield(run), spacings[folder.name]))
                paths.append(path)
            bar.advance()
    return paths


def _spacings(info: Path) -> dict[str, tuple[float, float, float]]:
    """Of each series, in mm: (x, y, z)."""
    spacings = {}
    for name, text in read_columns(info, "File_name", "Spacing_mm_px_"):
        with plainly(info):
            x, y, z = (abs(float(number)) for number in text.split(","))
        if match := SERIES.match(name):
            spacings[match[0]] = (x, y, z)
    return {series: steps for series, steps in spacings.items() if min(steps) > 0}


def _runs(folder: Path) -> Iterator[list[Path]]:
    """A series' slices, cut where a number is missing; single ones make no volume."""
    slices = {int(path.stem): path for path in folder.glob("*.png") if path.stem.isdecimal()}
    run: list[Path] = []
    for number in sorted(slices):
        if number - 1 not in slices:
            run = []
        run.append(slices[number])
        if number + 1 not in slices and len(run) > 1:
            yield run


def _hounsfield(run: Sequence[Path]) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """(z, y, x), from feet to head. Raises: DataError where slices differ in size or are no 16-bit grey."""
    from medcoss_cli.kit.readers import image

    slices = [image.read(path)[0] for path in reversed(run)]
    for path, array in zip(reversed(run), slices, strict=True):
        if array.shape != slices[0].shape or array.dtype != np.uint16:
            raise DataError("a slice is no 16-bit grey image of its series' size", where=path, fix="download it again")
    return (np.concatenate(slices).astype(np.int32) - ZERO).astype(np.int16)


def adni(request: Request) -> list[ManifestRow]:
    """ADNI/SUBJECT/DESCRIPTION/DATE/IMAGE/*, DICOM or NIfTI, as the Image and Data Archive packs them, beside a collection's
    table or several (ADNI1, ADNIGO, ADNI2), each a .csv in the root or in a folder right below.

    An IMAGE is a folder called I and a number. Scans of AD, MCI (early and late too) and CN are taken; the paper's own list of
    subjects is not published. Which phases these are is up to the collections; the table does not tell.

    Raises: DataError where there is no table, no scan, or none of these diagnoses.
    """
    groups = _diagnoses(request)
    scans = _scans(request.root)
    if not scans:
        raise missing(request, "ADNI/SUBJECT/DESCRIPTION/DATE/I13722/ with DICOM or NIfTI files in it")
    listed = {path: groups[path.name] for path in scans if path.name in groups}
    request.skipped((path for path in scans if path not in listed), "scans are in no table")
    others = {path: group for path, (_, group, kind) in listed.items() if kind != "MRI" or group not in GROUPS}
    request.skipped(others, f"scans are no MRI of {', '.join(GROUPS)} ({', '.join(sorted(set(others.values())))})")
    rows = [ManifestRow(path, "train", listed[path][0]) for path in listed if path not in others]
    if not rows:
        raise DataError(
            f"none of {len(scans)} scans is an MRI of {', '.join(GROUPS)} by the tables here",
            where=request.root,
            fix="put the tables of these collections beside them",
        )
    return _counted(request, rows, len(rows), ADNI, HEADS)


def _diagnoses(request: Request) -> dict[str, tuple[str, str, str]]:
    """Of each image: subject, group and modality."""
    tables = sorted((*request.root.glob("*.csv"), *request.root.glob("*/*.csv")))
    found = {}
    for path in tables:
        with plainly(path), path.open(encoding="utf-8-sig") as file:
            head = file.readline()
        if all(name in head for name in TABLE[:3]):
            for image, subject, group, kind in read_columns(path, *TABLE):
                found[f"I{image.upper().removeprefix('I')}"] = (subject, group.upper(), kind.upper())
    if not found:
        raise DataError(
            f"{COLLECTION} is not here, so diagnoses are not known",
            where=request.root,
            fix="download it as CSV beside the images, in the collection's view of the Image and Data Archive",
        )
    return found


def _scans(root: Path) -> list[Path]:
    """Folders of one image each, sorted; folders inside them are not searched, since those of DICOM hold hundreds of files."""
    scans = []
    for place, folders, _ in os.walk(root):
        images = [name for name in folders if re.fullmatch(r"I\d+", name)]
        scans += [Path(place, name) for name in images if any(Path(place, name).iterdir())]
        folders[:] = [name for name in folders if name not in images and not name.startswith(".")]
    return sorted(scans)


def _counted(
    request: Request, rows: list[ManifestRow], scans: int, paper: dict[str, int], loader: VolumeFolder
) -> list[ManifestRow]:
    """The rows, when their counts are printed and, of a whole set, compared with the paper's; only then windows are counted."""
    patients = len({row.group for row in rows})
    request.screen.say(f"{request.name}: {len(rows):,} volumes, {scans:,} scans of {patients:,} patients")
    if is_complete(request, scans, paper["scans"], "scans"):
        counts = Counter(scans=scans, patients=patients)
        with request.screen.progress("counting windows", len(rows)) as bar:
            for row in rows:
                counts["windows"] += sum(isinstance(item, Record) for item in loader.find(row.path))
                bar.advance()
        compare(request, counts, paper)
    return rows
