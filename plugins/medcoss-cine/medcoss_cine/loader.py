"""From a folder of recordings to windows in time."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medcoss_cli.errors import DataError
from medcoss_cli.kit import Entry, entries
from medcoss_cli.plugin import Record, Sample, Skipped

if TYPE_CHECKING:
    from medcoss_cine.clip import Facts
    from medcoss_cine.view import View

FEWEST = 2
"""Frames of a clip; one is a still."""
Part = tuple[str | int, ...]


@dataclass(frozen=True)
class ClipFolder:
    """Recordings over time: multi-frame DICOM, AVI, MP4, and 4D NIfTI (each slice over time), cut into windows of frames.

    Samples are (1, T, H, W), grey, 0 to 255, without black borders and without text beside the image. Their spacing is
    (ms from frame to frame, mm between rows, mm between columns), where the file says all three.
    """

    window: int = 16
    """Frames of a sample; a shorter recording is one sample of all its frames."""
    stride: int = 16
    """Frames from one window to the next."""
    frame_ms: float | None = None
    """Take the frame that is nearest to each multiple of so many ms; None: every frame as recorded."""
    per_clip: int = 16
    """Windows of a recording, at most; they are spread over it."""
    dicom: tuple[str, ...] = ("US", "IVUS", "XA", "RF")
    """DICOM modality codes that are read."""
    allow: tuple[str, ...] = ()
    """DICOM that may show a name and is read all the same: "secondary-capture"; "burned-in" where the text cannot be found,
    since nothing moves."""

    def find(self, root: Path, split: str = "train") -> Iterator[Record | Skipped]:
        """One record for each window of each recording under `root`; see Loader.find.

        Some frames of colour clips are decoded: only pixels distinguish colour Doppler from grey that is stored as colour.
        """
        from medcoss_cine.clip import kind_of

        for entry in entries(root, split):
            if isinstance(entry, Skipped):
                yield entry
                continue
            try:
                yield from self._recordings(entry, kind_of(entry.path))
            except DataError as error:
                sound = type(error).__name__ == "NotThis" or re.search(r"where (grey|a volume) is expected", error.what)
                yield Skipped(entry.path, error.what, bad=not sound)

    def _recordings(self, entry: Entry, kind: str) -> Iterator[Record | Skipped]:
        from medcoss_cine import dicom, nifti
        from medcoss_cine.clip import open_clip
        from medcoss_cli.kit.readers import WHAT

        if kind == "empty":
            yield Skipped(entry.path, "the file is empty", bad=True)
        elif kind == "nifti":
            size = nifti.read_shape(entry.path)[0]
            if len(size) != 4 or size[3] < FEWEST:
                yield Skipped(entry.path, "a volume without time where a clip is expected")
            else:
                for number in range(size[2]):
                    yield from self._windows(entry, ("slice", number))
        elif kind in ("dicom", "avi", "mp4"):
            clip = open_clip(entry.path)
            if isinstance(clip, dicom.DicomClip) and clip.modality not in self.dicom:
                yield Skipped(
                    entry.path, f"DICOM of modality {clip.modality or '(none)'} where {', '.join(self.dicom)} is read"
                )
            else:
                yield from self._windows(entry, ())
        else:
            yield Skipped(entry.path, f"{WHAT[kind]} where a clip is expected")

    def _windows(self, entry: Entry, part: Part) -> Iterator[Record | Skipped]:
        from medcoss_cine.clip import open_clip

        facts = open_clip(entry.path, part).facts
        if facts.frames < FEWEST:
            bad = bool(facts.notes)
            yield Skipped(entry.path, facts.notes[0] if bad else "a still image where a clip is expected", bad=bad)
            return
        if facts.risk == "secondary-capture" and facts.risk not in self.allow:
            yield Skipped(
                entry.path,
                "a secondary capture, which may show a name: not read unless allowed (--allow secondary-capture)",
            )
            return
        if facts.colour:
            _view(entry.path, part, _stamp(entry.path))
        length = len(self._chosen(facts, entry.path))
        starts = list(range(0, max(1, length - self.window + 1), self.stride))
        count = min(self.per_clip, len(starts))
        for number in range(count):
            first = starts[number * len(starts) // count]
            window = ("window", first, min(first + self.window, length))
            yield Record(entry.path, (*part, *window), entry.group or facts.patient)

    def _chosen(self, facts: Facts, path: Path) -> list[int]:
        """Numbers of the frames that windows are cut from. Raises DataError where `frame_ms` is set and times are not known."""
        import numpy as np

        if self.frame_ms is None:
            return list(range(facts.frames))
        if facts.times is None:
            raise DataError(
                "the file does not say its frame rate, so it cannot be resampled in time",
                where=path,
                fix="leave frame_ms out",
            )
        times = np.asarray(facts.times)
        targets = np.arange(int((times[-1] - times[0]) / self.frame_ms + 1e-6) + 1) * self.frame_ms + times[0]
        after = np.clip(np.searchsorted(times, targets), 1, len(times) - 1)
        nearest = np.where(targets - times[after - 1] <= times[after] - targets, after - 1, after)
        return [int(number) for number in nearest]

    def read(self, record: Record) -> Sample:
        """One window of one recording. Raises DataError, also for colour where grey is read."""
        import numpy as np

        from medcoss_cine.clip import open_clip
        from medcoss_cine.view import grey
        from medcoss_cli.kit.readers.image import as_eight_bits

        *part, _, first, end = record.part or ()
        clip = open_clip(record.source, tuple(part))
        facts, view = clip.facts, _view(record.source, tuple(part), _stamp(record.source))
        if facts.risk == "burned-in" and not view.found and facts.risk not in self.allow:
            raise DataError(
                "burnt-in text, which may be a name, cannot be found, since nothing moves",
                where=record.source,
                fix="--allow burned-in",
            )
        numbers = self._chosen(facts, record.source)[int(first) : int(end)]
        if len(numbers) < int(end) - int(first):
            raise DataError("the file has fewer frames than when it was listed", where=record.source)
        different = sorted(set(numbers))
        frames = view.cut(grey(clip.read(different)))[[different.index(number) for number in numbers]]
        step = facts.step if self.frame_ms is None else self.frame_ms
        spacing = None if step is None or facts.spacing is None else (step, *facts.spacing)
        notes = [*facts.notes, *view.notes]
        if facts.variable is not None:
            notes.append(facts.variable)
        if facts.colour:
            notes.append("grey image stored as colour")
        return Sample(as_eight_bits(np.ascontiguousarray(frames))[None], spacing=spacing, notes=tuple(notes))


def _stamp(path: Path) -> tuple[int, int]:
    stamp = path.stat()
    return stamp.st_mtime_ns, stamp.st_size


@functools.lru_cache(maxsize=64)  # of a recording all windows are cut alike
def _view(path: Path, part: Part, stamp: tuple[int, int]) -> View:
    from medcoss_cine.clip import open_clip
    from medcoss_cine.view import find_view

    return find_view(open_clip(path, part))
