"""What a user gives to `embed` and `predict`: paths, arrays, texts or a column of a table, as samples with names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.data.inputs import list_records, names_of
from medcoss_cli.data.read import checked, read_checked
from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.plugin import CompleteModality, Sample
from medcoss_cli.python.arrays import sample_of

_FILES = (".txt", ".csv", ".tsv", ".jsonl")


def items_of(modality: CompleteModality, inputs: Any) -> list[Any]:
    """One entry for each path, array or text. Raises: UsageError for a whole table."""
    if isinstance(inputs, str | os.PathLike):
        return [inputs]
    if hasattr(inputs, "columns"):
        raise UsageError("a table where one column is expected", fix="give a column, as in table['path']")
    if hasattr(inputs, "to_list"):
        return list(inputs.to_list())
    if hasattr(inputs, "shape"):  # one array is one sample, unless it has an axis more than a sample with its channels
        return list(inputs) if len(inputs.shape) == modality.dims + 2 else [inputs]
    return list(inputs)


def samples_of(
    modality: CompleteModality, inputs: Any, spacing: Sequence[float] | None = None
) -> Iterator[tuple[str, Sample]]:
    """(name, sample), one after another; a file of several windows, pages or frames gives several of one name.

    A folder gives all its files, and what cannot be read of it is a warning; a table gives all its rows.

    Raises: UsageError for a path that does not exist, DataError for a file or array that cannot be used.
    """
    for number, item in enumerate(items_of(modality, inputs)):
        where = f"input {number}"
        if isinstance(item, str) and modality.text_tokenizer is not None and not _is_path(item):
            yield where, checked(modality, Sample(item), where)
        elif isinstance(item, str | os.PathLike):
            yield from _read(modality, Path(item))
        elif item is None:
            raise DataError("there is no value", where=where, fix="drop this row")
        else:
            yield where, sample_of(modality, item, spacing, where)


def grouped(samples: Iterator[tuple[str, Sample]]) -> Iterator[tuple[str, list[Sample]]]:
    """Samples that follow one another under one name, together."""
    for name, group in groupby(samples, key=lambda pair: pair[0]):
        yield name, [sample for _, sample in group]


def _is_path(text: str) -> bool:
    """Is a string that may be a text the name of a file? One word with a file's ending is, even if the file is missing."""
    if len(text) > 1000 or "\n" in text:
        return False
    return Path(text).exists() or (" " not in text and text.lower().endswith(_FILES))


def _read(modality: CompleteModality, path: Path) -> Iterator[tuple[str, Sample]]:
    records, bad = list_records(modality, [path], Screen())
    if bad and not path.is_dir():
        raise DataError(bad[0].reason, where=bad[0].source)
    reasons = [(item.source, item.reason) for item in bad]
    for (_, record), (name, _) in zip(records, names_of(records), strict=True):
        try:
            # a file is called as it was given, unless it holds several recordings
            yield (
                str(path) if path.is_file() and not record.recording[1] else name.as_posix(),
                read_checked(modality, record),
            )
        except DataError as error:
            if not path.is_dir():
                raise
            reasons.append((record.source, error.what))
    if reasons:
        source, reason = reasons[0]
        warnings.warn(f"{len(reasons)} files of {path} are skipped, the first: {source.name}: {reason}", stacklevel=4)
