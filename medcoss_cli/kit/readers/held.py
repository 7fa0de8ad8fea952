"""One volume in memory, in as few bytes as its values need: windows of it become float32 when they are cut."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers.volume import MAX_HELD, Array

STEP = 2**22
"""Voxels that are converted at a time."""


class Held:
    """A volume that is filled piece by piece.

    Whole numbers of at most 16 bits stay as they are stored. Of other types values are float32, kept as int16 as long as that
    changes none of them: half the memory for Hounsfield units that were scaled, or stored as float64.

    Args:
        dtype: of what it will be filled with.
        path: what errors name.
        beside: bytes that are in memory at the same time.

    Raises: DataError for more bytes than MAX_HELD.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path, beside: int = 0) -> None:
        self._shape, self._path, self._end, self._most = shape, path, 0, MAX_HELD - beside
        self._stays = dtype.kind in "iu" and dtype.itemsize <= 2
        kind = dtype.newbyteorder("=") if self._stays else np.dtype(np.int16)
        count = math.prod(shape)
        self._check(count, kind.itemsize)
        room = 4 * count if not self._stays and 4 * count <= self._most else kind.itemsize * count
        self._room = np.empty(room, np.uint8)  # of which the system gives what is written to
        self._values: Array = self._room[: kind.itemsize * count].view(kind)

    @property
    def array(self) -> Array:
        """The volume, in its shape."""
        return self._values.reshape(self._shape)

    def put(self, at: int, values: Array) -> None:
        """Values (one axis) for the voxels from number `at` on. Raises: DataError as the class does."""
        end = at + len(values)
        if self._stays:
            self._values[at:end] = values
            return
        with np.errstate(over="ignore", invalid="ignore"):
            values = values.astype(np.float32, copy=False)
            if self._values.dtype == np.int16:
                whole = values.astype(np.int16)
                # bits, since -0 is another value than 0, and NaN is none
                if (whole.astype(np.float32).view(np.uint32) == values.view(np.uint32)).all():
                    self._values[at:end] = whole
                    self._end = max(self._end, end)
                    return
                self._widen()
        self._values[at:end] = values

    def _widen(self) -> None:
        """From int16 to float32 in the same memory, from its end on, so that nothing is overwritten before it is read."""
        count = len(self._values)
        self._check(count, 4, " that are no whole numbers from -32,768 to 32,767")
        narrow, self._values = self._values, self._room.view(np.float32)
        for end in range(self._end, 0, -STEP):
            begin = max(0, end - STEP)
            self._values[begin:end] = narrow[begin:end].astype(np.float32)

    def _check(self, count: int, itemsize: int, how: str = "") -> None:
        if count * itemsize > self._most:
            raise DataError(
                f"{count:,} voxels{how} take {count * itemsize:,} bytes, more than the limit of {self._most:,}",
                where=self._path,
                fix="cut the volume, or resample it to larger voxels",
            )
