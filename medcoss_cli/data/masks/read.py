"""Masks from the user's files, and whether they lie on their image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli import plugin
from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import IMAGES, VOLUMES, WHAT, kind_of, nifti, plainly
from medcoss_cli.kit.readers.volume import Grid, Plan
from medcoss_cli.plugin import Sample

Array = np.ndarray[Any, Any]

ALIKE = 1e-3
"""Of a voxel's size, and of a direction cosine, by which mask and image may differ."""
APART = 0.5
"""Of a voxel by which mask and image may lie apart."""
WHOLE = 1e-3
"""How far from a whole number a value may be: a file that stores floats as scaled integers gives 1 back as 1.00002."""


def read_mask(path: Path, dims: int) -> tuple[Array, Grid | None]:
    """The labels of a mask file, and for volumes the grid they have in it.

    Images (dims 2) are PNG, BMP or TIFF of one channel, (H, W): palette indices and single bits as stored; a colour file
    whose channels are equal gives one of them. Volumes (dims 3) are NIfTI, NRRD or MetaImage, (D, H, W) turned. The
    labels are the first of uint8, int16 and uint16 that holds them.

    Raises: DataError for another kind of file, colour, several pages or volumes, and values that are not whole numbers.
    """
    kind = kind_of(path)
    if dims == 3:
        if kind not in VOLUMES:
            raise DataError(
                f"{WHAT[kind]} where the mask of a volume is read",
                where=path,
                fix="save it as NIfTI, NRRD or MetaImage",
            )
        if (count := nifti.read_header(path).volumes) > 1:
            raise DataError(f"{count} volumes in one file (4D) where one mask is read", where=path)
        array, grid = nifti.read(path)
        labels = _labels(array, path)
        return Plan().apply(labels, grid, path)[0].astype(labels.dtype), grid
    if kind not in IMAGES or kind == "jpeg":
        what = "a JPEG, which does not keep labels exactly," if kind == "jpeg" else WHAT[kind]
        raise DataError(f"{what} where the mask of an image is read", where=path, fix="save it as PNG, BMP or TIFF")
    return _labels(_pixels(path), path), None


def _pixels(path: Path) -> Array:
    """One channel (H, W) of an image file, as stored."""
    from PIL import Image, ImageOps

    from medcoss_cli.kit.readers import image

    pages = image.read_header(path).pages  # also checks the size, before anything is decoded
    if pages > 1:
        raise DataError(f"{pages} pages in one file where one mask is read", where=path)
    with plainly(path), Image.open(path) as opened:
        if opened.mode in ("1", "P"):
            return np.asarray(ImageOps.exif_transpose(opened)).astype(np.uint8)
    array, _ = image.read(path)
    if (array != array[:1]).any():
        raise DataError(
            "a colour image where a mask is read",
            where=path,
            fix="save it with one channel whose values are the labels",
        )
    channel: Array = array[0]
    return channel


@np.errstate(invalid="ignore")  # of what is not finite: refused here
def _labels(array: Array, path: Path) -> Array:
    """The same values in the smallest type of whole numbers."""
    whole = array
    if array.dtype.kind == "f":
        whole = np.rint(array)
        if (astray := ~(np.abs(array - whole) <= WHOLE)).any():  # not finite: neither
            raise DataError(
                f"the mask has the value {array[astray][0]:g}; labels are whole numbers",
                where=path,
                fix="set a threshold, and save the mask as integers",
            )
    low, high = whole.min(), whole.max()
    for kind in (np.uint8, np.int16, np.uint16):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return whole.astype(kind)
    raise DataError(f"values from {low:g} to {high:g} are more than a mask's 16 bits hold", where=path)


def check_on(mask_shape: Sequence[int], mask_grid: plugin.Grid | None, sample: Sample, where: object) -> None:
    """Raise DataError unless a mask lies on its image: shape, spacing, orientation, position.

    Args:
        mask_shape: (H, W) or (D, H, W) as `read_mask` gives it.
        mask_grid: of the mask's file; what it or the image does not say is not compared.
    """
    unit, shape = ("pixels" if len(mask_shape) == 2 else "voxels"), tuple(sample.array.shape[1:])
    if tuple(mask_shape) != shape:
        raise DataError(f"the mask is {_by(mask_shape[::-1])} {unit}, the image {_by(shape[::-1])}", where=where)
    if mask_grid is None:
        return
    mask = _turned(mask_grid)
    for one, other in ((mask_grid, sample.stored), (sample.stored, mask_grid)):
        if (
            one is not None
            and other is not None
            and other.direction is None
            and _turned(one).direction != one.direction
        ):
            names = ("mask", "image") if one is mask_grid else ("image", "mask")
            raise DataError(
                f"the {names[0]} says how its axes lie and the {names[1]} does not, so they cannot be laid over each other",
                where=where,
                fix=f"save the {names[1]} with the orientation it was made in",
            )
    fix = "resample the mask to the image's grid, with nearest neighbours"
    spacing = None if sample.spacing is None else sample.spacing[::-1]
    if mask.spacing and spacing and not _close(mask.spacing, spacing, ALIKE * np.array(spacing)):
        said = f"the voxels of the mask are {_by(mask.spacing)} mm, of the image {_by(spacing)} mm"
        raise DataError(said, where=where, fix=fix)
    if mask.direction and sample.direction and not _close(mask.direction, sample.direction, ALIKE):
        said = f"the axes of the mask lie along {_axes(mask.direction)}, of the image along {_axes(sample.direction)}"
        raise DataError(said, where=where, fix=fix)
    if mask.origin and sample.origin and spacing and sample.direction:
        shift = np.array(sample.direction).reshape(3, 3).T @ (np.array(mask.origin) - np.array(sample.origin))
        if not _close(shift / spacing, (0, 0, 0), APART):
            said = f"the mask begins at {_at(mask.origin)} mm, the image at {_at(sample.origin)} mm"
            raise DataError(said, where=where, fix=fix)


def _turned(grid: plugin.Grid) -> Grid:
    return Plan().resampled(Grid(grid.size, grid.spacing, grid.origin, grid.direction), Path())


def _close(one: Sequence[float], other: Sequence[float], tolerance: Any) -> bool:
    return bool((np.abs(np.array(one) - np.array(other)) <= tolerance).all())


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _at(numbers: Sequence[float]) -> str:
    return f"({', '.join(f'{number:g}' for number in numbers)})"


def _axes(direction: Sequence[float]) -> str:
    return " ".join(_at((np.round(axis, 4) + 0.0).tolist()) for axis in np.array(direction).reshape(3, 3).T)
