"""A run's folder: its lock, recipe, facts, log, metrics, resume file and checkpoint. Private, as a whole."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from medcoss_cli.errors import ResourceError, UsageError
from medcoss_cli.store import atomic
from medcoss_cli.store.checkpoint import load_plain, save_plain

_FILES = ("recipe.yaml", "run.json", "metrics.jsonl", "log.txt", "resume.pt", "ckpt.pt", "quarantine.csv")
_MADE = (*_FILES, "retention.json", "retention.png")
_PATHS = ("root", "prepared", "data", "vocabulary", "from")


class Run:
    """One invocation's folder, locked while this process lives (kill -9 leaves no lock behind).

    Args:
        writes: False on ranks other than 0: the folder is read, never written.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], writes: bool = True) -> None:
        self.folder, self.facts, self.writes = folder, facts, writes
        self._lock = _hold(folder) if writes else None
        if writes:
            atomic.sweep(folder)

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
        folder = runs / name
        number = 1
        while folder.exists() and not exact:
            number += 1
            folder = runs / f"{name}-{number}"
        if folder.exists() and not overwrite:
            raise UsageError(
                "there is a run of this name already",
                where=folder,
                fix=f"--resume {folder}, --overwrite, or another --name",
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise atomic.told(error, folder) from error
        known = {
            **facts,
            "command": sys.argv[1:],
            "versions": {"medcoss": version("medcoss"), "torch": version("torch"), "python": platform.python_version()},
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "finished": None,
        }
        run = cls(folder, known)
        for made in _MADE:
            (folder / made).unlink(missing_ok=True)
        shutil.rmtree(folder / "stages", ignore_errors=True)
        atomic.write(run.recipe, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True).encode())
        run._write_facts()
        return run

    @classmethod
    def resume(cls, folder: Path, writes: bool = True) -> Run:
        """An existing folder. Raises: UsageError if it is none, ResourceError if another run is in it."""
        try:
            facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError("this is no run's folder", where=folder, fix="name a folder under runs/") from error
        return cls(folder, facts, writes)

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "ckpt.pt"

    def log(self, line: str) -> None:
        """Add a line with the time to log.txt."""
        self._append("log.txt", f"{time.strftime('%H:%M:%S')} {line}\n")

    def metric(self, row: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        self._append("metrics.jsonl", json.dumps(row) + "\n")

    def truncate_metrics(self, stage: int, step: int) -> None:
        """Drop rows that come behind `step` of `stage`: they are about to be written again."""
        path = self.folder / "metrics.jsonl"
        if not self.writes or not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # torn by a kill
            if (row["stage"], row["step"]) <= (stage, step):
                kept.append(line)
        atomic.write(path, "".join(f"{line}\n" for line in kept).encode())

    def save_resume(self, state: Mapping[str, Any]) -> None:
        """Write resume.pt: where the stage stands."""
        if self.writes:
            save_plain(state, self.folder / "resume.pt")

    def load_resume(self) -> dict[str, Any] | None:
        """What save_resume wrote, or None."""
        path = self.folder / "resume.pt"
        return load_plain(path) if path.exists() else None

    def drop_resume(self) -> None:
        """The stage is done and its checkpoint written."""
        if self.writes:
            (self.folder / "resume.pt").unlink(missing_ok=True)

    def save_encoder(self, number: int, modality: str, weights: Mapping[str, Tensor]) -> None:
        """The stage's product: encoder and tokenizers."""
        if self.writes:
            data = safetensors_bytes(dict(weights), metadata={"format": "pt"})
            atomic.write(self.folder / "stages" / f"{number}-{modality}" / "encoder.safetensors", data)

    def finish(self) -> None:
        """All stages are done."""
        self.facts["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._write_facts()

    def close(self) -> None:
        """Let go of the folder; the end of the process does so too."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write_facts(self) -> None:
        if self.writes:
            atomic.write(self.folder / "run.json", json.dumps(self.facts, indent=2).encode())

    def _append(self, name: str, text: str) -> None:
        if not self.writes:
            return
        try:
            with (self.folder / name).open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        except OSError as error:
            raise atomic.told(error, self.folder / name) from error


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


def _hold(folder: Path) -> int:
    """Take the folder's lock for the life of this process; children do not inherit it."""
    try:
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise atomic.told(error, folder) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ResourceError(
            "another run is at work in this folder", where=folder, fix="wait for it, or give this one another --name"
        ) from error
    return handle
