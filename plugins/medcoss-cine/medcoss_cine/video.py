"""AVI and MP4 by PyAV (FFmpeg). The container is set by the file's first bytes: a playlist cannot name other files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cine.clip import MAX_FRAMES, Array, Clip, Facts
from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import plainly

_FORMATS = {"avi": "avi", "mp4": "mov"}


class VideoClip(Clip):
    """The first video stream of a file; sound is ignored. Raises DataError."""

    def __init__(self, path: Path, kind: str) -> None:
        self._kind = kind
        with plainly(path), _stream(path, kind) as (container, stream):
            # what was sent to be shown, in order: packets are counted, since headers are often wrong
            stamps: list[int | None] = []
            declared = int(stream.frames or 0)
            try:
                for packet in container.demux(stream):
                    if packet.size and not packet.is_corrupt:
                        stamps.append(packet.pts)
                    if len(stamps) > MAX_FRAMES:
                        break
            except _errors():  # cut off: the packets before are there
                pass
            # AVI has no such stamps: frames are counted
            known = [stamp for stamp in stamps if stamp is not None]
            self._stamps = sorted(set(known)) if len(set(known)) == len(stamps) else None
            context, base = stream.codec_context, stream.time_base
            count = len(stamps)
            times: tuple[float, ...] | None = None
            if self._stamps and base is not None:
                times = tuple(float((stamp - self._stamps[0]) * base * 1000) for stamp in self._stamps)
            elif stream.average_rate:
                times = tuple(float(number * 1000 / stream.average_rate) for number in range(count))
            notes = (f"{count} frames where {declared} are declared",) if count < declared else ()
            facts = Facts(count, (context.height, context.width), True, times, notes=notes)
        super().__init__(path, facts)

    def decode(self, numbers: Sequence[int]) -> Array:
        """(n, H, W, 3) uint8, RGB. Raises DataError."""
        with plainly(self.path), _stream(self.path, self._kind) as (container, stream):
            if self._stamps is not None:
                container.seek(self._stamps[numbers[0]], stream=stream, backward=True)
            wanted, frames = set(numbers), []
            place = {stamp: number for number, stamp in enumerate(self._stamps or ())}
            for count, frame in enumerate(container.decode(stream)):
                number = count if self._stamps is None else place.get(frame.pts, -1)
                if number in wanted:
                    if (frame.height, frame.width) != self.facts.size:
                        raise DataError("its frames are of another size than it says", where=self.path)
                    frames.append(frame.to_ndarray(format="rgb24"))
                if number >= numbers[-1]:
                    break
        if len(frames) < len(numbers):
            raise DataError("the file is truncated or damaged: frames of it cannot be decoded", where=self.path)
        return np.stack(frames)


def _errors() -> tuple[type[Exception], ...]:
    import av

    return (av.error.FFmpegError,)


@contextmanager
def _stream(path: Path, kind: str) -> Iterator[tuple[Any, Any]]:
    try:
        import av
    except ImportError as error:
        raise DataError(
            f"videos need PyAV, which cannot be imported ({error})", where=path, fix="pip install medcoss-cine"
        ) from error
    av.logging.set_level(None)
    # read through Python: FFmpeg opens no file or address by itself
    options: dict[str, Any] = {"format": _FORMATS[kind]}
    if int(av.__version__.partition(".")[0]) < 19:  # later ones have no such option
        options["metadata_errors"] = "ignore"
    with path.open("rb") as file, av.open(file, **options) as container:
        if not container.streams.video:
            raise DataError("the file has no video stream", where=path)
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        if stream.codec_context.width * stream.codec_context.height == 0:
            raise DataError("the file does not say the size of its frames", where=path)
        yield container, stream
