"""From records to a prepared set, once: read in parallel, write shards and index. No torch in here."""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import hashlib
import io
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, model_validator

from medcoss_cli.console import Screen
from medcoss_cli.data.identity import source_of
from medcoss_cli.data.prepared import COUNT, HEX, INDEX, NAME, QUARANTINE, ROWS, PreparedSet, again
from medcoss_cli.data.read import Blank, Listing, encode, read_checked, reason_counts
from medcoss_cli.data.workers import blamed, readers
from medcoss_cli.errors import DataError, ResourceError
from medcoss_cli.kit.readers import is_store
from medcoss_cli.plugin import CompleteModality, Record
from medcoss_cli.store import atomic, typed

LAYOUT = 2  # of a prepared set; part of its key
SHARD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Refused:
    """A record that could not be used. `bad` is False for a blank part of a good file."""

    record: Record
    reason: str
    bad: bool


def prepare(
    modality: CompleteModality,
    listing: Listing,
    where: Path,
    *,
    workers: int | None = None,
    bad_share: float = 0.05,
    screen: Screen | None = None,
) -> PreparedSet:
    """The prepared set of these records under `where`: reused if complete, otherwise written or continued.

    Args:
        modality: complete, its size and vocabulary final.
        workers: processes that read files; None: one per core.
        bad_share: the share of files that may be bad. A file of many records counts by its share of bad ones.

    Raises: DataError if more files are bad, ResourceError without space or permission.
    """
    screen = screen or Screen()
    folder = where / _key(modality, listing)
    if not (folder / INDEX).exists():
        with locked(folder, screen):
            if not (folder / INDEX).exists():  # another process may have written it while we waited
                _write(modality, listing, folder, workers or len(os.sched_getaffinity(0)), bad_share, screen)
    prepared = PreparedSet.open(folder)
    records = prepared.records
    if records.min() < 0 or records.max() >= len(listing.records):
        what = "the table of rows of the prepared set is damaged (records: there is no such record)"
        raise DataError(what, where=folder / ROWS, fix=again(folder))
    _allowed(prepared.index["bad"], bad_share, folder / QUARANTINE)
    _report(prepared, modality, screen)
    return prepared


def _write(
    modality: CompleteModality, listing: Listing, folder: Path, workers: int, bad_share: float, screen: Screen
) -> None:
    tasks = list(_tasks(modality, listing))
    starts = list(itertools.accumulate(map(len, tasks), initial=0))
    # what is counted are files: a row of a table that cannot be read is a part of one, as a record is
    sources = Counter(record.source for record in listing.records)
    sources.update(item.source for item in listing.skipped if item.bad)
    broken = sum(1 / sources[item.source] for item in listing.skipped if item.bad)
    files = len(sources)
    refused: list[Refused] = []
    shards_done: dict[int, dict[str, Any]] = {}

    def take(number: int, result: tuple[dict[str, Any], list[Refused]]) -> None:
        shards_done[number] = result[0]
        refused.extend(result[1])
        bad = broken + sum(1 / sources[item.record.source] for item in refused if item.bad)
        if bad > bad_share * files + 1e-9:  # rounding of the sum must not refuse what is allowed
            _write_quarantine(folder, listing, refused)
            _allowed(bad / files, bad_share, folder / QUARANTINE)
        _room(folder, shards_done, len(tasks))
        bar.advance(len(tasks[number]), **({"bad": f"{bad:.0f}"} if bad else {}))

    if broken > bad_share * files:
        _write_quarantine(folder, listing, [])
        _allowed(broken / files, bad_share, folder / QUARANTINE)
    with screen.progress(f"preparing {modality.name}", len(listing.records)) as bar:
        if workers == 1 or len(tasks) == 1 or len(listing.records) < 64:
            for number, task in enumerate(tasks):
                take(number, _shard(modality, listing.root, task, folder, number, starts[number]))
        else:
            with readers(min(workers, len(tasks)), modality, listing.root) as pool:
                waiting: dict[Future[Any], int] = {
                    pool.submit(_shard, modality, listing.root, task, folder, number, starts[number]): number
                    for number, task in enumerate(tasks)
                }
                for future in as_completed(waiting):
                    take(waiting[future], future.result())
    _write_quarantine(folder, listing, refused)
    shards = [shards_done[number] for number in sorted(shards_done)]
    rows = sum(shard["rows"] for shard in shards)
    if rows == 0:
        reasons = reason_counts(item.reason for item in refused)
        raise DataError(f"none of the {modality.title} data can be used ({reasons})", where=listing.root)
    _write_index(modality, folder, shards, refused, broken, files, sources)


