"""What of a clip is image: regions of the header, or what moves; text beside it is blanked, and black borders are cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medcoss_cine.clip import Array, Clip
from medcoss_cli.errors import DataError

SAMPLED = 8
"""Frames, evenly over the recording, that show where the image is."""
BLACK = 12
"""Of 255: a border is darker in all of them."""
MOVING = 12
"""Of 255: less is noise of the compression."""
JOINED = 2
"""Pixels around what is bright that still belong to it: what is nearer than twice as many is one area."""
MOSTLY = 0.5
"""Share of an area whose surrounding box changes, for what does not change at its border to be cut."""
GREY_STEP, COLOURED = 24, 0.005
"""Of 255: channels that differ by more are a colour; and the share of the image's pixels that may have one (a mark)."""


@dataclass(frozen=True)
class View:
    """The image's place in every frame of a recording."""

    box: tuple[slice, slice]
    keep: Array | None
    """(h, w) bool within the box, of which the rest is blanked; None: all of it."""
    notes: tuple[str, ...] = ()
    found: bool = True
    """False: text beside the image could not be found."""

    def cut(self, frames: Array) -> Array:
        """(n, H, W) to (n, h, w); black where no image is: 0, or the least of frames of more than 8 bits."""
        inside = frames[:, self.box[0], self.box[1]]
        if self.keep is None:
            return inside
        return np.where(self.keep, inside, 0 if frames.dtype == np.uint8 else inside.min()).astype(frames.dtype)


def find_view(clip: Clip) -> View:
    """Where the image is in all frames of a recording. Raises DataError, also for colour within it (Doppler)."""
    height, width = clip.facts.size
    whole = (slice(0, height), slice(0, width))
    if not clip.facts.cut:
        return View(whole, None)
    numbers = np.unique(np.linspace(0, clip.facts.frames - 1, SAMPLED).astype(int)).tolist()
    frames = clip.read(numbers)
    found = True
    if clip.facts.keep:
        keep = np.zeros((height, width), bool)
        for top, left, bottom, right in clip.facts.keep:
            keep[top:bottom, left:right] = True
        notes: tuple[str, ...] = ("blanked outside of its image regions",)
    else:
        keep, notes = _moving(grey(frames)), ("blanked where nothing moves, outside of the image",)
        found = bool(keep.any())
        if not found:
            keep, notes = np.ones((height, width), bool), ("nothing moves: text beside the image could not be found",)
    low, high = _range(frames)
    bright, coloured = np.zeros((height, width), bool), 0.0
    for frame in frames:  # one at a time, for they may be large
        if frame.ndim == 3:
            spread = frame.max(axis=-1).astype(np.int16) - frame.min(axis=-1)
            coloured += float((spread > GREY_STEP)[keep].mean()) / len(frames)
        bright |= grey(frame[None])[0].astype(np.float32) - low > (high - low) * BLACK / 255
    if coloured > COLOURED:
        raise DataError("colour (Doppler) where grey is expected", where=clip.path)
    bright &= keep
    box = _box(bright) if bright.any() else whole
    inside = keep[box]
    if clip.facts.keep and keep.all():  # one region, of all there is
        notes = ()
    return View(box, None if inside.all() else inside, notes, found)


def grey(frames: Array) -> Array:
    """(n, H, W) of (n, H, W) or (n, H, W, 3), of the same type."""
    if frames.ndim == 3:
        return frames
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.stack([np.rint(frame @ weights).astype(frames.dtype) for frame in frames])


def _range(frames: Array) -> tuple[float, float]:
    return (0.0, 255.0) if frames.dtype == np.uint8 else (float(frames.min()), float(frames.max()))


def _moving(frames: Array) -> Array:
    """(H, W) bool: the area of brightness in which most changes over time, without holes; none where nothing changes.

    It ends where black surrounds it, and where rows and columns at its border do not change; these only if most of it changes,
    for a still organ is no border.
    """
    from scipy.ndimage import binary_dilation, binary_fill_holes, label, uniform_filter

    low, high = _range(frames)
    smooth = uniform_filter(frames[0].astype(np.float32), 3)
    least, most = smooth, smooth.copy()
    for frame in frames[1:]:
        smooth = uniform_filter(frame.astype(np.float32), 3)
        least, most = np.minimum(least, smooth), np.maximum(most, smooth)
    change = most - least > max(high - low, 1e-6) * MOVING / 255
    bright = most - low > (high - low) * BLACK / 255
    areas, count = label(binary_dilation(bright, np.ones((3, 3)), iterations=JOINED))
    moving = np.bincount(areas[change & bright], minlength=count + 1)
    moving[0] = 0
    if not moving.any():
        return np.zeros(change.shape, bool)
    area = (areas == int(np.argmax(moving))) & bright
    box, moved = _box(area), _box(change & area)
    if _size(moved) >= MOSTLY * _size(box):
        inner = np.zeros_like(area)
        inner[moved] = True
        area &= inner
    return np.asarray(binary_fill_holes(area))


def _size(box: tuple[slice, slice]) -> int:
    return int(np.prod([side.stop - side.start for side in box]))


def _box(mask: Array) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
