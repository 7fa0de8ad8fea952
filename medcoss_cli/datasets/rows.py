"""The rows of a manifest: found, drawn into splits by whole groups, counted, and written."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medcoss_cli.console import Screen
from medcoss_cli.errors import DataError, UsageError
from medcoss_cli.kit.manifest import NAME, is_junk
from medcoss_cli.kit.readers.rows import read_rows
from medcoss_cli.store import atomic

SPLITS = ("train", "val", "test")
PROFILES = ("paper", "official")


@dataclass(frozen=True)
class Request:
    """What a manifest is asked for."""

    name: str
    root: Path
    profile: str = "paper"
    seed: int = 0
    screen: Screen = field(default_factory=Screen)
    overwrite: bool = False
    val: float = 0.2
    """Share of the training cases of an own folder that validates; `test`: that tests."""
    test: float = 0.2
    pattern: str | None = None
    """A regular expression whose one group tells the patient from a file's name."""

    def warn(self, text: str) -> None:
        """One line about what is not as expected."""
        self.screen.warn(f"{self.name}: {text}")

    def skipped(self, items: Iterable[Path], why: str) -> None:
        """Report which files are not in the manifest."""
        names = [path.relative_to(self.root).as_posix() for path in items]
        if names:
            self.warn(f"{len(names)} {why}, left out; the first is {names[0]}")


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One case. Private: it names files and patients."""

    path: Path
    split: str
    group: str
    """Patient or document: never in two splits."""
    label: str = ""
    mask: Path | None = None
    index: int | None = None
    """Data row of a table, counted from 0."""
    grade: str = ""
    """Of the disease, where a segmentation set tells it."""
    study: str = ""
    """What an image and the text about it have in common."""

    @property
    def stratum(self) -> str:
        """Of each of these, every split gets its share."""
        return self.label or self.grade


def home(request: Request, *parts: str, layout: str) -> Path:
    """The folder that holds `parts`: the root, or a folder right below. Raises: DataError, naming the layout."""
    below = sorted(path for path in request.root.iterdir() if path.is_dir() and not is_junk(path))
    for folder in (request.root, *below):
        if all((folder / part).exists() for part in parts):
            return folder
    raise missing(request, layout)


def missing(request: Request, layout: str) -> DataError:
    """That a set does not lie there as it was published."""
    return DataError(f"{request.name} is not in its published layout", where=request.root, fix=f"expected: {layout}")


def files(request: Request, folder: Path, *endings: str) -> list[Path]:
    """Files of a folder with one of these endings, sorted; others are told."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not is_junk(path))
    matching = [path for path in paths if path.name.lower().endswith(endings)]
    request.skipped(
        (path for path in paths if path not in set(matching)), f"files do not end in {' or '.join(endings)}"
    )
    return matching


def stem(path: Path) -> str:
    """The name without its ending; .nii.gz is one ending."""
    return path.name[:-7] if path.name.lower().endswith(".nii.gz") else path.stem


def last_fifth(rows: Sequence[ManifestRow], split: str) -> list[ManifestRow]:
    """The rows, the last 20 % of them moved to another split."""
    cut = len(rows) * 4 // 5
    return [*rows[:cut], *(replace(row, split=split) for row in rows[cut:])]


