"""Small synthetic sets in exactly the layouts in which the nine labelled sets were published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from PIL import Image

from medcoss_cli.datasets.images import DIAGNOSES, TISSUES
from medcoss_cli.datasets.sentences import ROLES
from medcoss_cli.datasets.volumes import ATRIA, LIVERS

Array = np.ndarray[Any, Any]
NAMES = ("pubmed20k", "chestxr", "qata", "ricord", "lits", "vs", "la", "nch", "glas")


def write(name: str, root: Path, *, size: tuple[int, ...] = (), cases: int = 5) -> Path:
    """Write a set; returns `root`.

    What is to be learnt is visible: brighter images for later classes, masks where it is bright.

    Args:
        name: one of NAMES.
        size: of an image (H, W) or a volume (D, H, W); small if left out.
        cases: of each class for training, at least 4; for testing there are half as many (lits, vs, la: cases in all).
    """
    rng = np.random.default_rng(NAMES.index(name))
    root.mkdir(parents=True, exist_ok=True)
    WRITERS[name](root, size, cases, rng)
    return root


def picture(rng: np.random.Generator, size: Sequence[int], brightness: float) -> Array:
    """Values 0..255, brighter inside a box than outside."""
    array = rng.normal(60, 12, size)
    array[tuple(slice(n // 4, 3 * n // 4) for n in size)] += 40 + 30 * brightness
    return array.clip(0, 255)


def box(size: Sequence[int]) -> Array:
    """1 inside the box of `picture`."""
    mask = np.zeros(size, np.uint8)
    mask[tuple(slice(n // 4, 3 * n // 4) for n in size)] = 1
    return mask


def save(path: Path, array: Array, *, colour: bool = False) -> None:
    """Write a picture; its kind is its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = array.astype(np.uint8)
    Image.fromarray(np.stack([array, array // 2, array], -1) if colour else array).save(path)


def volume(path: Path, array: Array, spacing: tuple[float, float, float] = (1.0, 1.0, 2.0)) -> None:
    """Write a NIfTI; the array is (z, y, x), the spacing (x, y, z)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing)
    SimpleITK.WriteImage(image, str(path))


def _pubmed20k(root: Path, size: tuple[int, ...], cases: int, rng: np.random.Generator) -> None:
    number = 24_000_000
    for name, count in (("train", cases), ("dev", max(2, cases // 2)), ("test", max(2, cases // 2))):
        abstracts = []
        for _ in range(count):
            number += 1
            lines = [
                f"{role}\tThe {role.lower()} of trial {number} in {rng.integers(20, 99)} patients ." for role in ROLES
            ]
            abstracts.append("\n".join([f"###{number}", *lines]) + "\n")
        (root / f"{name}.txt").write_text(
            "\n".join(abstracts), encoding="utf-8"
        )  # blank lines between, none at the end


def _chestxr(root: Path, size: tuple[int, ...], cases: int, rng: np.random.Generator) -> None:
    for part, count in (("train", cases), ("validation", max(2, cases // 2))):
        for (grade, name), i in product(enumerate(DIAGNOSES), range(count)):
            ending = ".jpg" if i % 2 else ".png"
            save(root / part / name / f"{name}-{i}{ending}", picture(rng, size or (48, 40), grade))


def _qata(root: Path, size: tuple[int, ...], cases: int, rng: np.random.Generator) -> None:
    """Every third subject has two images."""
    for part, first, count in (("Train Set", 0, 2 * cases), ("Test Set", 500, cases)):
        for i in range(first, first + count):
            subject = 1000 + i - (i % 3 == 1)
            name = f"covid_{i}.png" if i % 3 == 2 else f"sub-S{subject:05d}_ses-E{i:05d}_run-1_bp-chest_vp-ap_dx.png"
            folder = root / "QaTa-COV19-v2" / part
            save(folder / "Images" / name, picture(rng, size or (32, 32), 2))
            save(folder / "Ground-truths" / f"mask_{name}", 255 * box(size or (32, 32)))


def _ricord(root: Path, size: tuple[int, ...], cases: int, rng: np.random.Generator) -> None:
    """The first patient of each kind has two series. No lists, as they were published apart."""
    shape = size or (8, 16, 16)
    for grade, (part, letter) in enumerate((("1B", "B"), ("1A", "A"))):
        for i in range(2 * cases):
            patient = f"MIDRC-RICORD-{part}-419639-{max(1, i):06d}"
            name = f"{patient}_08-02-2002-NA-CT CHEST-0461{i}_{i}.000000-{letter}-2697{i}.nii.gz"
            array = picture(rng, shape, grade).astype(np.int16) * 8 - 1000
            volume(root / "RICORD_nii" / f"MIDRC-RICORD-{part}" / name, array)


def _lits(root: Path, size: tuple[int, ...], cases: int, rng: np.random.Generator) -> None:
    """In two folders, as CodaLab gives it; the lowest numbers, with two or more of the test cases among them."""
    shape = size or (8, 16, 16)
    for number in range(max(cases, 5)):
        folder = root / f"Training Batch {1 + number % 2}"
        mask = box(shape)
        mask[tuple(slice(n // 2 - 1, n // 2 + 1) for n in shape)] = 2
        scan = picture(rng, shape, 2).astype(np.int16) - 80
        scan[:, 0] = -1000  # air
        volume(folder / f"volume-{number}.nii", scan)
        volume(folder / f"segmentation-{number}.nii", mask)
    assert len(LIVERS & set(range(max(cases, 5)))) >= 2


def _vs(root: Path, size: tuple[int, ...], cases: int, rng: np.random.Generator) -> None:
    shape = size or (8, 16, 16)
    for number in range(1, max(cases, 10) + 1):
        folder = root / f"vs_gk_{number}"
        volume(folder / "vs_gk_t1_refT1.nii.gz", picture(rng, shape, 2).astype(np.int16))
        volume(folder / "vs_gk_seg_refT1.nii.gz", box(shape))
        volume(folder / "vs_gk_t2_refT2.nii.gz", picture(rng, shape, 1).astype(np.int16))


def _la(root: Path, size: tuple[int, ...], cases: int, rng: np.random.Generator) -> None:
    """Arrays are (x, y, z); the lists lie beside the set, one test case in five."""
    import h5py

    shape = size or (8, 20, 16)
    names = ["".join(rng.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"), 20)) for _ in range(max(cases, 10))]
    for name in names:
        path = root / ATRIA / name / "mri_norm2.h5"
        path.parent.mkdir(parents=True)
        image = picture(rng, shape, 2)
        with h5py.File(path, "w") as file:
            normed = (image - image.mean()) / image.std()
            file.create_dataset("image", data=normed.transpose(2, 1, 0).astype(np.float32), compression="gzip")
            file.create_dataset("label", data=box(shape).transpose(2, 1, 0), compression="gzip")
    test = max(2, len(names) // 5)
    (root / "train.list").write_text("\n".join(names[test:]) + "\n")
    (root / "test.list").write_text("\n".join(names[:test]) + "\n")


def _nch(root: Path, size: tuple[int, ...], cases: int, rng: np.random.Generator) -> None:
    for part, count in (("NCT-CRC-HE-100K", cases), ("CRC-VAL-HE-7K", max(2, cases // 2))):
        for (grade, name), i in product(enumerate(TISSUES), range(count)):
            code = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 8))
            array = picture(rng, size or (32, 32), grade / 2)
            save(root / part / name / f"{name}-{'TCGA-' if part[0] == 'C' else ''}{code}{i}.tif", array, colour=True)


def _glas(root: Path, size: tuple[int, ...], cases: int, rng: np.random.Generator) -> None:
    """Two images a patient; the first patient of testA is also one of the training images."""
    shape = size or (40, 48)
    lines = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    patient = 0
    for part, count in (("testA", max(2, cases // 2)), ("testB", 2), ("train", 2 * cases)):
        for i in range(1, count + 1):
            patient += i % 2
            grade, finer = (
                ("benign", "adenomatous") if (i - 1) // 2 % 2 == 0 else ("malignant", "moderately differentiated")
            )
            of = 1 if (part, i) == ("train", 1) else patient
            lines.append(f"{part}_{i},{of}, {grade}, {finer}")
            save(root / f"{part}_{i}.bmp", picture(rng, shape, 2), colour=True)
            save(root / f"{part}_{i}_anno.bmp", box(shape) * rng.integers(1, 5))
    (root / "Grade.csv").write_text("\n".join(lines) + "\n")


WRITERS: dict[str, Callable[[Path, tuple[int, ...], int, np.random.Generator], None]] = {
    "pubmed20k": _pubmed20k,
    "chestxr": _chestxr,
    "qata": _qata,
    "ricord": _ricord,
    "lits": _lits,
    "vs": _vs,
    "la": _la,
    "nch": _nch,
    "glas": _glas,
}
