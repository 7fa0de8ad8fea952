"""A run's folder: its lock, recipe, facts, log, metrics, resume file and checkpoint. Private, as a whole."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from medcoss_cli.errors import UsageError
from medcoss_cli.store import atomic, lock
from medcoss_cli.store.progress import Progress

_FILES = ("run.json", "recipe.yaml", "metrics.jsonl", "log.txt", "resume.pt", "ckpt.pt", "init.pt", "quarantine.csv")
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
    """

    def __init__(self, folder: Path, facts: dict[str, Any], writes: bool = True) -> None:
        super().__init__(folder, writes)
        self.facts = facts
        self._lock = lock.hold(folder) if writes else None
        if writes:
            for place in (folder, *folder.glob("stages/*/"), *folder.glob("seed-*/")):
                atomic.sweep(place)

    @classmethod
    def create(
        cls, runs: Path, name: str, *, recipe: Mapping[str, Any], facts: Mapping[str, Any], overwrite: bool, exact: bool
    ) -> Run:
        """A new folder `runs/name`.

        Args:
            overwrite: begin again where there is one: what medcoss made in it is removed.
            exact: the name was asked for; otherwise -2, -3 ... is added to one that is taken.

        Raises: UsageError if an exact name is taken, ResourceError if the folder is in use or cannot be written.
        """
        folder = _make_folder(runs, run_name(name), overwrite=overwrite, exact=exact)
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
        run = cls(folder, run_facts)
        try:
            run._empty()
            atomic.write(run.recipe, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True).encode())
            run._write_facts()
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def resume(cls, folder: Path, writes: bool = True) -> Run:
        """An existing folder. Raises: UsageError if it is none, ResourceError if another run is in it."""
        try:
            facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError("this is not a run's folder", where=folder, fix="name a folder under runs/") from error
        if not isinstance(facts, dict) or "started" not in facts or not (folder / "recipe.yaml").is_file():
            raise UsageError("this is not a run's folder", where=folder, fix="name a folder under runs/")
        return cls(folder, facts, writes)

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "ckpt.pt"

    @property
    def init(self) -> Path:
        """What a pre-training began from, kept until it is done."""
        return self.folder / "init.pt"

    def quarantine(self, stage: int, tables: Sequence[Path]) -> None:
        """Take over what a stage's prepared sets say of files that were not used; a resumed stage says it once."""
        if not self.writes:
            return
        path = self.folder / "quarantine.csv"
        (header, *_), *_ = several = [_rows(table) for table in tables]
        rows = [row for table in several for row in table[1:]]
        kept = [row for row in _rows(path)[1:] if row[0] != str(stage)] if path.exists() else []
        if not rows and not kept:
            return
        text = io.StringIO()
        table_of_all = csv.writer(text, lineterminator="\n")
        table_of_all.writerows([["stage", *header], *kept, *([str(stage), *row] for row in rows)])
        atomic.write(path, text.getvalue().encode("utf-8", "surrogateescape"))

    def save_encoder(self, number: int, modality: str, data: bytes) -> None:
        """The stage's product: encoder and tokenizers, the bytes of `store.shareable.shareable`."""
        if self.writes:
            atomic.write(self.folder / "stages" / f"{number}-{modality}" / "encoder.safetensors", data)

    def finish(self) -> None:
        """All stages are done, and what the first one began from is no longer needed."""
        if self.writes:
            self.init.unlink(missing_ok=True)
        self.facts["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._write_facts()

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


def _rows(table: Path) -> list[list[str]]:
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


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


def _make_folder(runs: Path, name: str, *, overwrite: bool, exact: bool) -> Path:
    """The folder of a new run; made in one step, so that two that begin at once get two folders."""
    number = 1
    while True:
        folder = runs / (name if number == 1 else f"{name}-{number}")
        try:
            runs.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            return folder
        except FileExistsError as error:
            if exact and overwrite and folder.is_dir():
                return folder
            if exact and folder.is_dir():
                raise UsageError(
                    "a run of this name already exists",
                    where=folder,
                    fix=f"--resume {folder}, --overwrite, or another --name",
                ) from error
            if exact or not runs.is_dir():
                raise UsageError("a file of this name already exists", where=folder if exact else runs) from error
            number += 1
        except OSError as error:
            raise atomic.user_error(error, folder) from error
