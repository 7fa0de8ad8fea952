"""Images: ChestXR, QaTa-COV19-v2, NCT-CRC-HE and GlaS."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from medcoss_cli.datasets.rows import ManifestRow, Request, files, home, last_fifth, stem, with_validation
from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers.rows import read_rows

DIAGNOSES = ("covid", "normal", "pneumonia")
TISSUES = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")


def chestxr(request: Request) -> list[ManifestRow]:
    """train/CLASS/*, the published `validation` is the test split."""
    return _by_class(request, "train", "validation", DIAGNOSES, (".png", ".jpg", ".jpeg"))


def nch(request: Request) -> list[ManifestRow]:
    """NCT-CRC-HE-100K/CLASS/*.tif, tested on CRC-VAL-HE-7K."""
    return _by_class(request, "NCT-CRC-HE-100K", "CRC-VAL-HE-7K", TISSUES, (".tif", ".tiff"))


def _by_class(
    request: Request, train: str, test: str, classes: Sequence[str], endings: tuple[str, ...]
) -> list[ManifestRow]:
    layout = f"{train} and {test}, each with the folders {', '.join(classes)}"
    place = home(request, *(f"{part}/{name}" for part in (train, test) for name in classes), layout=layout)
    rows = {
        part: [
            ManifestRow(path, "test" if part == test else "train", path.relative_to(place).as_posix(), name)
            for name in classes
            for path in files(request, place / part / name, *endings)
        ]
        for part in (train, test)
    }
    request.screen.say(f"{request.name}: file names do not name patients, so each image is its own group")
    return with_validation(request, rows[train]) + rows[test]


def qata(request: Request) -> list[ManifestRow]:
    """{Train Set,Test Set}/{Images,Ground-truths}; a mask is named mask_ and then as its image.

    official: names in sorted order (the authors: in the order of their disk), shuffled with seed 0, the last 20 %.
    """
    parts = {"train": "Train Set", "test": "Test Set"}
    layout = "Train Set and Test Set, each with Images and Ground-truths (mask_NAME.png for NAME.png)"
    place = home(
        request, *(f"{part}/{of}" for part in parts.values() for of in ("Images", "Ground-truths")), layout=layout
    )
    rows = {split: _masked(request, place / part, split) for split, part in parts.items()}
    if request.profile == "paper":
        return with_validation(request, rows["train"]) + rows["test"]
    random.Random(0).shuffle(rows["train"])
    return last_fifth(rows["train"], "val") + rows["test"]


def _masked(request: Request, folder: Path, split: str) -> list[ManifestRow]:
    rows, unmasked = [], []
    for path in files(request, folder / "Images", ".png"):
        mask = folder / "Ground-truths" / f"mask_{path.name}"
        match = re.match(r"(sub-[^_]+)_ses-", path.name)  # most names begin with subject and session
        rows.append(ManifestRow(path, split, match[1] if match else stem(path), mask=mask))
        if not mask.is_file():
            unmasked.append(path)
    request.skipped(unmasked, "images have no mask")
    return [row for row in rows if row.path not in set(unmasked)]


def glas(request: Request) -> list[ManifestRow]:
    """Grade.csv, train_N.bmp, testA_N.bmp, testB_N.bmp, and NAME_anno.bmp for each."""
    layout = "Grade.csv, train_N.bmp with train_N_anno.bmp, and likewise testA_N and testB_N"
    place = home(request, "Grade.csv", "train_1.bmp", layout=layout)
    grades = _grades(place / "Grade.csv")
    rows, unknown, unmasked = [], [], []
    for path in files(request, place, ".bmp", "grade.csv"):
        if path.name == "Grade.csv":
            continue
        match = re.fullmatch(r"(train|test[AB])_\d+", path.stem)
        mask = path.with_name(f"{path.stem}_anno.bmp")
        if match and mask.is_file():
            patient, grade = grades.get(path.stem, ("", ""))
            split = "train" if match[1] == "train" else "test"
            rows.append(ManifestRow(path, split, patient or path.stem, mask=mask, grade=grade))
        elif match:
            unmasked.append(path)
        elif not re.fullmatch(r"(train|test[AB])_\d+_anno", path.stem):
            unknown.append(path)
    request.skipped(unmasked, "images have no mask")
    request.skipped(unknown, "files are not named as in this set")
    if ungraded := [row.path.name for row in rows if not row.grade]:
        request.warn(f"{len(ungraded)} images have no grade in Grade.csv; the first is {ungraded[0]}")
    train = [row for row in rows if row.split == "train"]
    return with_validation(request, train) + [row for row in rows if row.split == "test"]


def _grades(path: Path) -> Mapping[str, tuple[str, str]]:
    """Image name -> (patient, grade)."""
    table = read_rows(path, "name")
    head = [name.lower() for name in table.columns]
    lines = [[field.strip() for field in row.fields] for row in table.rows if len(row.fields) == len(head)]
    grade = next((i for i, name in enumerate(head) if name.startswith("grade")), None)
    if "name" not in head or grade is None:
        raise DataError("there are no columns name and grade", where=path, fix="use the file as it was published")
    patient = next((i for i, name in enumerate(head) if name.startswith("patient")), None)
    return {
        fields[head.index("name")]: (
            f"patient {fields[patient]}" if patient is not None and fields[patient] else "",
            fields[grade],
        )
        for fields in lines
    }
