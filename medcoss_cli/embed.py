"""Features of files: one vector a sample, and if asked one a token, from a checkpoint or from an exported file."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.data.read import encode, read_checked, reason_counts
from medcoss_cli.errors import DataError, Interrupted, ResourceError, UsageError
from medcoss_cli.inputs import list_records, name_of
from medcoss_cli.interruption import Interruption
from medcoss_cli.kit.manifest import NAME, rows_of
from medcoss_cli.model.outputs import Array, finite
from medcoss_cli.plugin import LeftOut, Modality, Record
from medcoss_cli.portable.description import sha256
from medcoss_cli.screen import Screen
from medcoss_cli.store import atomic
from medcoss_cli.store.table import write_rows

BATCH = 16
CHUNK = 256
"""Samples between two writes: what an interruption may cost."""
ENDINGS = (".npz", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Embedder:
    """What turns stored integers into features.

    Args:
        features: inputs to (tokens (N, L, D), pooled (N, D)).
        key: hash of the file it comes from.
    """

    modality: Modality
    features: Callable[[Array], tuple[Array, Array]]
    decode: Callable[[Array, float, float], Array]
    key: str


@dataclass
class Embedded:
    """Features of all samples that could be read, in the order of their names. Private: ids name files."""

    ids: list[str]
    pooled: Array
    tokens: Array | None
    labels: list[str] | None
    bad: list[LeftOut] = field(default_factory=list)


def embed(
    source: Path, modality: str | None, inputs: Sequence[Path], out: Path, *, tokens: bool, screen: Screen
) -> Embedded:
    """Embed every record of these files and folders and write OUT; what was interrupted goes on where it stood.

    Raises: DataError if nothing can be read, Interrupted when everything so far is saved.
    """
    if out.suffix not in ENDINGS:
        raise UsageError(
            "OUT is no kind of file that is known", where=out, fix=f"name it {out.stem}.npz, .jsonl or .parquet"
        )
    if out.suffix == ".parquet":
        _parquet()
    one = embedder(source, modality, screen)
    records, bad = list_records(one.modality, inputs, screen)
    names = [name_of(base, record).as_posix() for base, record in records]
    labels = _labels(inputs)
    said = json.dumps([one.key, one.modality.name, tokens, [str(path.absolute()) for path in inputs], names])
    work = out.with_name(f"{out.name}.unfinished-{hashlib.sha256(said.encode()).hexdigest()[:16]}")
    chunks = [range(i, min(i + CHUNK, len(records))) for i in range(0, len(records), CHUNK)]
    with Interruption(screen.say) as interruption, screen.progress("embedding", len(records)) as bar:
        for number, rows in enumerate(chunks):
            path = work / f"{number:06d}.npz"
            if not path.exists():
                _save(path, _chunk(one, [records[row][1] for row in rows], tokens))
            bar.advance(len(rows))
            if interruption.asked and number + 1 < len(chunks):
                raise Interrupted(
                    f"stopped after {rows.stop} of {len(records)} samples, everything is saved",
                    fix="go on with the same command",
                )
    found = _joined(work, chunks, names, [record for _, record in records], labels, tokens)
    for note, count in found[1].items():
        screen.warn(f"{count} x {note}")
    done = found[0]
    done.bad = bad + done.bad
    if not done.ids:
        raise DataError(f"nothing could be read: {reason_counts(item.reason for item in done.bad)}", where=inputs[0])
    _write(done, out)
    if done.bad:
        rows_ = [{"file": item.source, "reason": item.reason} for item in done.bad]
        write_rows(out.with_name(f"{out.stem}-quarantine.csv"), rows_)
    shutil.rmtree(work)
    return done


def embedder(source: Path, modality: str | None, screen: Screen) -> Embedder:
    """From an exported file, without torch; else from a checkpoint. Raises: UsageError, CheckpointError."""
    if source.suffix == ".onnx":
        from medcoss_cli.portable import session

        one = session.load(source)
        known = one.modality()
        if one.about.kind != "features" or modality not in (None, known.name):
            raise UsageError(
                f"this file gives {one.about.kind} of {known.name}", where=source, fix="export one with --modality"
            )
        return Embedder(known, lambda inputs: tuple(one.run(inputs)), one.decode, sha256(source.read_bytes()))  # type: ignore[arg-type,return-value]  # two outputs
    if modality is None:
        raise UsageError("a checkpoint knows several modalities", where="--modality", fix="name one")
    from medcoss_cli.portable.trained import features_of

    known, features, decode, file = features_of(source, modality, screen)
    return Embedder(known, features, decode, sha256(file.read_bytes()))


def draw(done: Embedded, path: Path) -> None:
    """A picture of the embedding in two dimensions (t-SNE of pooled features, scikit-learn), coloured by label."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    few = len(done.ids)
    if few < 4:
        raise UsageError(f"a map of {few} samples says nothing", where="--map", fix="give at least 4")
    places = TSNE(perplexity=min(30, (few - 1) / 3), init="pca", random_state=0).fit_transform(done.pooled)
    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for label in sorted(set(done.labels)) if done.labels else [None]:
        own = [i for i in range(few) if done.labels is None or done.labels[i] == label]
        axes.scatter(places[own, 0], places[own, 1], s=14, label=label, alpha=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"{few} samples, t-SNE of pooled features")
    if done.labels:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=140)
    atomic.write(path, content.getvalue())


