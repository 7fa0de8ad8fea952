"""One window of a volume; the volume is decoded once for all its windows."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from medcoss_cli.errors import DataError
from medcoss_cli.kit import sources
from medcoss_cli.kit.readers import nifti, series
from medcoss_cli.kit.readers.volume import Array, FileGrid, VolumePlan, cut_grid
from medcoss_cli.plugin import Record, Sample

AIR = -200
"""HU; a volume in which nothing is below has no air in it, so its values are hardly Hounsfield units."""


def read_window(record: Record, plan: VolumePlan, hounsfield: bool, straight: bool = False) -> Sample:
    """The slices of a record with part (…, "window", first, end). Raises DataError."""
    *place, _, first, end = record.part or ("window", 0, 0)
    stats = [path.stat() for path in (record.source, *record.files) if path.exists()]
    changed = tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)
    found = _volume(record.source, record.files, tuple(place), plan, hounsfield, straight, changed)
    if isinstance(found, DataError):
        raise DataError(found.what, where=found.where, fix=found.fix)
    volume, grid, stored = found
    depth, height, width = volume.shape
    begin, stop = int(first), int(end) or depth
    if stop > depth:
        raise DataError("the volume has fewer slices than when it was found", where=record.source)
    part = cut_grid(grid, (slice(begin, stop), slice(0, height), slice(0, width)))
    # a copy, so that a window does not keep its whole volume in memory
    array = np.array(volume[begin:stop], dtype=np.float32)[None]
    spacing = None if part.spacing is None else part.spacing[::-1]
    return Sample(array, spacing=spacing, origin=part.origin, direction=part.direction, notes=part.notes, stored=stored)


@functools.lru_cache(maxsize=1)
def _volume(
    source: Path,
    files: tuple[Path, ...],
    place: tuple[str | int, ...],
    plan: VolumePlan,
    hounsfield: bool,
    straight: bool,
    changed: tuple[tuple[int, int], ...],
) -> tuple[Array, FileGrid, FileGrid] | DataError:
    """The whole volume (D, H, W) as `plan` wants it, its grid, and the grid of its file; or why not, once for all windows."""
    try:
        if place[:1] == ("series",):
            item = series.open_series(source, str(place[1]), files)
            array, grid = series.read(item.straight() if straight else item)
        elif place[:1] == ("key",):
            array, grid = sources.read_volume(source, place)
        else:
            array, grid = nifti.read(source, int(place[1]) if place else 0)
        if hounsfield and not bool((array < AIR).any()):
            raise DataError(f"no air (no voxel below {AIR}): the values are not Hounsfield units", where=source)
        return *plan.apply(array, grid, source), grid
    except DataError as error:
        return error.with_traceback(None)
