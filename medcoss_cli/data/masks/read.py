"""Masks from the user's files, and whether they lie on their image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli import plugin
from medcoss_cli.errors import DataError, PluginError
from medcoss_cli.kit.readers import IMAGES, VOLUMES, WHAT, kind_of, nifti
from medcoss_cli.kit.readers.volume import FileGrid, VolumePlan
from medcoss_cli.plugin import Sample

Array = np.ndarray[Any, Any]

ALIKE = 1e-3
"""Of a voxel's size, and of a direction cosine, by which mask and image may differ."""
APART = 0.5
"""Of a voxel by which mask and image may lie apart."""
WHOLE = 1e-3
"""How far from a whole number a value may be: a file that stores floats as scaled integers gives 1 back as 1.00002."""


def read_mask(path: Path, dims: int) -> tuple[Array, FileGrid | None]:
    """The labels of a mask file, and for volumes the grid they have in it.

    Images (dims 2) are PNG, BMP or TIFF of one channel, (H, W): palette indices and single bits as stored; a colour file
    whose channels are equal gives one of them, another the numbers of its colours (0xff0000 is red). Volumes (dims 3)
    are NIfTI, NRRD or MetaImage, (D, H, W) turned. The
    labels are the first of uint8, int16 and uint16 that holds them, of colours int32.

    Raises: DataError for another kind of file, deep colour, several pages or volumes, and values that are not whole numbers.
    """
    kind = kind_of(path)
    if dims == 3:
        if kind not in VOLUMES:
            raise DataError(
                f"{WHAT[kind]} where the mask of a volume is expected",
                where=path,
                fix="save it as NIfTI, NRRD or MetaImage",
            )
        if (count := nifti.read_header(path).volumes) > 1:
            raise DataError(f"{count} volumes in one file (4D) where one mask is expected", where=path)
        array, grid = nifti.read(path)
        labels = _labels(array, path)
        return VolumePlan().apply(labels, grid, path)[0].astype(labels.dtype), grid
    if kind not in IMAGES or kind == "jpeg":
        what = "a JPEG, which does not keep labels exactly," if kind == "jpeg" else WHAT[kind]
        raise DataError(f"{what} where the mask of an image is expected", where=path, fix="save it as PNG, BMP or TIFF")
    return _pixels(path), None


def _pixels(path: Path) -> Array:
    """Labels (H, W) of an image file: of its one channel, or the numbers of its colours, int32."""
    from PIL import ImageOps

    from medcoss_cli.kit.readers import image, tiff

    pages = image.read_header(path).pages  # also checks the size, before anything is decoded
    if pages > 1:
        raise DataError(f"{pages} pages in one file where one mask is expected", where=path)
    if not (kind_of(path) == "tiff" and tiff.pages(path)[0].deep):
        with image.opened(path) as picture:
            if picture.mode in ("1", "P"):
                picture.load()
                return _labels(np.asarray(ImageOps.exif_transpose(picture)).astype(np.uint8), path)
    array, _ = image.read(path)
    if (array != array[:1]).any():
        if array.dtype == np.uint8:
            red, green, blue = array.astype(np.int32)
            return np.asarray(red << 16 | green << 8 | blue)
        raise DataError(
            "a colour image where a mask is expected",
            where=path,
            fix="save it with one channel whose values are the labels",
        )
    return _labels(array[0], path)


@np.errstate(invalid="ignore")  # of what is not finite: refused here
def _labels(array: Array, path: Path) -> Array:
    """The same values in the smallest type of whole numbers."""
    labels = array
    if array.dtype.kind == "f":
        labels = np.rint(array)
        if (fractions := ~(np.abs(array - labels) <= WHOLE)).any():  # not finite: neither
            raise DataError(
                f"the mask has the value {array[fractions][0]:g}; labels are whole numbers",
                where=path,
                fix="set a threshold, and save the mask as integers",
            )
    low, high = labels.min(), labels.max()
    for kind in (np.uint8, np.int16, np.uint16):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return labels.astype(kind)
    raise DataError(f"values from {low:g} to {high:g} are more than a mask's 16 bits hold", where=path)


