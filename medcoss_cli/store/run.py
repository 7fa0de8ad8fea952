"""A run's folder: its lock, recipe, facts, log, metrics, resume file and checkpoint. Private, as a whole."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, Field, PlainValidator, model_validator

from medcoss_cli.errors import CheckpointError, DataError, MedcossError, UsageError, is_of_the_machine
from medcoss_cli.store import atomic, lock, typed
from medcoss_cli.store.progress import Progress


def _place(value: object) -> str:
    """A folder's name as the system may have it: also in another encoding, which pydantic's own text refuses."""
    if not isinstance(value, str) or not value or b"\0" in os.fsencode(value):
        raise ValueError("it names no folder")
    return value


Place = Annotated[str, PlainValidator(_place)]
CHECKPOINT, INIT = "ckpt.pt", "init.pt"
_FILES = ("run.json", "recipe.yaml", "metrics.jsonl", "log.txt", "resume.pt", CHECKPOINT, INIT, "quarantine.csv")
_MADE = (
    *_FILES,
    "retention.json",
    "retention.png",
    "results.json",
    "start.pt",
    "training-data.json",
    "report.html",
)  # run.json goes first: what is left is then no run any more
_PATHS = ("init", "root", "prepared", "data", "vocabulary", "from", "cnn")
_OF_SEEDS = ("metrics.jsonl", "resume.pt", "model.pt", "cases.csv", "cases.npz", "result.json", "cases/*.png")
_IN_PARTS = ("stages/*/encoder.safetensors", *(f"seed-*/{name}" for name in _OF_SEEDS))


class Run(Progress):
    """One invocation's folder, locked while this process lives (kill -9 leaves no lock behind).

    Args:
        writes: False on ranks other than 0: the folder is read, never written.
        held: its lock, where this process has it already.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], writes: bool = True, held: int | None = None) -> None:
        super().__init__(folder, writes)
        self.facts = facts
        self._lock = lock.hold(folder) if writes and held is None else held
        if writes:
            for place in (folder, *folder.glob("stages/*/"), *folder.glob("seed-*/")):
                atomic.sweep(place)

    @classmethod
    def create(
        cls,
        runs: Path,
        name: str,
        *,
        recipe: Mapping[str, Any],
        facts: Mapping[str, Any],
        overwrite: bool,
        exact: bool,
        begin: Callable[[Path], object] | None = None,
    ) -> Run:
        """A new folder `runs/name`; it gets its name when it can be resumed, so a kill leaves a whole run or none.

        Args:
            overwrite: begin again where there is one: what medcoss made in it is removed.
            exact: the name was asked for; otherwise -2, -3 ... is added to one that is taken.
            begin: writes what the run begins from into the folder that it is given.

        Raises: UsageError if an exact name is taken, ResourceError if the folder is in use or cannot be written.
        """
        folder = runs / run_name(name)
        run_facts = {
            **facts,
            "command": sys.argv[1:],
            "versions": {
                **facts.get("versions", {}),
                **{"medcoss": version("medcoss"), "torch": version("torch"), "python": platform.python_version()},
            },
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "finished": None,
        }
        again = exact and overwrite and folder.is_dir()
        if not again:
            _check_free(folder, exact)
        place, held = (folder, None) if again else lock.beside(folder)
        run = cls(place, run_facts, held=held)
        try:
            run._empty()  # run.json first, and it is written last: a folder without it is no run
            atomic.write(run.recipe, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True).encode())
            if begin is not None:
                begin(run.folder)
            run._write_facts()
            if not again:
                run.folder = _named(run.folder, folder, exact)
        except BaseException:
            if not again:
                shutil.rmtree(run.folder, ignore_errors=True)
            run.close()
            raise
        return run

    @classmethod
    def resume(cls, folder: Path, writes: bool = True) -> Run:
        """An existing folder. Raises: as `facts_of`; ResourceError if another run is in it."""
        return cls(folder, facts_of(folder), writes)

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    @property
    def init(self) -> Path:
        """What a pre-training began from, kept until it is done."""
        return self.folder / INIT

    def quarantine(self, stage: int, tables: Sequence[Path]) -> None:
        """Take over what a stage's prepared sets say of files that were not used; a resumed stage says it once."""
        if not self.writes:
            return
        path = self.folder / "quarantine.csv"
        several = [_rows(table, f"delete {table.parent} and prepare again", DataError) for table in tables]
        header = several[0][0]
        rows = [row for table in several for row in table[1:]]
        fix = "delete it and resume again"
        kept = [row for row in _rows(path, fix)[1:] if row[0] != str(stage)] if path.exists() else []
        if not rows and not kept:
            return
        text = io.StringIO()
        table_of_all = csv.writer(text, lineterminator="\n")
        table_of_all.writerows([["stage", *header], *kept, *([str(stage), *row] for row in rows)])
        atomic.write(path, text.getvalue().encode("utf-8", "surrogateescape"))

    def encoder(self, number: int, modality: str) -> Path:
        """A stage's product: encoder and tokenizers, the bytes of `store.shareable.shareable`."""
        return self.folder / "stages" / f"{number}-{modality}" / "encoder.safetensors"

    def finish(self) -> None:
        """All stages are done, and what the first one began from is no longer needed."""
        self.facts["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._write_facts()
        if self.writes:  # after the line above, for a run that is not finished cannot do without it
            self.init.unlink(missing_ok=True)

    @contextlib.contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """What is raised within lets go of the folder."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the folder; the end of the process does so too."""
        if self._lock is not None:
            lock.release(self._lock)
            self._lock = None

    def _empty(self) -> None:
        """Remove what medcoss itself made in the folder, and nothing else."""
        try:
            for path in [
                *(self.folder / name for name in _MADE),
                *(p for part in _IN_PARTS for p in self.folder.glob(part)),
            ]:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise atomic.user_error(error, self.folder) from error
        parts = ("stages/*/", "stages/", "seed-*/cases/", "seed-*/")
        for place in (p for part in parts for p in self.folder.glob(part)):
            with contextlib.suppress(OSError):  # holds something of the user's, or is not there
                place.rmdir()

    def _write_facts(self) -> None:
        if self.writes:
            atomic.write(self.folder / "run.json", json.dumps(self.facts, indent=2).encode())


class _Facts(BaseModel, strict=True, extra="allow"):
    """What of run.json is used again."""

    started: str
    finished: str | None = None
    data_root: Place
    prepared: Place
    kind: str = ""
    before: Annotated[int, Field(ge=0)] = 0
    stage: dict[str, Any] | None = None
    seeds: list[Annotated[int, Field(ge=0)]] = []
    start: dict[str, Any] | None = None
    plugins: dict[str, dict[str, Any]] = {}
    versions: dict[str, str] = {}

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.kind == "finetune" and not self.seeds:
            raise ValueError("it names no seed")
        if self.kind == "finetune" and self.start is None:
            raise ValueError("it does not say what the run began from")
        return self


def facts_of(folder: Path) -> dict[str, Any]:
    """What run.json says. Raises: UsageError for what is no run's folder, CheckpointError for damage."""
    path = folder / "run.json"
    if not path.is_file() or not (folder / "recipe.yaml").is_file():
        raise UsageError("this is not a run's folder", where=folder, fix="name a folder under runs/")
    return typed.read_plain(_Facts, path, fix="restore it from a backup, or start the run again", what="the run's file")


def _rows(table: Path, fix: str, error: type[MedcossError] = CheckpointError) -> list[list[str]]:
    """The rows of a quarantine, its header first. Raises: `error`."""
    what = "the table of unused files"
    try:
        if table.stat().st_size > typed.LARGEST:  # a line is read whole, whatever its length
            raise error(f"{what} is larger than {typed.LARGEST >> 20} MiB", where=table, fix=fix)
        with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, csv.Error) as fault:
        if is_of_the_machine(fault):
            raise
        raise error(f"{what} is damaged ({fault})"[:300], where=table, fix=fix) from fault
    if not rows:
        raise error(f"{what} is empty", where=table, fix=fix)
    return rows


