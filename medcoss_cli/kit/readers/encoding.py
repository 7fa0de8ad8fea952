"""Bytes to text: UTF-8, UTF-16 by its mark, else Windows-1252 where that is plausible; what was repaired, by line."""

from __future__ import annotations

import codecs
import gzip
import re
from dataclasses import dataclass, field
from pathlib import Path

from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.kit.readers import looks_like_text, plainly

LOST = "\N{REPLACEMENT CHARACTER}"
FEW = 20
"""Lines that are named one by one."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LINE_END_BYTES = re.compile(rb"\r\n?|\n")
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_LONG_RUN = re.compile(rb"[\x80-\xff]{4,}")
_HIGH = bytes(range(128, 256))
_MOST_HIGH = 0.3
"""Share of bytes above 127 that text of a Western language does not reach; Cyrillic, Greek and East Asian text exceeds it."""


@dataclass(frozen=True)
class Decoded:
    """A file's text, what is true of all of it, and what was repaired in single lines (counted from 1)."""

    text: str
    notes: tuple[str, ...] = ()
    repaired: dict[int, str] = field(default_factory=dict)

    def notes_of(self, first: int, end: int) -> tuple[str, ...]:
        """What was repaired in the lines from `first` to before `end`; the lines are named where they are few."""
        if not self.repaired:
            return ()
        lines = [(line, self.repaired[line]) for line in range(first, end) if line in self.repaired]
        few = len(self.repaired) <= FEW
        return tuple(dict.fromkeys(f"{what} (line {line})" if few else what for line, what in lines))


def read_text(path: Path, limit: int, encoding: str | None = None) -> Decoded:
    """The text of a file.

    Args:
        limit: bytes; a larger file is refused.
        encoding: as Python calls it; None: found from the bytes.

    Raises: DataError for a file that is no text or of an encoding that cannot be told, UsageError for an unknown encoding.
    """
    with plainly(path):
        size = path.stat().st_size
        if size > limit:
            raise DataError(
                f"{size:,} bytes are more than the limit of {limit:,}", where=path, fix="split it into several files"
            )
        if not size:
            raise DataError("the file is empty", where=path)
        data = _unzipped(path, limit) if path.suffix.lower() == ".gz" else path.read_bytes()
    try:
        return decode(data, encoding)
    except DataError as error:
        raise DataError(error.what, where=path, fix=error.fix) from error


def _unzipped(path: Path, limit: int) -> bytes:
    with gzip.open(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise DataError(
            f"unpacked it has more than the limit of {limit:,} bytes", where=path, fix="split it into several files"
        )
    return data


def decode(data: bytes, encoding: str | None = None) -> Decoded:
    """The text of these bytes; see `read_text`."""
    if encoding is not None:
        return _named(data, encoding)
    for mark, name in _MARKS:
        if data.startswith(mark):
            if name == "utf-8-sig":
                return _utf8(data.removeprefix(mark))
            text = data.decode(name, "replace")
            if text.count(LOST) * 20 > len(text):
                raise DataError("not text")
            return _cleaned(text, (f"decoded as {name.upper()}",), _lines_of(text, LOST, "a broken character"))
    if not looks_like_text(data):
        raise DataError("not text")
    return _utf8(data)


def clean(text: str) -> tuple[str, tuple[str, ...]]:
    """A text without what no file can hold or no tokenizer can take, and a note: lone surrogates and NUL become U+FFFD."""
    if not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):
        return text, ()
    # a pair of surrogates is a character (as JSON has it), one alone is none
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", LOST)
    lost = whole.count(LOST) - text.count(LOST)
    return whole, (f"{lost} broken characters were replaced by U+FFFD",) if lost else ()


def _named(data: bytes, encoding: str) -> Decoded:
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise UsageError(
            f"the encoding {encoding!r} is unknown", fix="name it as Python does: utf-8, shift_jis, gb18030"
        ) from error
    text = data.decode(encoding, "replace").removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    if text.count(LOST) * 20 > len(text):
        raise DataError(f"the file is not {encoding}", fix="name its own encoding, or save it as UTF-8")
    return _cleaned(text, (), _lines_of(text, LOST, f"a character that is not {encoding}"))


def _utf8(data: bytes) -> Decoded:
    try:
        return _cleaned(data.decode("utf-8"), (), {})
    except UnicodeDecodeError:
        pass
    rest, good = _MULTIBYTE.subn(b"", data)
    bad = _high_in(rest)
    if bad <= good:  # UTF-8 in which some rows were pasted from elsewhere
        return _mended(data)
    _check_western(data)
    try:
        return _cleaned(data.decode("cp1252"), ("not UTF-8: decoded as Windows-1252",), {})
    except UnicodeDecodeError as error:
        raise _unknown() from error


def _check_western(data: bytes) -> None:
    """Windows-1252 gives every byte a meaning, so that text of any other encoding would be read, as nonsense."""
    high = _high_in(data)
    if high > _MOST_HIGH * len(data) or sum(len(run[0]) for run in _LONG_RUN.finditer(data)) * 2 > high:
        raise _unknown()


def _high_in(data: bytes) -> int:
    """How many bytes are above 127."""
    return len(data) - len(data.translate(None, _HIGH))


def _unknown() -> DataError:
    return DataError(
        "the text is neither UTF-8 nor Windows-1252; save it as UTF-8, or name its encoding in the loader, as in "
        "TextFolder(encoding='shift_jis')"
    )


def _mend(error: UnicodeError) -> tuple[str, int]:
    """A byte alone is read as Windows-1252, a character that was cut becomes U+FFFD."""
    assert isinstance(error, UnicodeDecodeError)
    cut = error.object[error.start : error.end]
    return (cut.decode("cp1252", "replace") if len(cut) == 1 else LOST), error.end


codecs.register_error("medcoss.mend", _mend)


def mended(data: bytes) -> str:
    """UTF-8, and what is not as Windows-1252."""
    return data.decode("utf-8", "medcoss.mend")


def _mended(data: bytes) -> Decoded:
    """UTF-8 in which a few bytes are not; their lines are noted."""
    lines: dict[int, str] = {}
    for number, line in enumerate(_LINE_END_BYTES.split(data), start=1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            lines[number] = "not UTF-8, decoded as Windows-1252"
    return _cleaned(mended(data), (), lines)


def _lines_of(text: str, character: str, what: str) -> dict[int, str]:
    """The note by line that holds the character."""
    lines: dict[int, str] = {}
    number, done = 1, 0
    while (at := text.find(character, done)) >= 0:
        number += lines_in(text, done, at)
        lines[number] = what
        ends = [end for end in (text.find("\n", at), text.find("\r", at)) if end >= 0]
        done = min(ends, default=len(text))
    return lines


def lines_in(text: str, begin: int = 0, end: int | None = None) -> int:
    """How many lines end between two places: with a line feed, a carriage return, or both."""
    end = len(text) if end is None else end
    return sum(sign * text.count(mark, begin, end) for mark, sign in (("\n", 1), ("\r", 1), ("\r\n", -1)))


def _cleaned(text: str, notes: tuple[str, ...], repaired: dict[int, str]) -> Decoded:
    if "\0" in text:
        repaired = repaired | _lines_of(text, "\0", "a NUL byte was replaced by U+FFFD")
        text = text.replace("\0", LOST)
    return Decoded(text, notes, repaired)
