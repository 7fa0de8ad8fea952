"""What `embed` gives: ids, features, labels; written for numpy, line by line, or as a table; drawn as a map."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medcoss_cli.errors import ResourceError, UsageError
from medcoss_cli.model.outputs import Array
from medcoss_cli.plugin import Skipped
from medcoss_cli.store import atomic

ENDINGS = (".npz", ".jsonl", ".parquet")


@dataclass
class Embedded:
    """Features of all samples that could be read, in the order of their names. Private: ids and groups name files.

    Args:
        groups: of each sample its patient or document, else its recording.
    """

    ids: list[str]
    pooled: Array
    tokens: Array | None
    labels: list[str] | None
    groups: list[str]
    bad: list[Skipped] = field(default_factory=list)


def save_arrays(path: Path, content: dict[str, Any]) -> None:
    """An .npz file, written at once or not at all."""
    written = io.BytesIO()
    np.savez(written, **content)
    atomic.write(path, written.getvalue())


def write(embedded: Embedded, out: Path) -> None:
    """In the form that its ending says."""
    if out.suffix == ".npz":
        content: dict[str, Any] = {"ids": np.array(embedded.ids), "pooled": embedded.pooled}
        content |= {"tokens": embedded.tokens} if embedded.tokens is not None else {}
        content |= {"labels": np.array(embedded.labels)} if embedded.labels is not None else {}
        save_arrays(out, content)
    elif out.suffix == ".jsonl":
        atomic.write(out, "".join(json.dumps(row) + "\n" for row in _rows(embedded)).encode("utf-8", "surrogateescape"))
    else:
        arrow, tables = parquet()
        rows = list(_rows(embedded))
        atomic.write(out, lambda file: tables.write_table(arrow.Table.from_pylist(rows), file))


def draw(embedded: Embedded, path: Path) -> None:
    """A picture of the embedding in two dimensions (t-SNE of pooled features, scikit-learn), coloured by label."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    count = len(embedded.ids)
    if count < 4:
        raise UsageError(f"a map needs at least 4 samples, not {count}", where="--map", fix="give at least 4")
    places = TSNE(perplexity=min(30, (count - 1) / 3), init="pca", random_state=0).fit_transform(embedded.pooled)
    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for label in sorted(set(embedded.labels)) if embedded.labels else [None]:
        members = [i for i in range(count) if embedded.labels is None or embedded.labels[i] == label]
        axes.scatter(places[members, 0], places[members, 1], s=14, label=label, alpha=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"{count} samples, t-SNE of pooled features")
    if embedded.labels:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=140)
    atomic.write(path, content.getvalue())


def _rows(embedded: Embedded) -> Iterator[dict[str, Any]]:
    for i, name in enumerate(embedded.ids):
        row: dict[str, Any] = {"id": name, "pooled": [round(float(v), 7) for v in embedded.pooled[i]]}
        if embedded.labels is not None:
            row["label"] = embedded.labels[i]
        if embedded.tokens is not None:
            row["tokens"] = embedded.tokens[i].astype(float).round(7).tolist()
        yield row


def parquet() -> tuple[Any, Any]:
    """The library that writes tables. Raises: ResourceError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ResourceError(
            "parquet needs pyarrow", fix="pip install 'medcoss[parquet]', or write .npz or .jsonl"
        ) from error
    return pyarrow, pyarrow.parquet
