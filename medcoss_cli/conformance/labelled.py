"""What fine-tuning asks of a loader: whole recordings, the grid of volumes, masks that lie on their samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medcoss_cli.data.labelled import MASK, read_manifest, with_records
from medcoss_cli.data.masks import grid_of
from medcoss_cli.data.read import Listing, listed, read_checked
from medcoss_cli.data.recordings import parts_of
from medcoss_cli.data.segmented import check_grid, read_numbers
from medcoss_cli.errors import MedcossError
from medcoss_cli.kit.manifest import NAME, rows_of
from medcoss_cli.plugin import CompleteModality, Record, Skipped, WholeLoader

MASKS = 3
"""Masks that are read."""


def check_labelled(modality: CompleteModality, root: Path, records: Sequence[Record], place: str) -> Iterator[str]:
    """Each fault in a sentence.

    Args:
        records: what the loader finds at `root`, of all splits.
        place: what the folder is called in a sentence.
    """
    groups: dict[object, str | None] = {}
    parted = {
        record.recording for record in records if groups.setdefault(record.recording, record.group) != record.group
    }
    if parted:
        yield f"its loader puts the parts of one recording into different groups ({len(parted)} recordings of {place})"
    uncut = modality
    if isinstance(modality.loader, WholeLoader):
        loader: Any = modality.loader.whole()
        if not all(callable(getattr(loader, name, None)) for name in ("find", "read")):
            yield f"its loader's whole() gives {type(loader).__name__}, which has not find and read"
            return
        uncut = replace(modality, loader=loader)
        yield from _check_whole(uncut, root, records)
    masks = (root / NAME).is_file() and any(row.get("mask") for _, row in rows_of(root / NAME))
    yield from _check_masks(uncut, root, place) if masks else _check_grid(uncut, root)


def _check_whole(modality: CompleteModality, root: Path, records: Sequence[Record]) -> Iterator[str]:
    recordings = [item for item in listed(modality, root, "all") if isinstance(item, Record)]
    if len({record.recording for record in recordings}) < len(recordings):
        yield "its loader's whole() still gives several records of one recording"
    missing = {record.recording for record in records} - {record.recording for record in recordings}
    if missing:
        yield f"its loader's whole() does not find {len(missing)} recordings that its loader finds"
    for record in recordings[:1]:
        try:
            read_checked(modality, record)
        except MedcossError as error:
            yield f"its loader's whole() gives what cannot be used ({error.what})"


def _check_grid(modality: CompleteModality, root: Path) -> Iterator[str]:
    """A grid is not asked for where there is no mask; one that is given is the array's."""
    records = [item for item in listed(modality, root, "all") if isinstance(item, Record)]
    if not records or modality.dims < 3 or len(parts_of(records)) < len(records):
        return
    try:
        sample = read_checked(modality, records[0])
        if sample.stored is not None:
            grid_of(sample, None)
    except MedcossError as error:
        yield f"its samples do not lie on the grid they name ({error})"


def _check_masks(modality: CompleteModality, root: Path, place: str) -> Iterator[str]:
    """The first masks of a manifest can be read and lie on their samples."""
    items = listed(modality, root, "all")
    listing = Listing(
        root,
        [item for item in items if isinstance(item, Record)],
        [item for item in items if isinstance(item, Skipped)],
    )
    try:
        cases = with_records(read_manifest(root, MASK), listing, single=True)
        check_grid(modality, cases)
        for case in cases[:MASKS]:
            assert case.record is not None
            read_numbers(modality, case, read_checked(modality, case.record))
    except MedcossError as error:
        yield f"the masks of {place} cannot be used ({error.what}{f'; {error.fix}' if error.fix else ''})"
