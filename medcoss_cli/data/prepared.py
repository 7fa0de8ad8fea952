"""A prepared set: all samples of a folder at one size, as integers in memory-mapped shards beside an index."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, StringConstraints

from medcoss_cli.errors import DataError
from medcoss_cli.store import typed

INDEX = "index.json"
QUARANTINE = "quarantine.csv"


class _Shard(BaseModel, strict=True, extra="allow"):
    file: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    rows: Annotated[int, Field(ge=0)]


class _Index(BaseModel, strict=True, extra="allow"):
    rows: Annotated[int, Field(ge=0)]
    size: list[Annotated[int, Field(gt=0)]]
    data_hash: str
    shards: list[_Shard]


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
        fix = "delete it and prepare again"
        try:
            index = typed.read_plain(
                _Index, folder / INDEX, fix=fix, error=DataError, what="the index of the prepared set"
            )
        except FileNotFoundError as error:
            raise DataError("this is not a finished prepared set", where=folder, fix=fix) from error
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
        with np.load(self.folder / "rows.npz", allow_pickle=False) as table:
            return {name: table[name] for name in ("scale", "offset", "groups", "records")}

    @cached_property
    def _shards(self) -> list[np.ndarray[Any, Any]]:
        names = [shard["file"] for shard in self.index["shards"]]
        return [np.load(self.folder / name, mmap_mode="r", allow_pickle=False) for name in names]

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
