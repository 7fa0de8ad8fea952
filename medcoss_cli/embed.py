"""Features of files: one vector a sample, and if asked one a token, from a checkpoint or from an exported file."""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medcoss_cli.console import Screen
from medcoss_cli.data.inputs import list_records, names_of
from medcoss_cli.data.read import encode, read_checked, reason_counts
from medcoss_cli.data.recordings import group_of
from medcoss_cli.errors import DataError, Interrupted, UsageError
from medcoss_cli.export.metadata import hash_of
from medcoss_cli.kit.manifest import manifest_of, rows_of
from medcoss_cli.kit.paths import inside
from medcoss_cli.kit.readers.rows import number_of
from medcoss_cli.model.outputs import Array, finite
from medcoss_cli.plugin import CompleteModality, Record, Skipped
from medcoss_cli.registry import configure
from medcoss_cli.store import typed
from medcoss_cli.store.arrays import load_arrays
from medcoss_cli.store.features import ENDINGS, Embedded, parquet, save_arrays, write
from medcoss_cli.store.table import write_rows
from medcoss_cli.training.interruption import Interruption

BATCH = 16  # samples in one pass through the network
CHUNK = 256
"""Samples between two writes: what an interruption may cost."""


@dataclass(frozen=True)
class Embedder:
    """What turns stored integers into features.

    Args:
        features: inputs to (tokens (N, L, D), pooled (N, D)).
        key: hash of the file it comes from.
    """

    modality: CompleteModality
    features: Callable[[Array], tuple[Array, Array]]
    decode: Callable[[Array, float, float], Array]
    key: str