def with_validation(request: Request, rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    """Training rows, with a fifth of each class for validation.

    official: the last ones by file name. paper: drawn at random, whole groups.
    """
    strata: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.path.name):
        strata[row.stratum].append(row)
    if request.profile == "official":
        return [row for members in strata.values() for row in last_fifth(members, "val")]
    counts = {stratum: len(members) - len(members) * 4 // 5 for stratum, members in strata.items()}
    return with_split(rows, draw(rows, counts, request.seed, request.name), "val")


def with_split(rows: Sequence[ManifestRow], groups: set[str], split: str) -> list[ManifestRow]:
    """The rows, those of some groups moved to another split."""
    return [replace(row, split=split) if row.group in groups else row for row in rows]


def draw(rows: Sequence[ManifestRow], counts: Mapping[str, int], *key: object) -> set[str]:
    """Groups drawn at random by `key`, each whole, until there are so many cases of each stratum.

    A group that would exceed a number is passed over. Where no group fits, the smallest is taken, unless it is the last.
    """
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        sizes[row.group][row.stratum] += 1
    groups = sorted(sizes)
    random.Random(" ".join(map(str, key))).shuffle(groups)
    quota, drawn = Counter(counts), set()
    for group in groups:
        if all(count <= quota[stratum] for stratum, count in sizes[group].items()):
            drawn.add(group)
            quota.subtract(sizes[group])
    for stratum, count in sorted(counts.items()):
        candidates = [group for group in groups if sizes[group][stratum] and group not in drawn]
        if 0 < count == quota[stratum] and len(candidates) > 1:
            drawn.add(min(candidates, key=lambda group: sizes[group].total()))
    return drawn


def rename_shared_groups(request: Request, rows: list[ManifestRow]) -> list[ManifestRow]:
    """The rows, where no group is in two splits: what a published split tears apart is told, and its parts renamed."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits[row.group].add(row.split)
    shared = {group for group, of in splits.items() if len(of) > 1}
    if not shared:
        return rows
    cases = sum(row.group in shared for row in rows)
    tested = sum("test" in splits[group] for group in shared)
    request.warn(
        f"the {request.profile} split has {len(shared)} patients in more than one part ({cases} cases; {tested} of the "
        "patients in test): kept, so scores may be too good; each part counts as a group of its own"
    )
    return [replace(row, group=f"{row.group} ({row.split})") if row.group in shared else row for row in rows]


def compare(request: Request, counts: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """Say in one line where a set has other counts than the paper. Keys are what is counted, in words."""
    differences = [
        f"{counts.get(what, 0):,} {what} where the paper has {count:,}"
        for what, count in expected.items()
        if counts.get(what, 0) != count
    ]
    if differences:
        request.warn(", ".join(differences))


def is_complete(request: Request, found: int, full: int, what: str) -> bool:
    """Is this the whole set, so that its counts can be compared with the paper's? A line says where it is a part of it."""
    if found != full:
        request.warn(f"{found:,} {what} where the full set has {full:,}: a part, not compared with the paper's counts")
    return found == full


def keep(request: Request, path: Path, content: bytes) -> None:
    """Write a file beside the manifest. Raises: UsageError where another of that name must be left alone."""
    if path.exists() and not request.overwrite and path.read_bytes() != content:
        raise UsageError("a file of this name already exists", where=path, fix="move it, or add --overwrite")
    atomic.write(path, content)


def write(request: Request, rows: Sequence[ManifestRow]) -> Path:
    """Write `manifest.csv` with the columns that the rows have. Raises: DataError where there is nothing to train on."""
    if not any(row.split == "train" for row in rows):
        raise DataError("no training case was found", where=request.root)
    names = ("label", "mask", "index", "grade", "study")
    optional = [name for name in names if any(_cell(request, row, name) for row in rows)]
    columns = ["path", "split", "group", *optional]
    rows = sorted(rows, key=lambda row: (SPLITS.index(row.split), row.path, row.index or 0))
    path = request.root / NAME
    atomic.write(path, table(columns, ([_cell(request, row, name) for name in columns] for row in rows), path))
    return path


def read_columns(path: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """Some columns of a published CSV file, also one of .csv.gz, row by row. Raises: DataError where one is missing."""
    found = read_rows(path, columns[0])
    places = [found.place(name) for name in columns]
    if absent := [name for name, place in zip(columns, places, strict=True) if place is None]:
        raise DataError(
            f"there is no column {' and no '.join(absent)}", where=path, fix="use the file as it was published"
        )
    for row in found.rows:
        if len(row.fields) >= len(found.columns):
            yield tuple(row.fields[place].strip() for place in places if place is not None)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], where: Path) -> bytes:
    """A CSV file. Raises: DataError for names that are not Unicode."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    try:
        return text.getvalue().encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise DataError("a file's name is not UTF-8, so it cannot be listed", where=where, fix="rename it") from error


def _cell(request: Request, row: ManifestRow, column: str) -> str:
    value = getattr(row, column)
    if isinstance(value, Path):
        return value.relative_to(request.root).as_posix()
    return "" if value is None else str(value)
