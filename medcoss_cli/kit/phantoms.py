"""Shared tools of the demo generators: who is drawn, noise and soft shapes, and writing manifests, DICOM and NIfTI.

A demo set is invented from numbers: no patient was ever near it, and its DICOM headers name `Phantom^Demo`. Everything
is a function of (seed, index): the same call writes the same arrays again.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

IMPLEMENTATION_UID = "2.25.118059126405277406317938112934806241231"
SPLITS = ("train", "train", "train", "val", "train", "train", "test", "train")
"""Taken in turn by the groups, so that the first sample is always one to train on."""


@dataclass(frozen=True)
class Case:
    """One sample to draw."""

    index: int
    group: str
    split: str
    label: str
    rng: np.random.Generator
    """This sample's own draws."""
    anatomy: np.random.Generator
    """Draws that all samples of the group share: the same patient, seen again."""
    seed: int

    @property
    def stem(self) -> str:
        """File name without ending."""
        return f"{self.index:05d}"


def cases(count: int, seed: int, classes: Sequence[str], per_group: int = 2) -> Iterator[Case]:
    """The samples of a demo set: classes in turn, `per_group` samples a patient, whole patients in one split."""
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    for index in range(count):
        group = index // per_group
        yield Case(
            index=index,
            group=f"demo{group:04d}",
            split=SPLITS[group % len(SPLITS)],
            label=classes[(index + index // (len(SPLITS) * per_group)) % len(classes)],  # all classes in every split
            rng=np.random.default_rng([seed, index]),
            anatomy=np.random.default_rng([seed, group, 1]),
            seed=seed,
        )


def row(case: Case, path: str, **more: str) -> dict[str, str]:
    """One line of the manifest; `more` are further columns such as mask."""
    return {"path": path, "split": case.split, "group": case.group, "label": case.label, **more}


def write_manifest(root: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write `manifest.csv`; paths are relative to `root`, with forward slashes."""
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def grid(shape: Sequence[int], spacing: Sequence[float]) -> tuple[Array, ...]:
    """Open coordinate axes in mm, zero in the middle; they broadcast to `shape`."""
    axes = [
        ((np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)) * np.float32(step))
        for n, step in zip(shape, spacing, strict=True)
    ]
    return tuple(np.ix_(*axes))


def ellipsoid(axes: Sequence[Array], centre: Sequence[float], radii: Sequence[float], turn: float = 0.0) -> Array:
    """Squared distance from `centre` in units of `radii`: below 1 inside.

    Args:
        axes: coordinates per axis, broadcastable.
        turn: rotation in radians in the plane of the last two axes.
    """
    *rest, y, x = [axis - np.float32(c) for axis, c in zip(axes, centre, strict=True)]
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = (x * cos + y * sin, y * cos - x * sin) if turn else (x, y)
    total = (x / np.float32(radii[-1])) ** 2 + (y / np.float32(radii[-2])) ** 2
    for axis, radius in zip(rest, radii, strict=False):
        total = total + (axis / np.float32(radius)) ** 2
    return np.asarray(total)


def paint(
    volume: Array,
    axes: Sequence[Array],
    centre: Sequence[float],
    radii: Sequence[float],
    value: float,
    turn: float = 0.0,
) -> tuple[tuple[slice, ...], Array]:
    """Set what lies inside an ellipsoid to `value`; only its bounding box is computed.

    Args:
        volume: (D, H, W) or (H, W), changed in place.
        axes: open coordinate axes as from `grid`.
        turn: as in `ellipsoid`.

    Returns: the bounding box and (within it) the mask that was painted.
    """
    reach = [*radii[:-2], *([max(radii[-2:])] * 2 if turn else radii[-2:])]
    box = []
    for axis, middle, radius in zip(axes, centre, reach, strict=True):
        low, high = np.searchsorted(axis.ravel(), [middle - radius, middle + radius])
        box.append(slice(int(low), int(high)))
    window = tuple(box)
    parts = [axis[(slice(None),) * n + (box[n],)] for n, axis in enumerate(axes)]
    inside = ellipsoid(parts, centre, radii, turn) < 1
    volume[window][inside] = value
    return window, inside


NARROW = 2.0  # below this sigma a handful of taps is cheaper than sources a sigma apart


@lru_cache(maxsize=64)
def _taps(sigma: float) -> Array:
    reach = int(np.ceil(3.5 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    return np.asarray(taps / taps.sum(), np.float32)


@lru_cache(maxsize=64)
def _sources(n: int, sigma: float) -> Array:
    """(n, m) Gaussian weights between n pixels of a line and m sources on it, sigma apart and past both ends."""
    places = np.arange(-4 * sigma, n - 1 + 4.5 * sigma, sigma)
    return np.asarray(np.exp(-0.5 * ((np.arange(n)[:, None] - places) / sigma) ** 2), np.float32)


def _convolve(array: Array, taps: Array, axis: int) -> Array:
    """Weighted sum of shifted copies; the axis becomes shorter by len(taps) - 1."""
    n = array.shape[axis] - len(taps) + 1
    shifted = (array[(slice(None),) * axis + (slice(k, k + n),)] for k in range(len(taps)))
    total = next(shifted) * taps[0]
    for weight, part in zip(taps[1:], shifted, strict=True):
        total += part * weight
    return np.asarray(total)


def _apply(matrix: Array, array: Array, axis: int) -> Array:
    return np.moveaxis(np.tensordot(matrix, array, axes=(1, axis)), 0, axis)


def _each(sigma: float | Sequence[float], dims: int) -> list[float]:
    return [float(sigma)] * dims if isinstance(sigma, int | float) else [float(s) for s in sigma]


def blur(array: Array, sigma: float | Sequence[float]) -> Array:
    """Gaussian blur with sigma in pixels (one, or one per axis); the weights at a border sum to 1 as well."""
    array = array.astype(np.float32)
    for axis, s in enumerate(_each(sigma, array.ndim)):
        if s < NARROW:
            taps = _taps(s)
            edge = [(len(taps) // 2,) * 2 if a == axis else (0, 0) for a in range(array.ndim)]
            array = _convolve(np.pad(array, edge, mode="edge"), taps, axis)
        else:  # a blur is two blurs of sigma / sqrt(2), and between them few places are enough
            matrix = _sources(array.shape[axis], s / 2**0.5)
            total = matrix @ matrix.sum(0)
            array = _apply(matrix / total[:, None], _apply(matrix.T, array, axis), axis)
    return array


def noise(rng: np.random.Generator, shape: Sequence[int], sigma: float | Sequence[float]) -> Array:
    """Smooth random field of mean 0 and std 1: white noise blurred with sigma pixels (one, or one per axis)."""
    sigmas = _each(sigma, len(shape))
    sizes = [
        n + len(_taps(s)) - 1 if s < NARROW else _sources(n, s).shape[1] for n, s in zip(shape, sigmas, strict=True)
    ]
    field = rng.standard_normal(sizes, dtype=np.float32)
    order = sorted(range(len(sizes)), key=lambda axis: -sigmas[axis])
    for axis in reversed(order):  # the axes that grow most come last
        if sigmas[axis] < NARROW:
            taps = _taps(sigmas[axis])
            field = _convolve(field, taps / np.sqrt((taps**2).sum()), axis)
        else:
            matrix = _sources(shape[axis], sigmas[axis])
            field = _apply(matrix / np.sqrt((matrix**2).sum(1, keepdims=True)), field, axis)
    return field


def uid(*key: object) -> str:
    """A DICOM UID that is a function of its key (root 2.25, as for UUIDs)."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=15).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"


def dicom(case: Case, sop_class: str, modality: str, **elements: Any) -> Any:
    """A pydicom FileDataset of a fictional patient, without pixels; `elements` are keywords and values to set."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = "MEDCOSS_DEMO"
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": ["DERIVED", "PRIMARY"],
        "SOPClassUID": sop_class,
        "StudyDate": "20000101",
        "StudyTime": "120000",
        "AccessionNumber": "",
        "Modality": modality,
        "Manufacturer": "medcoss demo",
        "ReferringPhysicianName": "",
        "SeriesDescription": "Invented data, not of a patient",
        "PatientName": "Phantom^Demo",
        "PatientID": case.group,
        "PatientBirthDate": "",
        "PatientSex": "O",
        "StudyInstanceUID": uid(modality, case.seed, case.group),
        "SeriesInstanceUID": uid(modality, case.seed, case.index),
        "FrameOfReferenceUID": uid(modality, case.seed, case.index, "frame"),
        "StudyID": "1",
        "SeriesNumber": 1,
        **elements,
    }
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def save_dicom(data: Any, path: Path, pixels: Array, *, bits: int, instance: int = 1, photometric: str) -> None:
    """Write one image of grey integers (H, W) with `bits` stored bits; signed if the array's type is."""
    sop = uid(data.SeriesInstanceUID, instance)
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = sop
    data.InstanceNumber = instance
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = photometric
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated = pixels.dtype.itemsize * 8
    data.BitsStored, data.HighBit = bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    data["PixelData"].VR = "OW" if pixels.dtype.itemsize == 2 else "OB"
    data.save_as(path, enforce_file_format=True)


def save_nifti(path: Path, array: Array, spacing: Sequence[float], origin: Sequence[float]) -> None:
    """Write (D, H, W) with spacing (D, H, W) in mm; axes run to superior, posterior, left; origin is (x, y, z), LPS."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing([float(s) for s in reversed(spacing)])
    image.SetOrigin([float(o) for o in origin])
    SimpleITK.WriteImage(image, str(path), useCompression=True)
