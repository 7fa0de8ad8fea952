"""What long work leaves in its folder while it runs: a log, its numbers step by step, and where it stands."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medcoss_cli.store import atomic, plain, typed
from medcoss_cli.store.checkpoint import SCHEMA, check_header


class Progress:
    """log.txt, metrics.jsonl and resume.pt of a folder.

    Args:
        writes: False on ranks other than 0: the folder is read, never written.
    """

    def __init__(self, folder: Path, writes: bool = True) -> None:
        self.folder, self.writes = folder, writes

    def log(self, line: str) -> None:
        """Add a line with the time to log.txt."""
        self._append("log.txt", f"{time.strftime('%H:%M:%S')} {line}\n")

    def metric(self, row: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        self._append("metrics.jsonl", json.dumps(row) + "\n")

    def truncate_metrics(self, **at: int) -> None:
        """Drop rows that come behind this place (stage=2, step=7): they are about to be written again."""
        path = self.folder / "metrics.jsonl"
        if not self.writes or not path.exists():
            return
        lines_kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = typed.loads(line)
                if tuple(row[key] for key in at) <= tuple(at.values()):
                    lines_kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue  # torn by a kill
        atomic.write(path, "".join(f"{line}\n" for line in lines_kept).encode())

    def save_resume(self, state: Mapping[str, Any]) -> None:
        """Write resume.pt: where the stage stands."""
        if self.writes:
            header = {"schema": SCHEMA, "version": version("medcoss"), "file": "resume"}
            plain.save({"medcoss": header, **state}, self.folder / "resume.pt")

    def load_resume(self) -> dict[str, Any] | None:
        """What save_resume wrote, or None. Raises: CheckpointError for a file that save_resume did not write."""
        path = self.folder / "resume.pt"
        if not path.exists():
            return None
        state = plain.load(path, fix="remove it; the stage then starts again")
        check_header(state.pop("medcoss", None), path, "resume")
        return state

    def drop_resume(self) -> None:
        """The stage is done and its checkpoint written."""
        if self.writes:
            (self.folder / "resume.pt").unlink(missing_ok=True)

    def _append(self, name: str, text: str) -> None:
        if not self.writes:
            return
        try:
            content = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # half of a character, which is no file's name either
            content = text.encode("utf-8", "backslashreplace")
        try:
            with (self.folder / name).open("ab") as file:
                file.write(content)
        except OSError as error:
            raise atomic.user_error(error, self.folder / name) from error
