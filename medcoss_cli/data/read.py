"""From a folder of files to samples: find, read, check, resize, encode. No torch in here."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.console import Screen
from medcoss_cli.data.resize import resize
from medcoss_cli.errors import DataError, MedcossError, PluginError, ResourceError, shortage
from medcoss_cli.kit.layout import layout_of
from medcoss_cli.kit.manifest import NAME, Unmatched, manifest_of, naming, notes_of, outside, rows_of
from medcoss_cli.plugin import CompleteModality, Record, Sample, Skipped

MOST_ROWS = 20
"""Rows of a manifest without their file that are printed one by one."""


@dataclass(frozen=True)
class Listing:
    """What lies in a folder, before it is read."""

    root: Path
    records: list[Record]
    skipped: list[Skipped]


class Blank(DataError):  # noqa: N818 - not a fault
    """A part of a good file with nothing in it: left out, but the file is not bad."""


def find(
    modality: CompleteModality,
    root: Path,
    split: str = "train",
    screen: Screen | None = None,
    *,
    columns: Mapping[str, str] | None = None,
) -> Listing:
    """List a folder's records and print what is left out and how patients are inferred.

    Args:
        columns: names of the manifest's columns where they differ, see `kit.manifest.naming`.

    Raises: DataError for a folder that is missing or has nothing of this modality, with the reasons.
    """
    screen = screen or Screen()
    if not root.exists():
        raise DataError("the folder does not exist", where=root, fix="check the path and the data root")
    if not os.access(root, os.R_OK):
        raise ResourceError(
            "permission denied when reading the folder", where=root, fix="ask the owner for read permission"
        )
    with naming(columns):
        listing = Listing(root.parent if root.is_file() and manifest_of(root) else root, [], [])
    for item in listed(modality, root, split, columns):
        if isinstance(item, Record):
            listing.records.append(item)
        else:
            listing.skipped.append(item)
    if not listing.records:
        reasons = reason_counts(item.reason for item in listing.skipped)
        raise DataError(
            f"no {modality.title} data here" + (f" (left out: {reasons})" if reasons else ", the folder is empty"),
            where=root,
            fix=f"run `medcoss data check {root}` to see what the folder contains",
        )
    files = len({record.source for record in listing.records})
    screen.say(f"{modality.name}: {len(listing.records)} records in {files} files")
    tell_links(root, (file for record in listing.records for file in record.files or (record.source,)), screen)
    unmatched = [item.reason for item in listing.skipped if isinstance(item, Unmatched)]
    for reason in unmatched[:MOST_ROWS]:
        screen.warn(reason)
    if len(unmatched) > MOST_ROWS:
        screen.warn(f"and {len(unmatched) - MOST_ROWS} rows more that name files which are not there")
    if others := [item.reason for item in listing.skipped if not isinstance(item, Unmatched)]:
        screen.warn(f"{modality.name}: {len(others)} left out: {reason_counts(others)}")
    _tell_patients(modality, root, listing, screen, columns)
    return listing


def tell_links(root: Path, files: Iterable[Path], screen: Screen) -> None:
    """Print how many files are outside of a folder, without their names: they are read, for links are how data is laid out."""
    if count := outside(root, files):
        screen.warn(f"{count} files lie outside of the folder: links lead to them")


def _tell_patients(
    modality: CompleteModality, root: Path, listing: Listing, screen: Screen, columns: Mapping[str, str] | None
) -> None:
    """Print the number of patients and the rule that infers them; a warning without a rule, before anything is split."""
    records = listing.records
    groups = {record.group for record in records if record.group is not None}
    alone = len({record.recording for record in records if record.group is None})
    with naming(columns):
        manifest = manifest_of(root)
        grouped = manifest is not None and any(row.get("group") for _, row in rows_of(manifest))
        for note in () if manifest is None else notes_of(manifest):
            screen.warn(f"{manifest}: {note}")
    if groups:
        layout = layout_of(listing.root, list({record.source: None for record in records}), chosen=True)
        by_layout = any(record.group == layout.patient(record.source) for record in records if record.group)
        rule = f"the column group of {manifest.name}" if manifest and grouped else "a manifest, a header or a column"
        rule = str(layout.rule) if by_layout and not grouped else rule
        more = f", and {alone} without one, each by itself" if alone else ""
        screen.say(f"{modality.name}: patients: {len(groups)}, by {rule}{more}")
    elif alone > 1:
        screen.warn(
            f"{modality.name}: no patient can be told from a manifest, a header or a name, so each of {alone} recordings counts "
            f"as a patient of its own; if patients have several, list them in a {NAME} with the columns path and group"
        )


def listed(
    modality: CompleteModality, root: Path, split: str, columns: Mapping[str, str] | None = None
) -> list[Record | Skipped]:
    """What the plugin's loader finds; a record's sidecars are no files of their own, and it is bad without them.

    Raises: PluginError where it fails in a way that is no user's fault.
    """
    try:
        with naming(columns):
            items = list(modality.loader.find(root, split))
    except (MedcossError, OSError, MemoryError):
        raise
    except Exception as error:
        raise PluginError(
            f"the {modality.name} plugin fails to list this folder ({type(error).__name__}: {error})",
            where=root,
            fix="see its traceback with --debug and report it to its author",
        ) from error
    sidecars = {path for item in items if isinstance(item, Record) for path in item.files}
    missing = {path for path in sidecars if not path.is_file()}
    records: list[Record | Skipped] = []
    for item in items:
        if not isinstance(item, Record):
            records += [item] if item.source not in sidecars else []
        elif absent := [path.name for path in item.files if path in missing]:
            records.append(Skipped(item.source, f"{' and '.join(absent)}, which it needs, is not there", bad=True))
        else:
            records.append(item)
    return records


def reason_counts(reasons: Iterable[str] | Mapping[str, int], limit: int = 4) -> str:
    """The commonest reasons with their numbers, in one line; of a mapping, its numbers."""
    counts = Counter(reasons).most_common()
    shown = "; ".join(f"{count} x {reason}" for reason, count in counts[:limit])
    return shown + (f"; and {len(counts) - limit} other reasons" if len(counts) > limit else "")


def read_checked(modality: CompleteModality, record: Record) -> Sample:
    """Read one record and see that it is what the modality says: dims, channels, finite, not constant.

    NaN and infinite values become the smallest finite value, with a note. Raises: DataError with a reason.
    """
    try:
        sample = modality.loader.read(record)
    except MedcossError:
        raise
    except MemoryError as error:
        raise DataError("not enough memory to read it", where=record.source) from error
    except Exception as error:
        raise shortage(error, record.source) or DataError(
            f"it cannot be read ({type(error).__name__}: {error})", where=record.source
        ) from error
    if record.notes:
        sample = dataclasses.replace(sample, notes=tuple(dict.fromkeys((*record.notes, *sample.notes))))
    return checked(modality, sample, record.source, DataError if record.part is None else Blank)


def checked(modality: CompleteModality, sample: Sample, where: object, blank: type[DataError] = DataError) -> Sample:
    """The sample, if it is what the modality says; see `read_checked`.

    Args:
        where: what errors name.
        blank: what is raised where every value is the same.
    """
    array = sample.array
    if isinstance(array, str):
        if modality.text_tokenizer is None:
            raise DataError("a text where numbers are expected", where=where)
        return dataclasses.replace(sample, notes=(*sample.notes, *modality.text_tokenizer.notes(sample)))
    if array.ndim - 1 != modality.dims:
        raise DataError(f"{array.ndim - 1}D data where {modality.dims}D is expected", where=where)
    if array.shape[0] != modality.channels:
        raise DataError(f"{array.shape[0]} channels where {modality.channels} are expected", where=where)
    if array.size == 0:
        raise DataError("it is empty", where=where)
    if array.dtype.kind not in "buif":
        raise DataError(f"its values are {array.dtype}, not real numbers", where=where)
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.any():
            raise DataError("every value is NaN or infinite", where=where)
        if not finite.all():
            array = np.where(finite, array, array[finite].min())
            share = 1 - finite.mean()
            note = f"NaN or infinite values ({share:.2%}) were replaced by the smallest finite value"
            sample = dataclasses.replace(sample, array=array, notes=(*sample.notes, note))
    if array.min() == array.max():
        raise blank("every value is the same", where=where)
    return sample


def encode(modality: CompleteModality, sample: Sample) -> tuple[np.ndarray[Any, Any], float, float]:
    """Resize to the modality's size and turn into the integers that are stored."""
    if not isinstance(sample.array, str):
        sample = dataclasses.replace(sample, array=resize(sample.array, modality.size))
    integers, scale, offset = modality.intensity.encode(sample)
    return np.asarray(integers), float(scale), float(offset)


def with_vocabulary(modality: CompleteModality, listing: Listing, screen: Screen) -> CompleteModality:
    """The modality with a vocabulary learned from all texts found, where it needs one and has none."""
    tokenizer = modality.text_tokenizer
    if tokenizer is None or tokenizer.vocabulary is not None:
        return modality
    texts: list[str] = []
    groups: list[str | None] = []
    with screen.progress(f"reading {modality.name} for a vocabulary", len(listing.records)) as bar:
        for record in listing.records:
            try:
                texts.append(read_checked(modality, record).array)
                groups.append(record.group)
            except DataError:
                continue  # told when the set is prepared
            finally:
                bar.advance()
    return modality.with_vocabulary(tokenizer.learn(texts, groups))