def embed(
    source: Path,
    modality: str | None,
    inputs: Sequence[Path],
    out: Path,
    *,
    tokens: bool,
    screen: Screen,
    reading: Mapping[str, Any] | None = None,
) -> Embedded:
    """Embed every record of these files and folders and write OUT; what was interrupted goes on where it stood.

    Args:
        reading: settings of the modality's loader.

    Raises: DataError if nothing can be read, Interrupted when everything so far is saved.
    """
    if out.suffix not in ENDINGS:
        raise UsageError(
            "OUT is no kind of file that is known", where=out, fix=f"name it {out.stem}.npz, .jsonl or .parquet"
        )
    if out.suffix == ".parquet":
        parquet()
    embedder = load_embedder(source, modality, screen)
    embedder = replace(embedder, modality=configure.reading(embedder.modality, reading or {}))
    records, bad = list_records(embedder.modality, inputs, screen)
    names = [name.as_posix() for _, name in names_of(records)]
    labels = _labels(inputs)
    identity = json.dumps(
        [
            embedder.key,
            embedder.modality.name,
            tokens,
            sorted((reading or {}).items()),
            [str(path.absolute()) for path in inputs],
            names,
        ]
    )
    work = out.with_name(f"{out.name}.unfinished-{hashlib.sha256(identity.encode()).hexdigest()[:16]}")
    chunks = [range(i, min(i + CHUNK, len(records))) for i in range(0, len(records), CHUNK)]
    with Interruption(screen.say) as interruption, screen.progress("embedding", len(records)) as bar:
        for number, rows in enumerate(chunks):
            path = work / f"{number:06d}.npz"
            if not path.exists():
                save_arrays(path, _chunk(embedder, [records[row][1] for row in rows], tokens))
            bar.advance(len(rows))
            if interruption.requested and number + 1 < len(chunks):
                raise Interrupted(
                    f"stopped after {rows.stop} of {len(records)} samples, everything is saved",
                    fix="go on with the same command",
                )
    embedded, notes = _joined(work, chunks, names, [record for _, record in records], labels, tokens)
    for note, count in notes.items():
        screen.warn(f"{count} x {note}")
    embedded.bad = bad + embedded.bad
    if not embedded.ids:
        raise DataError(
            f"nothing could be read: {reason_counts(item.reason for item in embedded.bad)}", where=inputs[0]
        )
    write(embedded, out)
    if embedded.bad:
        refused = [{"file": item.source, "reason": item.reason} for item in embedded.bad]
        write_rows(out.with_name(f"{out.stem}-quarantine.csv"), refused)
    # those of other inputs too: OUT no longer holds them
    for leftover in out.parent.glob(f"{glob.escape(out.name)}.unfinished-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return embedded


def load_embedder(source: Path, modality: str | None, screen: Screen) -> Embedder:
    """From an exported file, without torch; else from a checkpoint. Raises: UsageError, CheckpointError."""
    if source.suffix == ".onnx":
        from medcoss_cli.export import runtime

        exported = runtime.load(source)
        described = exported.modality(screen)
        if exported.about.kind != "features" or modality not in (None, described.name):
            raise UsageError(
                f"this file gives {exported.about.kind} of {described.name}",
                where=source,
                fix="export one with --modality",
            )
        return Embedder(described, lambda inputs: tuple(exported.run(inputs)), exported.decode, hash_of(source))  # type: ignore[arg-type,return-value]  # two outputs
    if modality is None:
        raise UsageError("a checkpoint knows several modalities", where="--modality", fix="name one")
    from medcoss_cli.export.checkpoint import features_of

    described, features, decode, file = features_of(source, modality, screen)
    return Embedder(described, features, decode, hash_of(file))


def _chunk(embedder: Embedder, records: Sequence[Record], tokens: bool) -> dict[str, Any]:
    """Arrays of a chunk: which records were read, their features, and why the others were not."""
    read, pooled, token_features = list[int](), list[Array](), list[Array]()
    reasons, notes = list[tuple[int, str]](), list[str]()
    readable = _readable(embedder, records, reasons, notes)
    while batch := list(islice(readable, BATCH)):
        of_tokens, of_samples = embedder.features(np.concatenate([inputs for _, inputs in batch]))
        read += [place for place, _ in batch]
        pooled.append(of_samples)
        token_features += [of_tokens] if tokens else []
    content: dict[str, Any] = {"read": np.array(read, np.int64), "said": np.array(json.dumps([reasons, notes]))}
    if pooled:
        content["pooled"] = finite(np.concatenate(pooled))
    if token_features:
        content["tokens"] = np.concatenate(token_features)
    return content


def _readable(
    embedder: Embedder, records: Sequence[Record], reasons: list[tuple[int, str]], notes: list[str]
) -> Iterator[tuple[int, Array]]:
    """Inputs of the records that can be read, by place; of the others the reasons are noted."""
    for place, record in enumerate(records):
        try:
            sample = read_checked(embedder.modality, record)
            integers, scale, offset = encode(embedder.modality, sample)
        except DataError as error:
            reasons.append((place, error.what))
            continue
        notes += sample.notes
        yield place, embedder.decode(integers[None], scale, offset)


def _joined(
    work: Path,
    chunks: Sequence[range],
    names: Sequence[str],
    records: Sequence[Record],
    labels: dict[tuple[Path, int | None], str],
    tokens: bool,
) -> tuple[Embedded, Counter[str]]:
    ids, of, pooled, token_features, bad = [], [], [], [], []
    notes: Counter[str] = Counter()
    for number, rows in enumerate(chunks):
        part, said = _part(work / f"{number:06d}.npz", len(rows), tokens)
        notes.update(said.notes)
        bad += [Skipped(records[rows[place]].source, reason, bad=True) for place, reason in said.reasons]
        if len(part["read"]):
            ids += [names[rows[place]] for place in part["read"]]
            of += [records[rows[place]] for place in part["read"]]
            pooled.append(part["pooled"])
            token_features += [part["tokens"]] if tokens else []
    found_labels = [labels.get((record.source.resolve(), _row(record))) for record in of]
    features = np.concatenate(pooled) if pooled else np.zeros((0, 0), np.float32)
    complete_labels = (
        [str(label) for label in found_labels]
        if found_labels and all(label is not None for label in found_labels)
        else None
    )
    groups = list(map(group_of, of))
    return Embedded(
        ids, features, np.concatenate(token_features) if token_features else None, complete_labels, groups, bad
    ), notes


class _Said(NamedTuple):
    reasons: list[tuple[int, str]]
    notes: list[str]


def _part(path: Path, rows: int, tokens: bool) -> tuple[dict[str, Array], _Said]:
    """What `_chunk` left, which may have been before an interruption. Raises: DataError for a damaged file."""
    fix, what = "remove it, and type the same command again", "a part of the features"
    part = load_arrays(path, fix=fix, error=DataError, what=what)
    wanted = {"read": "iu", "said": "U"}
    if "read" in part and part["read"].size:
        wanted |= {"pooled": "f"} | ({"tokens": "f"} if tokens else {})
    wrong = [name for name, kinds in wanted.items() if name not in part or part[name].dtype.kind not in kinds]
    lengths = {len(part[name]) for name in wanted if name not in (*wrong, "said") and part[name].ndim}
    if wrong or len(lengths) != 1 or not all(0 <= place < rows for place in part["read"].ravel()):
        raise DataError(f"{what} is damaged ({', '.join(wrong) or 'other samples are in it'})", where=path, fix=fix)
    try:
        said = typed.loads(str(part["said"]))
    except ValueError as error:
        raise DataError(f"{what} is damaged ({error})", where=path, fix=fix) from error
    return part, typed.checked(_Said, said, path, fix=fix, error=DataError, what=what)


def _row(record: Record) -> int | None:
    part = record.part or ()
    return int(part[1]) if part[:1] == ("row",) else None


def _labels(inputs: Sequence[Path]) -> dict[tuple[Path, int | None], str]:
    """Labels by file, and row of a table, of folders with a manifest that has them."""
    label_of: dict[tuple[Path, int | None], str] = {}
    for folder in inputs:
        manifest = manifest_of(folder)
        for line, row in () if manifest is None else rows_of(manifest):
            if manifest is not None and row.get("label") and row.get("path"):
                index = number_of(row.get("index", ""))
                path = inside(manifest.parent, row["path"], f"{manifest}:{line}")
                label_of[path.resolve(), int(index) if index else None] = row["label"]
    return label_of
