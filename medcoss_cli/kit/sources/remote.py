"""Folders and files at a URL (s3://, gs://, https://, memory://), fetched into a local folder by fsspec."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from medcoss_cli.errors import DataError, ResourceError, UsageError
from medcoss_cli.store import typed

LIST = ".medcoss-remote.json"
"""What was fetched into a folder: size and stamp of each file."""
_STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")


def is_url(text: str) -> bool:
    """Does it name a place elsewhere, as in s3://bucket/folder?"""
    scheme, found, _ = text.partition("://")
    return bool(found) and scheme.replace("+", "").isalnum()


def cache() -> Path:
    """The folder that remote files are kept in: $MEDCOSS_CACHE, else the user's cache. Private: holds data."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("MEDCOSS_CACHE") or Path(home) / "medcoss") / "remote"


def private(folder: Path) -> Path:
    """A folder for its owner alone, with those above it that are missing. Raises: OSError."""
    for place in [*reversed(folder.parents), folder]:
        if not place.is_dir():
            place.mkdir(exist_ok=True, mode=0o700)
    return folder


def fetched(url: str, say: Callable[[str], None] = lambda text: None) -> Path:
    """The local folder (or file) with what lies at a URL now: only what is new or changed is fetched.

    Raises: UsageError without fsspec or the package for this kind of URL, DataError where nothing is there or a file
    arrives with another size than listed, ResourceError where the cache cannot be written.
    """
    system, root, listing = _listed(url)
    folder = cache() / hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    if set(listing) == {""}:  # one file
        listing = {PurePosixPath(root).name: listing[""]}
        root = str(PurePosixPath(root).parent)
    try:
        private(folder).chmod(0o700)  # one of an earlier version may be open to others
        present = _fetched_before(folder)
        for gone in present.keys() - listing.keys():
            (folder / gone).unlink(missing_ok=True)
        new = [name for name, stamp in listing.items() if present.get(name) != stamp or not (folder / name).is_file()]
        if new:
            say(f"fetching {len(new)} of {len(listing)} files of {url} into {folder} (private: holds data)")
        for name in new:
            _fetch(system, f"{root.rstrip('/')}/{name}", folder / name, int(listing[name][0]))
            present[name] = listing[name]
        with _new(folder / LIST) as file:
            file.write(json.dumps({name: listing[name] for name in sorted(listing)}).encode())
    except OSError as error:
        raise ResourceError(
            f"the cache of remote files cannot be written ({error.strerror or type(error).__name__})",
            where=folder,
            fix="make room, or set MEDCOSS_CACHE to another folder",
        ) from error
    return folder / next(iter(listing)) if len(listing) == 1 else folder


def _listed(url: str) -> tuple[Any, str, dict[str, list[Any]]]:
    """File system, path of the root in it, and size and stamp of each file by its name below the root."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise UsageError("URLs are read with fsspec", where=url, fix='pip install "medcoss[remote]"') from error
    try:
        system, root = url_to_fs(url)
        found = system.find(root, detail=True)
    except ImportError as error:
        scheme = url.partition("://")[0]
        raise UsageError(f"{scheme}:// needs a package that is not installed ({error})", where=url) from error
    except FileNotFoundError as error:
        raise DataError("nothing is there", where=url, fix="check the address") from error
    except Exception as error:  # each system raises what it likes
        raise DataError(f"it cannot be listed ({type(error).__name__}: {error})", where=url) from error
    if not found:
        raise DataError("nothing is there", where=url, fix="check the address")
    listing = {}
    for path, info in sorted(found.items()):
        name = path[len(root) :].lstrip("/") if path.startswith(root) else path
        if _leaves(name):
            raise DataError(f"the name {name!r} leaves the folder", where=url)
        listing[name] = [int(info.get("size") or 0), next((str(info[key]) for key in _STAMPS if info.get(key)), "")]
    return system, root, listing


def _leaves(name: str) -> bool:
    """Does a name lead out of the folder that it is put below?"""
    return ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute() or "\0" in name


def _fetched_before(folder: Path) -> dict[str, list[Any]]:
    """Names, and size and stamp of each; {} where the list is not there, or damaged: all is then fetched again."""
    path = folder / LIST
    try:
        before = typed.read_plain(dict[str, tuple[int, str]], path, fix="", error=DataError)
    except (OSError, DataError):
        return {}
    return {} if any(map(_leaves, before)) else before  # what is no longer in the source is removed by these names


def _new(path: Path) -> IO[bytes]:
    """A file to write, for its owner alone from its first byte on."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _fetch(system: Any, source: str, target: Path, size: int) -> None:
    """One file, under its name only when it is there whole."""
    private(target.parent)
    temporary = target.with_name(f".{target.name[:100]}.part")
    with system.open(source, "rb") as remote, _new(temporary) as file:
        shutil.copyfileobj(remote, file)
    if (arrived := temporary.stat().st_size) != size:
        temporary.unlink()
        raise DataError(f"{arrived} bytes arrived of {size}", where=source, fix="try again")
    temporary.replace(target)
