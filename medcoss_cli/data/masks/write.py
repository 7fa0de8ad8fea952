"""Masks to files: a volume on the grid of its image, an image as a palette."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np

from medcoss_cli import plugin
from medcoss_cli.data.masks.colours import colour
from medcoss_cli.errors import ResourceError
from medcoss_cli.kit.readers.volume import restored
from medcoss_cli.store import atomic

Array = np.ndarray[Any, Any]


def write_volume(labels: Array, stored: plugin.Grid, path: Path) -> None:
    """Write labels (D, H, W) as NIfTI (.nii.gz) on the grid their image has in its file; what that does not say is
    left at SimpleITK's defaults.

    Raises: ResourceError where it cannot be written; a file that was there is then as it was.
    """
    import SimpleITK as sitk  # noqa: N813 - its users' name for it

    image = sitk.GetImageFromArray(restored(labels.astype(np.uint8, copy=False), stored))
    for place, value in (("Spacing", stored.spacing), ("Origin", stored.origin), ("Direction", stored.direction)):
        if value is not None:
            getattr(image, f"Set{place}")(value)

    def content(file: BinaryIO) -> None:
        with TemporaryDirectory() as folder:  # SimpleITK writes to names alone
            temporary = Path(folder) / "mask.nii.gz"
            try:
                sitk.WriteImage(image, str(temporary), useCompression=True)
            except RuntimeError as error:
                raise ResourceError(
                    "there is no space for temporary files", where=folder, fix="make room, or set TMPDIR"
                ) from error
            file.write(temporary.read_bytes())

    atomic.write(path, content)


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
