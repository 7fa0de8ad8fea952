"""One window of a volume; the volume is decoded once for all its windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medcoss_cli.errors import DataError
from medcoss_cli.kit import sources
from medcoss_cli.kit.readers import nifti, series
from medcoss_cli.kit.readers.volume import FileGrid, Planned, VolumePlan, cut_grid
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
    volume, stored = found
    width, height, depth = volume.grid.size
    begin, stop = int(first), int(end) or depth
    if stop > depth:
        raise DataError("the volume has fewer slices than when it was found", where=record.source)
    part = cut_grid(volume.grid, (slice(begin, stop), slice(0, height), slice(0, width)))
    array = volume.slices(begin, stop)[None]
    spacing = None if part.spacing is None else part.spacing[::-1]
    return Sample(array, spacing=spacing, origin=part.origin, direction=part.direction, notes=part.notes, stored=stored)


_last: dict[tuple[Any, ...], tuple[Planned, FileGrid] | DataError] = {}
"""The volume that was decoded last: its windows are asked for one after another."""


def _volume(*key: Any) -> tuple[Planned, FileGrid] | DataError:
    if key not in _last:
        _last.clear()  # before the next one is decoded, so that there are never two in memory
        _last[key] = _decoded(*key)
    return _last[key]


def _decoded(
    source: Path,
    files: tuple[Path, ...],
    place: tuple[str | int, ...],
    plan: VolumePlan,
    hounsfield: bool,
    straight: bool,
    changed: tuple[tuple[int, int], ...],
) -> tuple[Planned, FileGrid] | DataError:
    """The volume as `plan` wants it, and the grid of its file; or why not, once for all windows."""
    try:
        if place[:1] == ("series",):
            item = series.open_series(source, str(place[1]), files)
            array, grid = series.read(item.straight() if straight else item)
        elif place[:1] == ("key",):
            array, grid = sources.read_volume(source, place)
        else:
            array, grid = nifti.read(source, int(place[1]) if place else 0)
        if hounsfield and not any(bool((plane < AIR).any()) for plane in array):
            raise DataError(f"no air (no voxel below {AIR}): the values are not Hounsfield units", where=source)
        return Planned(plan, array, grid, source), grid
    except DataError as error:
        return error.with_traceback(None)
