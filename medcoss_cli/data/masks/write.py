"""Masks to files: a volume on the grid of its image, an image as a palette."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medcoss_cli import plugin
from medcoss_cli.data.masks.colours import colour
from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import nifti
from medcoss_cli.kit.readers.volume import NiftiPlace, is_square, restored
from medcoss_cli.store import atomic

Array = np.ndarray[Any, Any]

_MM = 2
"""Of xyzt_units."""
EXACT = 1e-4
"""Cosine between two axes above which ITK takes an sform for sheared."""


def write_volume(labels: Array, stored: plugin.Grid, path: Path) -> None:
    """Write labels (D, H, W) as NIfTI (.nii.gz) on the grid their image has in its file.

    Of a NIfTI image the mask has the same sform, qform, codes and voxel sizes, so that it lies on it whichever of them a
    viewer takes. A file that does not say where it lies gives a mask that does not, with codes 0.

    Raises: ResourceError where it cannot be written; a file that was there is then as it was.
    DataError for more voxels along an axis than NIfTI-1 holds.
    """
    if max(stored.size) >= 2**15:
        raise DataError(
            f"{max(stored.size)} voxels along one axis, where a mask as NIfTI has at most 32767", where=path
        )
    voxels = restored(labels.astype(np.uint8, copy=False), stored)
    header = _header(stored)

    def content(file: BinaryIO) -> None:
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as stream:
            stream.write(header)
            stream.write(voxels.data)

    atomic.write(path, content)


def _header(stored: plugin.Grid) -> bytes:
    """The NIfTI-1 header of a volume of uint8 labels on a grid, up to its voxels; SimpleITK reads no NIfTI-2."""
    place = getattr(stored, "nifti", None) or _place(stored)
    if place.sform_code and not place.qform_code and not is_square(np.array(place.sform).reshape(3, 4), EXACT):
        near = _place(stored)  # ITK reads no such image without a qform, and so no such mask
        place = replace(place, qform_code=place.sform_code, quaternion=near.quaternion)
    header = bytearray(352)
    for offset, code, *values in (
        (0, "i", 348),
        (40, "8h", 3, *stored.size, 1, 1, 1, 1),
        (68, "h", nifti.LABEL),
        (70, "2h", 2, 8),  # uint8, of 8 bits
        (76, "8f", *place.pixdim),
        (108, "3f", 352.0, 1.0, 0.0),  # where the voxels begin; not scaled
        (123, "B", place.units),
        (252, "2h", place.qform_code, place.sform_code),
        (256, "6f", *place.quaternion),
        (280, "12f", *place.sform),
        (344, "4s", b"n+1\0"),
    ):
        if code.endswith("f"):  # of a NIfTI-2 image, in double precision
            values = np.clip(values, -1e38, 1e38).tolist()
        struct.pack_into(f"<{code}", header, offset, *values)
    return bytes(header)


def _place(stored: plugin.Grid) -> NiftiPlace:
    """Where a grid lies, in the words of NIfTI: the position of a scanner (code 1) as sform and qform, or none."""
    in_plane = getattr(stored, "in_plane", None)
    steps = np.array(stored.spacing or ((*in_plane, 1.0) if in_plane else (1.0, 1.0, 1.0)))
    if stored.direction is None or stored.origin is None:
        return NiftiPlace((1.0, *steps, 1, 1, 1, 1), _MM, 0, 0, (0.0,) * 6, (0.0,) * 12)
    ras = np.array([-1.0, -1.0, 1.0])
    cosines, origin = np.array(stored.direction).reshape(3, 3) * ras[:, None], np.array(stored.origin) * ras
    hand = 1.0 if np.linalg.det(cosines) > 0 else -1.0
    x, y, z, w = _quaternion(cosines * (1.0, 1.0, hand))
    sign = -1.0 if w < 0 else 1.0  # the qform has no w: it is the positive one
    sform = np.column_stack([cosines * steps, origin]).flatten()
    return NiftiPlace((hand, *steps, 1, 1, 1, 1), _MM, 1, 1, (sign * x, sign * y, sign * z, *origin), tuple(sform))


def _quaternion(m: Array) -> Array:
    """(x, y, z, w) of the rotation nearest to a matrix whose axes are not quite at right angles (Bar-Itzhack 2000)."""
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], np.trace(m)],
        ]
    )
    return np.asarray(np.linalg.eigh(k)[1][:, -1])


def write_png(labels: Array, classes: Sequence[str], path: Path) -> None:
    """Write labels (H, W) as a PNG whose palette indices are the labels, in the colours of the classes.

    Raises: ResourceError where it cannot be written.
    """
    from PIL import Image

    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette([level for label in range(len(classes) + 1) for level in colour(label)])
    out = io.BytesIO()
    picture.save(out, "PNG", bits=8, optimize=True)
    atomic.write(path, out.getvalue())