def _write_index(
    modality: CompleteModality,
    folder: Path,
    shards: list[dict[str, Any]],
    refused: list[Refused],
    broken: float,
    files: int,
    sources: Counter[Path],
) -> None:
    groups = np.unique([group for shard in shards for group in shard["groups"]], return_inverse=True)[1]
    table = io.BytesIO()
    np.savez(
        table,
        scale=np.array([x for shard in shards for x in shard["scale"]], np.float32),
        offset=np.array([x for shard in shards for x in shard["offset"]], np.float32),
        groups=groups.astype(np.int32),
        records=np.array([x for shard in shards for x in shard["records"]], np.int64),
    )
    atomic.write(folder / ROWS, table.getvalue())
    index = {
        "layout": LAYOUT,
        "modality": modality.name,
        "size": list(modality.size),
        "rows": len(groups),
        "data_hash": hashlib.sha256("".join(shard["hash"] for shard in shards).encode()).hexdigest(),
        "bad": (broken + sum(1 / sources[item.record.source] for item in refused if item.bad)) / files,
        "refused": dict(Counter(item.reason for item in refused)),
        "notes": dict(sum((Counter(shard["notes"]) for shard in shards), Counter())),
        "shards": [{"file": shard["file"], "rows": shard["rows"]} for shard in shards if shard["rows"]],
    }
    atomic.write(folder / INDEX, json.dumps(index, indent=1).encode())


