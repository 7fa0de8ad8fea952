"""Where data lies: a path, a URL, or a zip archive, whose files are kept in the local cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from medcoss_cli.kit.manifest import NAMES
from medcoss_cli.kit.sources import archive, remote


def local(place: str | Path, root: Path = Path(), say: Callable[[str], None] = lambda text: None) -> Path:
    """The local folder or file with what is at a place: fetched from a URL, unpacked from a zip archive, now or before.

    Args:
        root: what a relative path is below.
        say: prints what is fetched or unpacked.

    Raises: DataError and ResourceError as `remote.fetched` and `archive.unpacked`; a path may name nothing.
    """
    text = str(place)
    path = remote.fetched(text, say) if remote.is_url(text) else root / place
    if not archive.is_archive(path):
        return path
    folder = archive.unpacked(path, say)
    inside = list(folder.iterdir())
    # what is packed is mostly one folder: its manifest is that of the archive
    if len(inside) == 1 and any((inside[0] / name).is_file() for name in NAMES):
        return inside[0]
    return folder
