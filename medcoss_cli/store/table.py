"""Tables for people and their spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medcoss_cli.store import atomic


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of cases. Private: it names files."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    atomic.write(path, text.getvalue().encode("utf-8", "surrogateescape"))