def _tasks(modality: CompleteModality, listing: Listing) -> Iterator[list[Record]]:
    """Records cut into shards: at most 64 MB, at least 64 shards where there is enough for them, whole files together."""
    row_bytes = 2 * max(1, modality.channels) * int(np.prod(modality.size))
    limit = max(1, min(SHARD_BYTES // row_bytes, max(16, len(listing.records) // 64)))
    task: list[Record] = []
    for record in listing.records:
        if (len(task) >= limit and record.source != task[-1].source) or len(task) >= 4 * limit:
            yield task
            task = []
        task.append(record)
    yield task


def _shard(
    modality: CompleteModality, root: Path, records: Sequence[Record], folder: Path, number: int, first: int
) -> tuple[dict[str, Any], list[Refused]]:
    """Read, encode and write one shard, unless it was written before. Returns its facts and what was refused.

    Args:
        first: number of its first record among all.
    """
    path, facts_path = folder / f"shard-{number:05d}.npy", folder / f"shard-{number:05d}.json"
    if facts_path.exists():
        what = "what was noted of a part of the prepared set"
        written = typed.read_json(_Facts, facts_path, fix=again(folder), error=DataError, what=what)
        if any(i >= len(records) for i, _, _ in written.refused):
            raise DataError(
                f"{what} is damaged (refused: there is no such record)", where=facts_path, fix=again(folder)
            )
        return written.model_dump(), [Refused(records[i], reason, bad) for i, reason, bad in written.refused]
    rows: list[tuple[np.ndarray[Any, Any], float, float]] = []
    groups: list[str] = []
    numbers: list[int] = []
    refused: list[tuple[int, str, bool]] = []
    notes: Counter[str] = Counter()
    for i, record in enumerate(records):
        try:
            with blamed(modality):
                sample = read_checked(modality, record)
                rows.append(encode(modality, sample))
        except DataError as error:
            refused.append((i, error.what, not isinstance(error, Blank)))
            continue
        numbers.append(first + i)
        notes.update(sample.notes)
        owner = record.group if record.group is not None else _own_group(root, record)
        groups.append(hashlib.sha256(owner.encode("utf-8", "surrogateescape")).hexdigest()[:16])
    integers = np.stack([row[0] for row in rows]) if rows else np.empty(0, np.uint8)
    scale, offset = [row[1] for row in rows], [row[2] for row in rows]
    digest = hashlib.sha256(integers.tobytes() + np.array([scale, offset]).tobytes()).hexdigest() if rows else ""
    if rows:
        stream = io.BytesIO()
        np.save(stream, integers, allow_pickle=False)
        atomic.write(path, stream.getvalue())
    facts = {
        "file": path.name,
        "rows": len(rows),
        "bytes": integers.nbytes,
        "hash": digest,
        "scale": scale,
        "offset": offset,
        "groups": groups,
        "records": numbers,
        "refused": refused,
        "notes": notes,
    }
    atomic.write(facts_path, json.dumps(facts).encode())
    return facts, [Refused(records[i], reason, bad) for i, reason, bad in refused]


class _Facts(BaseModel, allow_inf_nan=False):
    """What `_shard` notes of a shard."""

    file: NAME
    rows: COUNT
    bytes: COUNT
    hash: HEX
    scale: list[float]
    offset: list[float]
    groups: list[HEX]
    records: list[COUNT]
    refused: list[tuple[COUNT, str, bool]]
    notes: dict[str, COUNT]

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if not self.rows == len(self.scale) == len(self.offset) == len(self.groups) == len(self.records):
            raise ValueError(f"there is not one of each for {self.rows} rows")
        return self


def _own_group(root: Path, record: Record) -> str:
    """Without a patient or document: a file is its own group, and so is each row of a table and array of a container."""
    row = record.recording[1] if record.part and record.part[0] in ("row", "key") else ()
    return f"{_relative(record.source, root)}|{row}"


def _relative(source: Path, root: Path) -> str:
    return str(source.relative_to(root)) if source.is_relative_to(root) else str(source)


def _key(modality: CompleteModality, listing: Listing) -> str:
    """Hash of inputs (names, sizes, times, parts), settings (loader, intensity, size, vocabulary) and the parts' source."""
    digest = hashlib.sha256(f"{LAYOUT} {modality.size} {modality.channels}".encode())
    for part in (modality.loader, modality.intensity):
        digest.update(settings(part).encode("utf-8", "surrogateescape"))
    digest.update(source_of(modality.loader, modality.intensity).encode())
    stamps: dict[Path, str] = {}
    for record in listing.records:
        for path in (record.source, *record.files):
            if path not in stamps:
                stamps[path] = stamp(path)
        stamped = "".join(stamps[path] for path in (record.source, *record.files))
        line = (_relative(record.source, listing.root), stamped, record.part, record.group)
        digest.update(repr(line).encode())
    digest.update(repr([(str(i.source), i.reason) for i in listing.skipped if i.bad]).encode())
    return f"{modality.name}-{digest.hexdigest()[:16]}"


def settings(part: Any) -> str:
    """A part and all its values, for the key of a prepared set."""
    values = (
        {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        if dataclasses.is_dataclass(part)
        else vars(part)
    )
    return f"{type(part).__module__}.{type(part).__qualname__} {sorted(values.items())}"


def stamp(source: Path) -> str:
    """Names, sizes and times of a file, or of the files of a folder."""
    inside = source.rglob("*") if is_store(source) else source.iterdir() if source.is_dir() else [source]
    files = sorted(path for path in inside if path.is_file())
    return repr([(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files])


def _write_quarantine(folder: Path, listing: Listing, refused: Sequence[Refused]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "part", "bad", "reason"])
    table.writerows([i.source, "", "yes" if i.bad else "no", i.reason] for i in listing.skipped)
    ordered = sorted(refused, key=lambda i: (str(i.record.source), str(i.record.part)))
    for item in ordered:
        part = " ".join(map(str, item.record.part or ()))
        table.writerow([item.record.source, part, "yes" if item.bad else "no", item.reason])
    atomic.write(folder / QUARANTINE, text.getvalue().encode("utf-8", "surrogateescape"))


def _allowed(share: float, bad_share: float, quarantine: Path) -> None:
    if share > bad_share + 1e-9:
        raise DataError(
            f"{share:.1%} of the files are bad, {bad_share:.1%} are allowed",
            where=quarantine,
            fix="the table lists the reasons; repair or remove them, or raise the limit with data.bad_share=0.2",
        )


def _room(folder: Path, shards_done: dict[int, dict[str, Any]], tasks: int) -> None:
    """Stop early when what is still to be written will not fit."""
    written = sum(shard["bytes"] for shard in shards_done.values())
    need = written / len(shards_done) * (tasks - len(shards_done))
    free = shutil.disk_usage(folder).free
    if need > free:
        raise ResourceError(
            f"the prepared set needs {need / 2**30:.1f} GiB more, {free / 2**30:.1f} GiB are free",
            where=folder,
            fix="make room, or name another folder with --prepared DIR; finished work is kept",
        )


def _report(prepared: PreparedSet, modality: CompleteModality, screen: Screen) -> None:
    index = prepared.index
    screen.say(f"{modality.name}: {len(prepared)} samples of {' x '.join(map(str, prepared.size))}")
    if index["refused"]:
        reasons = reason_counts(index["refused"])
        screen.warn(f"{modality.name}: {sum(index['refused'].values())} refused: {reasons} (see {prepared.quarantine})")
    for note, count in index["notes"].items():
        screen.say(f"{modality.name}: {count} x {note}")


@contextmanager
def locked(folder: Path, screen: Screen) -> Iterator[None]:
    """Make the folder; one writer at a time, a second waits and then finds the set finished. Raises: ResourceError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            "a prepared set cannot be written here", where=folder.parent, fix="name another folder with --prepared DIR"
        ) from error
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            screen.say("waiting: another run is preparing the same data")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