def _chunk(one: Embedder, records: Sequence[Record], tokens: bool) -> dict[str, Any]:
    """Arrays of a chunk: which records were read, their features, and why the others were not."""
    inputs, read, reasons = [], [], []
    notes: list[str] = []
    for place, record in enumerate(records):
        try:
            sample = read_checked(one.modality, record)
            integers, scale, offset = encode(one.modality, sample)
        except DataError as error:
            reasons.append((place, error.what))
            continue
        inputs.append(one.decode(integers[None], scale, offset))
        read.append(place)
        notes += sample.notes
    parts = [one.features(np.concatenate(inputs[i : i + BATCH])) for i in range(0, len(inputs), BATCH)]
    content: dict[str, Any] = {"read": np.array(read, np.int64), "said": np.array(json.dumps([reasons, notes]))}
    if parts:
        content["pooled"] = finite(np.concatenate([pooled for _, pooled in parts]))
        if tokens:
            content["tokens"] = np.concatenate([part for part, _ in parts])
    return content


def _joined(
    work: Path,
    chunks: Sequence[range],
    names: Sequence[str],
    records: Sequence[Record],
    labels: dict[tuple[Path, int | None], str],
    tokens: bool,
) -> tuple[Embedded, Counter[str]]:
    ids, of, pooled, every, bad = [], [], [], [], []
    notes: Counter[str] = Counter()
    for number, rows in enumerate(chunks):
        with np.load(work / f"{number:06d}.npz", allow_pickle=False) as part:
            reasons, said = json.loads(str(part["said"]))
            notes.update(said)
            bad += [LeftOut(records[rows[place]].source, reason, bad=True) for place, reason in reasons]
            if len(part["read"]):
                ids += [names[rows[place]] for place in part["read"]]
                of += [records[rows[place]] for place in part["read"]]
                pooled.append(part["pooled"])
                every += [part["tokens"]] if tokens else []
    known = [labels.get((record.source.resolve(), _row(record))) for record in of]
    features = np.concatenate(pooled) if pooled else np.zeros((0, 0), np.float32)
    whole = [str(label) for label in known] if known and all(label is not None for label in known) else None
    return Embedded(ids, features, np.concatenate(every) if every else None, whole, bad), notes


def _row(record: Record) -> int | None:
    part = record.part or ()
    return int(part[1]) if part[:1] == ("row",) else None


def _labels(inputs: Sequence[Path]) -> dict[tuple[Path, int | None], str]:
    """Labels by file, and row of a table, of folders with a manifest that has them."""
    found: dict[tuple[Path, int | None], str] = {}
    for folder in inputs:
        if (folder / NAME).is_file():
            for _, row in rows_of(folder / NAME):
                if row.get("label"):
                    index = row.get("index")
                    found[(folder / row["path"]).resolve(), int(index) if index else None] = row["label"]
    return found


def _save(path: Path, content: dict[str, Any]) -> None:
    written = io.BytesIO()
    np.savez(written, **content)
    atomic.write(path, written.getvalue())


def _write(done: Embedded, out: Path) -> None:
    if out.suffix == ".npz":
        content: dict[str, Any] = {"ids": np.array(done.ids), "pooled": done.pooled}
        content |= {"tokens": done.tokens} if done.tokens is not None else {}
        content |= {"labels": np.array(done.labels)} if done.labels is not None else {}
        _save(out, content)
    elif out.suffix == ".jsonl":
        atomic.write(out, "".join(json.dumps(row) + "\n" for row in _rows(done)).encode("utf-8", "surrogateescape"))
    else:
        arrow, parquet = _parquet()
        rows = list(_rows(done))
        atomic.write(out, lambda file: parquet.write_table(arrow.Table.from_pylist(rows), file))


def _rows(done: Embedded) -> Iterator[dict[str, Any]]:
    for i, name in enumerate(done.ids):
        row: dict[str, Any] = {"id": name, "pooled": [round(float(v), 7) for v in done.pooled[i]]}
        if done.labels is not None:
            row["label"] = done.labels[i]
        if done.tokens is not None:
            row["tokens"] = done.tokens[i].astype(float).round(7).tolist()
        yield row


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ResourceError(
            "parquet needs pyarrow", fix="pip install 'medcoss[parquet]', or write .npz or .jsonl"
        ) from error
    return pyarrow, pyarrow.parquet
