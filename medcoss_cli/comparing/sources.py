"""What a cell's data and plugins are known by, so that a cell is made again where one of them has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from medcoss_cli.kit.manifest import walk

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".xlsx")
"""Files whose content counts: labels and splits are changed without their size changing."""


def digest_of(root: Path) -> str:
    """The names and sizes of a folder's files, and the content of its tables; of one file the same; "" where there is none.

    Not the content of images and texts: reading a million of them takes longer than most cells.
    """
    found = hashlib.sha256()
    for path in [root] if root.is_file() else _files(root):
        found.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode("utf-8", "surrogateescape"))
        if path.suffix.lower() in TABLES:
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest() if root.exists() else ""


def _files(root: Path) -> list[Path]:
    paths = [Path(place) / name for place, _, names in walk(root) for name in names if not name.startswith(".")]
    return sorted(path for path in paths if path.is_file())
