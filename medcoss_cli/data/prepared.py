"""A prepared set: all samples of a folder at one size, as integers in memory-mapped shards beside an index."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, Field, StringConstraints, model_validator

from medcoss_cli.errors import DataError
from medcoss_cli.store import typed
from medcoss_cli.store.arrays import is_plain, load_arrays, open_array

INDEX = "index.json"
ROWS = "rows.npz"
QUARANTINE = "quarantine.csv"


_KINDS = {"scale": "f", "offset": "f", "groups": "iu", "records": "iu"}
"""Of the arrays in rows.npz, those of numpy's dtypes that they may have."""


NAME = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""Of a file in the folder of a prepared set: it leads nowhere else."""
HEX = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]*$")]
COUNT = Annotated[int, Field(ge=0, le=2**40)]
"""Of rows, files or bytes: more than there can be, and less than numpy's whole numbers hold."""


def again(folder: Path) -> str:
    """What to do about a damaged set: it is made as a whole, a part of it alone cannot be."""
    return f"delete {folder} and prepare again"


class _Shard(BaseModel, strict=True, extra="allow"):
    file: NAME
    rows: Annotated[COUNT, Field(gt=0)]


class _Index(BaseModel, strict=True, extra="allow"):
    rows: Annotated[COUNT, Field(gt=0)]
    size: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)]
    data_hash: HEX
    bad: Annotated[float, Field(ge=0)]
    refused: dict[str, COUNT]
    notes: dict[str, COUNT]
    shards: Annotated[list[_Shard], Field(min_length=1)]

    @model_validator(mode="after")
    def _all_rows(self) -> Self:
        if sum(shard.rows for shard in self.shards) != self.rows:
            raise ValueError(f"its parts do not have {self.rows} rows")
        return self


@dataclass(frozen=True)
class PreparedSet:
    """What `prepare` wrote. Private: it holds the user's samples. Reads touch only the rows asked for.

    Args:
        folder: with index.json, rows.npz, shard-*.npy and quarantine.csv.
        index: what index.json says.
    """

    folder: Path
    index: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> PreparedSet:
        """Raises: DataError if the folder holds no finished prepared set."""
        try:
            index = typed.read_plain(
                _Index, folder / INDEX, fix=again(folder), error=DataError, what="the index of the prepared set"
            )
        except FileNotFoundError as error:
            raise DataError("this is not a finished prepared set", where=folder, fix=again(folder)) from error
        return cls(folder, index)

    def __len__(self) -> int:
        return int(self.index["rows"])

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(self.index["size"])

    @property
    def key(self) -> str:
        """Hash of inputs and settings: the folder's name."""
        return self.folder.name

    @property
    def data_hash(self) -> str:
        """Hash of the stored integers; says nothing of names or paths."""
        return str(self.index["data_hash"])

    @property
    def quarantine(self) -> Path:
        """The table of files that could not be used, with reasons."""
        return self.folder / QUARANTINE

    @cached_property
    def _rows(self) -> dict[str, np.ndarray[Any, Any]]:
        path, what = self.folder / ROWS, "the table of rows of the prepared set"
        rows = load_arrays(path, _KINDS.keys(), fix=again(self.folder), error=DataError, what=what)
        for name, array in rows.items():
            if array.shape != (len(self),) or not is_plain(array, _KINDS[name]):
                raise DataError(
                    f"{what} is damaged ({name} is {array.dtype} of {array.shape})", where=path, fix=again(self.folder)
                )
        return rows

    @cached_property
    def _shards(self) -> list[np.ndarray[Any, Any]]:
        shards: list[np.ndarray[Any, Any]] = []
        for shard in self.index["shards"]:
            shards.append(self._shard(shard["file"], shard["rows"], shards[0].shape[1:] if shards else None))
        return shards

    def _shard(self, name: str, rows: int, row: tuple[int, ...] | None) -> np.ndarray[Any, Any]:
        """Args: row: the shape of a row in the other shards."""
        axes = len(self.size)

        def shaped(shape: tuple[int, ...]) -> bool:  # (N, C, *size), of text (N, L)
            fits = len(shape) in (1 + axes, 2 + axes) and shape[0] == rows and shape[-axes:] == self.size
            return fits and row in (None, shape[1:])

        what = "a part of the prepared set"
        return open_array(self.folder / name, shaped, "iu", fix=again(self.folder), error=DataError, what=what)

    @cached_property
    def _starts(self) -> np.ndarray[Any, Any]:
        return np.cumsum([0, *(shard["rows"] for shard in self.index["shards"])])

    @property
    def groups(self) -> np.ndarray[Any, Any]:
        """(rows,) the number of each row's patient or document."""
        return self._rows["groups"]

    @property
    def records(self) -> np.ndarray[Any, Any]:
        """(rows,) which of the records that were found each row is."""
        return self._rows["records"]

    def read(
        self, indices: np.ndarray[Any, Any]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Integers (N, C, *size) (text: (N, L)), scale (N,) and offset (N,) float32 of these rows, copied."""
        indices = np.asarray(indices)
        first = self._shards[0]
        integers = np.empty((len(indices), *first.shape[1:]), first.dtype)
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        for place, (row, shard) in enumerate(zip(indices, shards, strict=True)):
            integers[place] = self._shards[shard][row - self._starts[shard]]
        return integers, self._rows["scale"][indices], self._rows["offset"][indices]

    def __getstate__(self) -> dict[str, Any]:  # a worker process maps the shards itself
        return {"folder": self.folder, "index": self.index}