def without_paths(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as a history may hold it: no path, wherever it stands, and no title that a user wrote."""
    kept: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            kept[key] = without_paths(value)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            kept[key] = [without_paths(entry) for entry in value]
        elif key not in _PATHS and key != "title":
            kept[key] = value
    return kept


def run_name(name: str) -> str:
    """The name of a folder below runs/. Raises: UsageError for one that leaves it."""
    if name in ("", ".", "..") or Path(name).name != name:
        raise UsageError(
            f"{name!r} is not a valid name for a run", where="--name", fix="give a plain name, without a folder"
        )
    return name


def _check_free(folder: Path, exact: bool) -> None:
    """Raises: UsageError for an exact name that is taken, ResourceError where no folder can be made."""
    runs = folder.parent
    try:
        runs.mkdir(parents=True, exist_ok=True)
        taken = folder.exists() or folder.is_symlink()
    except FileExistsError as error:
        raise UsageError("a file of this name already exists", where=runs) from error
    except OSError as error:
        raise atomic.user_error(error, folder) from error
    if exact and taken:
        raise _taken(folder)


def _taken(folder: Path) -> UsageError:
    if not folder.is_dir():
        return UsageError("a file of this name already exists", where=folder)
    return UsageError(
        "a run of this name already exists", where=folder, fix=f"--resume {folder}, --overwrite, or another --name"
    )


def _named(place: Path, folder: Path, exact: bool) -> Path:
    """Give a complete folder its name, in one step, so that two that begin at once get two. Raises: UsageError."""
    number, name = 1, folder
    while True:
        try:
            if not os.path.lexists(name):
                return place.rename(name)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise atomic.user_error(error, name) from error
        if exact:
            raise _taken(name)
        number += 1
        name = folder.with_name(f"{folder.name}-{number}")
