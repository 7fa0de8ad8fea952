"""4D NIfTI: each slice of the volume over time is a recording, such as the stack of a cardiac MRI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cine.clip import MAX_FRAMES, Array, Clip, Facts, even
from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly

MAX_VOXELS = 2**29
"""Of a file, from its header, as medcoss has it of a volume: a compressed one is unpacked whole."""


def read_shape(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Size and spacing along x, y, z, t: mm and ms. Raises DataError."""
    from medcoss_cli.kit.readers.nifti import read_header

    volumes = read_header(path).volumes  # refuses what is damaged, which ITK may try to read
    with _reader(path) as reader:
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:  # sound, as its header was read above
            raise DataError("ITK cannot read this kind of NIfTI", where=path, fix="save it as NIfTI-1") from error
        size = tuple(int(n) for n in reader.GetSize())
        spacing = tuple(float(s) for s in reader.GetSpacing())
        if reader.GetNumberOfComponents() != 1:
            raise DataError("several values a voxel where one is expected", where=path)
    if np.prod([float(n) for n in size]) > MAX_VOXELS:
        raise DataError(
            f"{' x '.join(map(str, size))} voxels are more than the limit of 2^29",
            where=path,
            fix="cut it into several files along time, or store fewer slices in each",
        )
    if len(size) > 4 or (len(size) == 4 and size[3] != volumes):
        raise DataError("a file of more than four axes is not read", where=path)
    return size, (*spacing[:3], *(step * 1000 for step in spacing[3:]))  # ITK has seconds, whatever the file's unit


@contextmanager
def _reader(path: Path) -> Iterator[Any]:
    """A reader of this file, silent; what it raises becomes a DataError."""
    import SimpleITK

    warns = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with plainly(path):
            reader = SimpleITK.ImageFileReader()
            reader.SetFileName(str(path))
            reader.SetImageIO("NiftiImageIO")
            yield reader
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(warns)


class NiftiClip(Clip):
    """One slice over time. Raises DataError."""

    def __init__(self, path: Path, number: int) -> None:
        size, spacing = read_shape(path)
        if len(size) != 4 or size[3] > MAX_FRAMES or not 0 <= number < size[2]:
            raise DataError("no volume over time (4D)", where=path)
        self._slice = number
        step = spacing[3]
        times = even(size[3], step) if 0 < step < 1e5 else None
        super().__init__(path, Facts(size[3], (size[1], size[0]), False, times, (spacing[1], spacing[0]), cut=False))

    def decode(self, numbers: Sequence[int]) -> Array:
        """(n, H, W), rows along the file's y axis. Raises DataError."""
        import SimpleITK

        height, width = self.facts.size
        first, last = numbers[0], numbers[-1]
        with _reader(self.path) as reader:
            reader.SetExtractIndex([0, 0, self._slice, first])
            reader.SetExtractSize([width, height, 1, last - first + 1])
            array = SimpleITK.GetArrayFromImage(reader.Execute())[:, 0]
        return np.asarray(array)[[number - first for number in numbers]]
