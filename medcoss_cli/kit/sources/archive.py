"""A zip archive of a folder, as hospitals send them: unpacked once into the local cache, where remote files lie too."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from medcoss_cli.errors import DataError, ResourceError
from medcoss_cli.kit.sources.remote import cache, private

MAX_FILES = 2**20
MAX_RATIO = 200
"""Bytes that one of the archive's may grow to, over all; scans shrink to a half, and blank ones to a hundredth."""
_DOCUMENT = "[Content_Types].xml"
"""A file in spreadsheets and other documents, which are zip archives as well."""


def is_archive(path: Path) -> bool:
    """A zip archive of files, and no spreadsheet or stack of arrays that is stored as one."""
    if path.suffix.lower() not in ("", ".zip") or not path.is_file():
        return False
    try:
        with path.open("rb") as file:  # of a path, is_zipfile takes every refusal of the system for a no
            if not zipfile.is_zipfile(file):
                return False
            with zipfile.ZipFile(file) as archive:
                return _DOCUMENT not in archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # the last: a later version of zip
        return True  # unpacking it says why not


def unpacked(path: Path, say: Callable[[str], None] = lambda text: None) -> Path:
    """The local folder with the archive's files, unpacked now or before; another one after the archive has changed.

    Raises: DataError for an archive that is damaged, encrypted, too large, or names files outside of itself; ResourceError
    where there is no space.
    """
    stat = path.stat()
    key = f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns}"
    folder = cache() / f"zip-{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".zip-", dir=private(cache())))  # for its owner alone
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check(path, members, stat.st_size)
            say(f"unpacking {len(members)} files of {path.name} into {folder} (private: holds data)")
            for member in members:
                _extract(archive, member, temporary, path)
        if not folder.is_dir():  # another process may have been faster
            temporary.replace(folder)
    except OSError as error:
        raise ResourceError(
            f"the archive cannot be unpacked ({error.strerror or type(error).__name__})",
            where=folder,
            fix="make room, or set MEDCOSS_CACHE to another folder",
        ) from error
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"the archive cannot be unpacked ({error})", where=path, fix="send or pack it again") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _check(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    """What the archive's own list says, before anything is written."""
    if not members:
        raise DataError("the archive is empty", where=path)
    if len(members) > MAX_FILES:
        raise DataError(
            f"{len(members):,} files are more than the limit of {MAX_FILES:,}",
            where=path,
            fix="unpack it by hand, and name the folder",
        )
    if (total := sum(member.file_size for member in members)) > MAX_RATIO * size:
        raise DataError(
            f"it unpacks to {total:,} bytes, more than {MAX_RATIO} times its size",
            where=path,
            fix="unpack it by hand if you trust it, and name the folder",
        )
    if any(member.flag_bits & 1 for member in members):
        raise DataError("the archive is encrypted", where=path, fix="unpack it with its password first")
    names = [_name(member) for member in members]
    if len(set(names)) < len(names):
        raise DataError("two files of the archive have one name", where=path, fix="unpack it by hand, and rename one")
    for text in names:
        name = PurePosixPath(text)
        if name.is_absolute() or ".." in name.parts or "\0" in text or text[1:2] == ":":
            raise DataError("the archive names a file outside of itself", where=path)


def _name(member: zipfile.ZipInfo) -> str:
    """The name of a member, as a path. Many programs write UTF-8 without the flag that says so; else it is of code page 437."""
    name = member.filename
    if not member.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, path: Path) -> None:
    """One file; a link becomes a file that holds its target's name, so that nothing outside is ever opened."""
    target = folder / _name(member)
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with archive.open(member) as source, target.open("wb") as file:
        while chunk := source.read(2**20):
            left -= len(chunk)
            if left < 0:  # its list says less than it holds
                raise DataError("the archive holds more than its list says", where=path)
            file.write(chunk)
