"""A recording: how many frames it really has, when each was taken, and how some of them are read."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import kind_of as readers_kind_of

Array = np.ndarray[Any, Any]

MAX_PIXELS = 2**23
"""Of one frame: 3840 x 2160."""
MAX_VALUES = 2**27
"""Of the frames that are read at once: 16 of 1920 x 1080 in colour."""
MAX_FRAMES = 2**20
UNEVEN = 0.1
"""Steps in time that differ by more than this share of the usual one are a variable frame rate."""


@dataclass(frozen=True)
class Facts:
    """What is known of a recording without decoding it."""

    frames: int
    """Frames that are there, which may be fewer than the file declares."""
    size: tuple[int, int]
    """Height and width."""
    colour: bool
    """Stored in colour; the picture may be grey all the same."""
    times: tuple[float, ...] | None = None
    """Of each frame in ms; None where the file does not say."""
    spacing: tuple[float, float] | None = None
    """mm between rows and between columns."""
    keep: tuple[tuple[int, int, int, int], ...] = ()
    """Regions (top, left, bottom, right) that show an image, as a DICOM header lists them."""
    patient: str | None = None
    """A hash."""
    risk: str | None = None
    """"secondary-capture" or "burned-in", where the header says that the picture may show a name."""
    cut: bool = True
    """Borders are looked for, and cut."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        height, width = self.size
        if not (0 < height * width <= MAX_PIXELS and min(height, width) >= 8):
            raise DataError(f"frames of {width} x {height} pixels are no clip's")
        if not 0 <= self.frames <= MAX_FRAMES:
            raise DataError(
                f"{self.frames} frames are more than the limit of {MAX_FRAMES:,}", fix="cut it into several files"
            )

    @property
    def step(self) -> float | None:
        """Usual time from frame to frame in ms."""
        if self.times is None or len(self.times) < 2:
            return None
        return float(np.median(np.diff(self.times)))

    @property
    def variable(self) -> str | None:
        """What to say of a frame rate that varies."""
        if self.times is None or self.step is None:
            return None
        steps = np.diff(self.times)
        if np.abs(steps - self.step).max() <= UNEVEN * self.step:
            return None
        return f"variable frame rate, {steps.min():.0f} to {steps.max():.0f} ms a frame"


class Clip(ABC):
    """An opened recording; one slice of a 4D file is one, too."""

    def __init__(self, path: Path, facts: Facts) -> None:
        self.path, self.facts = path, facts

    def read(self, numbers: Sequence[int]) -> Array:
        """Frames by number, in rising order: (n, H, W) or (n, H, W, 3). Raises DataError."""
        height, width = self.facts.size
        if len(numbers) * height * width * (3 if self.facts.colour else 1) > MAX_VALUES:
            raise DataError(
                f"{len(numbers)} frames of {width} x {height} pixels are too many to be read at once", where=self.path
            )
        frames = self.decode(numbers)
        if frames.shape[1:3] != self.facts.size:
            raise DataError("its frames are of another size than it says", where=self.path)
        return frames

    @abstractmethod
    def decode(self, numbers: Sequence[int]) -> Array:
        """As `read`, which checks size and memory."""


def even(count: int, step: float) -> tuple[float, ...]:
    """Times in ms of frames that follow each other evenly."""
    return tuple(step * number for number in range(count))


def open_clip(path: Path, part: tuple[str | int, ...] = ()) -> Clip:
    """The recording in a file, or in slice n of a 4D file: part ("slice", n). Raises DataError."""
    stamp = path.stat() if path.exists() else None
    if stamp is None:
        raise DataError("the file does not exist", where=path)
    return _opened(path, part, (stamp.st_mtime_ns, stamp.st_size))


@functools.lru_cache(maxsize=8)  # windows of one recording are read one after another; no file stays open
def _opened(path: Path, part: tuple[str | int, ...], stamp: tuple[int, int]) -> Clip:
    from medcoss_cine import dicom, nifti, video

    kind = kind_of(path)
    if kind == "dicom":
        return dicom.DicomClip(path)
    if kind == "nifti":
        return nifti.NiftiClip(path, int(part[1]) if part else 0)
    return video.VideoClip(path, kind)


def kind_of(path: Path) -> str:
    """What a file is, by its first bytes: "avi", "mp4", or as the kit says. Raises DataError."""
    kind = readers_kind_of(path)
    if kind not in ("unknown", "text"):
        return kind
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return "mp4" if head[4:8] == b"ftyp" else kind