def check_on(mask_shape: Sequence[int], mask_grid: plugin.Grid | None, sample: Sample, where: object) -> None:
    """Raise DataError unless a mask lies on its image: shape, spacing, orientation, position.

    Args:
        mask_shape: (H, W) or (D, H, W) as `read_mask` gives it.
        mask_grid: of the mask's file; what it or the image's `stored` does not say is not compared.

    Raises: PluginError where the image's loader does not say on which grid a volume lies.
    """
    unit, shape = ("pixels" if len(mask_shape) == 2 else "voxels"), tuple(sample.array.shape[1:])
    if tuple(mask_shape) != shape:
        raise DataError(f"the mask is {_by(mask_shape[::-1])} {unit}, the image {_by(shape[::-1])}", where=where)
    if mask_grid is None:
        return
    image, mask = grid_of(sample, where), _turned(mask_grid)
    for grid, other in ((mask_grid, sample.stored), (sample.stored, mask_grid)):
        if other is not None and grid is not None and other.direction is None and _must_turn(grid):
            names = ("mask", "image") if grid is mask_grid else ("image", "mask")
            raise DataError(
                f"the {names[0]} says how its axes lie and the {names[1]} does not, so they cannot be laid over each other",
                where=where,
                fix=f"save the {names[1]} with the orientation it was made in",
            )
    fix = "resample the mask to the image's grid, with nearest neighbours"
    spacing = image.spacing
    if mask.spacing and spacing and not _close(mask.spacing, spacing, ALIKE * np.array(spacing)):
        text = f"the voxels of the mask are {_by(mask.spacing)} mm, of the image {_by(spacing)} mm"
        raise DataError(text, where=where, fix=fix)
    if mask.direction and image.direction and not _close(mask.direction, image.direction, ALIKE):
        text = f"the axes of the mask lie along {_axes(mask.direction)}, of the image along {_axes(image.direction)}"
        raise DataError(text, where=where, fix=fix)
    if mask.origin and image.origin and spacing and image.direction:
        shift = np.array(image.direction).reshape(3, 3).T @ (np.array(mask.origin) - np.array(image.origin))
        if not _close(shift / spacing, (0, 0, 0), APART):
            text = f"the mask begins at {_at(mask.origin)} mm, the image at {_at(image.origin)} mm"
            raise DataError(text, where=where, fix=fix)


def grid_of(sample: Sample, where: object) -> FileGrid:
    """The grid of a volume's array (D, H, W), its axes to left, posterior and superior: `stored`, turned.

    Raises: PluginError where the loader gives no such grid, or an array whose size or axes are not those of the grid.
    """
    stored, size = sample.stored, tuple(sample.array.shape[:0:-1])
    if stored is None:
        raise PluginError(
            "the loader gives no grid (Sample.stored), which masks of volumes are compared with and written on",
            where=where,
            fix="its author can set it, to Grid(size=(W, H, D)) where the file says no more",
        )
    turned = _turned(stored)
    if turned.size != size:
        raise PluginError(
            f"the loader gives {_by(size)} voxels on a grid (Sample.stored) of {_by(turned.size)}",
            where=where,
            fix="its author can read labelled data whole: Loader.whole",
        )
    turns = "its author can turn it with medcoss_cli.kit.readers.volume.whole_volume"
    if sample.direction is None and _must_turn(stored):
        raise PluginError(
            "the loader says how the axes of the file lie (Sample.stored) and not how those of its array do",
            where=where,
            fix=turns,
        )
    if sample.direction and turned.direction and not _close(sample.direction, turned.direction, ALIKE):
        raise PluginError(
            f"the loader gives an array with axes along {_axes(sample.direction)}, where those of a volume lie along "
            f"{_axes(turned.direction)}",
            where=where,
            fix=turns,
        )
    return turned


def _must_turn(grid: plugin.Grid) -> bool:
    return _turned(grid).direction != grid.direction


def _turned(grid: plugin.Grid) -> FileGrid:
    return VolumePlan().resampled(FileGrid(grid.size, grid.spacing, grid.origin, grid.direction), Path())


def _close(values: Sequence[float], other: Sequence[float], tolerance: Any) -> bool:
    return bool((np.abs(np.array(values) - np.array(other)) <= tolerance).all())


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _at(numbers: Sequence[float]) -> str:
    return f"({', '.join(f'{number:g}' for number in numbers)})"


def _axes(direction: Sequence[float]) -> str:
    return " ".join(_at((np.round(axis, 4) + 0.0).tolist()) for axis in np.array(direction).reshape(3, 3).T)
