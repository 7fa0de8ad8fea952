"""Chest radiographs and the reports about them, to pre-train on: MIMIC-CXR."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medcoss_cli.datasets.rows import (
    ManifestRow,
    Request,
    compare,
    home,
    is_complete,
    keep,
    read_columns,
    table,
)
from medcoss_cli.errors import DataError

FRONTAL = ("PA", "AP")
"""Values of ViewPosition; all others are lateral, oblique, or not known."""
IMAGES = 377_110
"""Of MIMIC-CXR-JPG 2.0.0."""
PAPER = {"images": 356_309, "reports": 227_323}
"""Of frontal views, says the paper. There are some 243,000; it must have taken lateral ones, and a report for each image."""
SPLITS = {"train": "train", "validate": "val", "test": "test"}
HEADING = re.compile(r"^[ \t]*([A-Z][A-Z ()/,-]*):", re.MULTILINE)
SHORTEST = 3
"""Words; a shorter report is left out."""
TEXTS = "reports.csv"


@dataclass(frozen=True)
class _Image:
    path: Path
    patient: str
    study: str
    view: str
    split: str


def mimic_cxr(request: Request) -> list[ManifestRow]:
    """files/pNN/pSUBJECT/sSTUDY/DICOM.jpg of MIMIC-CXR-JPG, files/pNN/pSUBJECT/sSTUDY.txt of mimic-cxr-reports.zip.

    Images are known by mimic-cxr-2.0.0-metadata.csv, their split by mimic-cxr-2.0.0-split.csv (both also as .csv.gz); without
    the latter all are for training. The reports may lie among the images or below mimic-cxr-reports. What is read of them,
    impression and findings, is written to reports.csv in the root; a row's `study` joins it to its images.

    paper: frontal views, and each study's report once. official: every image for training, and a training study's report as
    often as the study has frontal images.

    Raises: DataError where there is no metadata, no image and no report, or no frontal view.
    """
    place = home(
        request, "files", layout="files/pNN/pSUBJECT/sSTUDY/*.jpg beside mimic-cxr-2.0.0-metadata.csv, as on PhysioNet"
    )
    images = list(_images(place))
    frontal = [image for image in images if image.view in FRONTAL]
    if not frontal:
        views = ", ".join(sorted({image.view or "none" for image in images})) or "no image at all"
        raise DataError(
            f"no frontal view ({' or '.join(FRONTAL)}) is in the metadata: {views}",
            where=place,
            fix="use the metadata as it was published",
        )
    official = request.profile == "official"
    wanted = images if official else frontal
    present = [image for image in wanted if image.path.is_file()]
    rows = [
        ManifestRow(image.path, "train" if official else image.split, image.patient, study=image.study)
        for image in present
    ]
    reports = _reports(request, place, [image for image in frontal if image.split == "train"] if official else frontal)
    if not rows and not reports:
        raise DataError(
            "there is metadata, but neither an image nor a report below files",
            where=place,
            fix="unpack MIMIC-CXR-JPG and mimic-cxr-reports.zip here",
        )
    if not official:
        kinds = Counter(image.view or "none" for image in images if image.view not in FRONTAL)
        request.screen.say(
            f"{request.name}: views left out: " + ", ".join(f"{n:,} {v}" for v, n in kinds.most_common())
        )
    if len(present) < len(wanted):
        request.warn(f"{len(wanted) - len(present):,} images of the metadata are not here")
    patients = {row.group for row in (*rows, *reports)}
    of = "images" if official else "frontal images"
    request.screen.say(f"{request.name}: {len(rows):,} {of} and {len(reports):,} reports of {len(patients):,} patients")
    here = len(images) - (len(wanted) - len(present))
    if is_complete(request, here, IMAGES, "images"):
        compare(request, {"images": len(rows), "reports": len(reports)}, PAPER)
    return rows + reports


def _table(place: Path, kind: str) -> Path | None:
    return next(iter(sorted(place.glob(f"mimic-cxr-*-{kind}.csv*"))), None)


def _images(place: Path) -> Iterator[_Image]:
    """Each image of the metadata, whether it lies there or not. Raises: DataError without metadata."""
    metadata, splits = _table(place, "metadata"), _table(place, "split")
    if metadata is None:
        raise DataError(
            "mimic-cxr-2.0.0-metadata.csv, which tells the views, is not here",
            where=place,
            fix="download it (or its .csv.gz) from mimic-cxr-jpg on PhysioNet",
        )
    of_images = () if splits is None else read_columns(splits, "dicom_id", "split")
    split_of = {dicom: split for dicom, split in of_images}  # noqa: C416 - rows are tuples of any length
    for dicom, subject, study, view in read_columns(metadata, "dicom_id", "subject_id", "study_id", "ViewPosition"):
        path = place / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{dicom}.jpg"
        yield _Image(path, f"p{subject}", f"s{study}", view.upper(), SPLITS.get(split_of.get(dicom, ""), "train"))


def _reports(request: Request, place: Path, images: list[_Image]) -> list[ManifestRow]:
    """Rows of reports.csv, which is written: one a study, or with the official profile one an image."""
    below = [folder for folder in (place / "files", place / "mimic-cxr-reports" / "files") if folder.is_dir()]
    studies = images if request.profile == "official" else list({image.study: image for image in images}.values())
    texts: dict[str, str] = {}
    absent = 0
    with request.screen.progress("reading reports", len(studies)) as bar:
        for image in studies:
            bar.advance()
            name = Path(f"p{image.patient[1:3]}", image.patient, f"{image.study}.txt")
            path = next((folder / name for folder in below if (folder / name).is_file()), None)
            absent += path is None
            if path is not None and image.study not in texts:
                texts[image.study] = wording(path.read_text(encoding="utf-8", errors="replace"))
    if absent == len(studies):
        request.warn("no report lies here, images only; unpack mimic-cxr-reports.zip for both")
        return []
    if absent:
        request.warn(f"{absent:,} studies have no report")
    if empty := sum(not text for text in texts.values()):
        request.warn(f"{empty:,} reports have neither impression nor findings of {SHORTEST} words, left out")
    studies = [image for image in studies if texts.get(image.study)]
    path = request.root / TEXTS
    keep(request, path, table(["id", "study", "text"], ((i.patient, i.study, texts[i.study]) for i in studies), path))
    return [
        ManifestRow(path, image.split, image.patient, index=number, study=image.study)
        for number, image in enumerate(studies)
    ]


def wording(report: str) -> str:
    """What is learned of a report: the words of impression and findings in lower case; empty where there are too few.

    As the authors have it, who follow MGCA (Wang et al. 2022): cut into sentences at full stops and at the numbers of lists,
    punctuation and what is not ASCII dropped, sentences of one word left out. The sections are those between lines that
    begin with capitals and a colon.
    """
    heads = list(HEADING.finditer(report))
    ends = [head.start() for head in heads[1:]] + [len(report)]
    sections = [(head[1], report[head.end() : end]) for head, end in zip(heads, ends, strict=True)]
    impression = [text for name, text in sections if "IMPRESSION" in name or "CONCLUSION" in name]
    findings = [text for name, text in sections if "FINDINGS" in name and "IMPRESSION" not in name]
    sentences = []
    for sentence in re.split(r"[0-9]+\.|\.", " ".join(impression + findings).lower()):
        words = re.findall(r"\w+", sentence)
        words = [kept for word in words if (kept := word.encode("ascii", "ignore").decode())] if len(words) > 1 else []
        sentences.append(words)
    found = [word for words in sentences for word in words]
    return " ".join(found) if len(found) >= SHORTEST else ""
