"""Parquet: images as encoded files in a column of bytes (as Hugging Face's sets have them), texts in a column of strings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medcoss_cli.errors import DataError
from medcoss_cli.kit.readers import kind_of_bytes
from medcoss_cli.kit.readers.volume import Array
from medcoss_cli.kit.sources import Item
from medcoss_cli.kit.sources.meaning import as_text, names_groups

MAX_TEXTS = 2**29
"""Letters of the texts of a file, and bytes of one column in a row group."""


def items(path: Path) -> Iterator[Item]:
    """Each value of each column of bytes, named column/row. Raises DataError where there is no such column."""
    file = pq.ParquetFile(path)
    check_chunks(file, path)
    columns = [field.name for field in file.schema_arrow if _is_bytes(field.type)]
    if not columns:
        raise DataError("a Parquet file without a column of encoded images (bytes)", where=path)
    owner = next((name for name in keys(path) if names_groups(name)), None)
    groups = {} if owner is None else values(path, owner)
    for name in columns:
        row = 0
        for batch in file.iter_batches(64, columns=[name]):
            for value in batch.column(0).to_pylist():
                kind = kind_of_bytes((_bytes(value) or b"")[:1024])
                yield Item(f"{name}/{row}", kind=kind, group=groups.get(row) or None)
                row += 1


def keys(path: Path) -> list[str]:
    """The columns that may have an entry for each row."""
    return [field.name for field in pq.ParquetFile(path).schema_arrow if not _is_bytes(field.type)]


def values(path: Path, key: str) -> dict[int, str]:
    """The entries of a column by row."""
    column = pq.ParquetFile(path).read(columns=[key]).column(0)
    return {row: as_text(value) for row, value in enumerate(column.to_pylist())}


def number(path: Path, key: str) -> int:
    """The row of a value."""
    return int(key.rpartition("/")[2])


def array(path: Path, key: str, index: int | None) -> Array:
    """Raises DataError: there are no arrays in it."""
    raise DataError("there are no arrays in a Parquet file", where=path)


def content(path: Path, key: str) -> bytes:
    """The bytes of a column's row."""
    name, _, row = key.rpartition("/")
    value, first = _rows(path, name, int(row), path.stat().st_mtime_ns)
    return _bytes(value[int(row) - first]) or b""


def texts(path: Path, column: str, group: str | None) -> list[tuple[str | None, str | None]]:
    """Text and group of each row. Raises DataError without such a column."""
    file = pq.ParquetFile(path)
    names = {name.lower(): name for name in file.schema_arrow.names}
    if column.lower() not in names:
        raise DataError(f"no column {column!r} (columns: {', '.join(file.schema_arrow.names)})", where=path)
    wanted = list(dict.fromkeys(names[name.lower()] for name in (column, group) if name and name.lower() in names))
    check_chunks(file, path)
    found: list[tuple[str | None, str | None]] = []
    size = 0
    # as a dictionary where it is one: each text is in memory once until it is taken out
    batches = pq.ParquetFile(path, read_dictionary=_texts_of(file, wanted)).iter_batches(256, columns=wanted)
    for batch in batches:
        columns = [batch.column(name) for name in wanted]
        for row in range(batch.num_rows):
            values = [column[row].as_py() for column in columns]
            texts = [None if value is None else str(value) for value in values]
            size += sum(len(text) for text in texts if text is not None)
            if size > MAX_TEXTS:
                raise DataError(f"its texts are of more than the limit of {MAX_TEXTS:,} letters", where=path)
            found.append((texts[0], texts[1] if len(texts) > 1 else None))
    return found


def check_chunks(file: Any, path: Path) -> None:
    """Raise DataError where a column of a row group, which is decoded as a whole, is too large by the file's own metadata."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        sizes = [group.column(column).total_uncompressed_size for column in range(group.num_columns)]
        if max(sizes, default=0) > MAX_TEXTS:
            raise DataError(
                f"{max(sizes):,} bytes of one column in a row group are more than the limit of {MAX_TEXTS:,}",
                where=path,
                fix="write it with smaller row groups",
            )


def _texts_of(file: Any, names: list[str]) -> list[str]:
    """Those columns that are text by themselves."""
    fields = [field for field in file.schema_arrow if field.name in names]
    return [field.name for field in fields if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]


@lru_cache(maxsize=1)
def _group_of_rows(path: Path, name: str, number: int, changed: int) -> list[Any]:
    values: list[Any] = pq.ParquetFile(path).read_row_group(number, columns=[name]).column(0).to_pylist()
    return values


def _rows(path: Path, name: str, row: int, changed: int) -> tuple[list[Any], int]:
    """The values of the row group that a row is in, and the number of its first row."""
    metadata, first = pq.ParquetFile(path).metadata, 0
    for number in range(metadata.num_row_groups):
        count = metadata.row_group(number).num_rows
        if row < first + count:
            return _group_of_rows(path, name, number, changed), first
        first += count
    raise DataError(f"row {row} no longer exists", where=path)


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _bytes(value: Any) -> bytes | None:
    found: bytes | None = value.get("bytes") if isinstance(value, dict) else value
    return found
