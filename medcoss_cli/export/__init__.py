"""Export of a checkpoint or a fine-tuned run: the driver, and `Format`, the contract of what it writes.

A format is found by its name in the entry-point group `medcoss.formats`; a third party brings its own as one class. The
driver does all that formats have in common: what is exported, a scratch folder, the comparison with torch, the model card,
and the final name, which a file gets last. Importing this imports no torch: an exported file is used without it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medcoss_cli.console import Screen
from medcoss_cli.errors import ExportError, UsageError
from medcoss_cli.export import metadata, model_card, verify
from medcoss_cli.export.metadata import Description, hash_of, sha256
from medcoss_cli.export.verify import FP32, Run, Tolerance
from medcoss_cli.registry.discovery import FORMATS, load_class
from medcoss_cli.store import atomic, lock

if TYPE_CHECKING:
    from medcoss_cli.export.samples import VerificationSamples
    from medcoss_cli.export.target import Exportable

_NEEDED = {
    "encoder": "leave --modality and --run out",
    "features": "name a modality with --modality",
    "task": "name a fine-tuned run with --run",
}


class Format:
    """One kind of file that a network is written as; the entry point names the class and is called as its `name`."""

    name: ClassVar[str]
    suffix: ClassVar[str]
    """The file's ending, with its dot."""
    library: ClassVar[str]
    """What computes the file when it is verified, as the card names it."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions the description names."""
    kinds: ClassVar[tuple[str, ...]] = ("encoder", "features", "task")
    """What can be exported; see `Description.kind`."""
    precisions: ClassVar[Mapping[str, Tolerance]] = {"fp32": FP32}
    """Precisions by name, and how far from torch each may be."""
    dynamic: ClassVar[bool] = False
    """True: the axes of space may change in size; verified at sizes that were never traced."""
    opsets: ClassVar[bool] = False
    """True: `--opset` is taken."""

    def write(self, item: Exportable, path: Path, about: Description) -> Description:
        """Write the file in `about.precision` with its description inside; returns the description, completed.

        Files whose names begin with the file's own go with it. Raises: ExportError for what the format cannot hold.
        """
        raise NotImplementedError  # each format has its own; the contract has none

    def run(self, item: Exportable, path: Path) -> Run:
        """Input arrays to all outputs of `item.network`, computed from the written file. Raises: ExportError."""
        raise NotImplementedError  # each format has its own; the contract has none

    def usage(self, item: Exportable, about: Description, name: str) -> list[str]:
        """Lines of Markdown for the model card: how the file is used."""
        raise NotImplementedError  # each format has its own; the contract has none


def load_format(name: str) -> Format:
    """The format of this name. Raises: UsageError if there is none, PluginError if it is broken."""
    form: Format = load_class(FORMATS, name, Format)()
    return form


def export(
    source: Path | None,
    out: Path,
    *,
    form: Format,
    modality: str | None,
    run: Path | None,
    seed: int | None,
    precision: str,
    opset: int | None,
    samples: Path | None,
    licence: str,
    screen: Screen,
) -> dict[str, Any]:
    """Write OUT and, beside it, its model card, the numbers of its verification, and the tokenizer where there are words.

    Args:
        source: a checkpoint; not needed with `run`.
        samples: a folder to verify it on; None: what the checkpoint holds, or the plugin's demo set.

    Returns: what --json prints. Raises: ExportError (exit 8) where it differs; nothing is then under the final name.
    """
    _check(form, out, "task" if run else "features" if modality else "encoder", precision, opset)
    from medcoss_cli.export.target import choose_target

    began = time.monotonic()
    item, shown, file = choose_target(source, modality, run, seed, samples, screen)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with lock.scratch(out) as scratch:
            path = scratch / out.name
            entries = {"precision": precision, "opset": opset, "licence": licence, "checkpoint": hash_of(file)}
            item, about, rows = _verified(form, item, path, entries, screen)
            shares = _neighbours(form, item, shown, path, precision)
            facts = {
                "file": out.name,
                "bytes": sum(part.stat().st_size for part in _parts(path)),
                "sha256": hash_of(path),
                "precision": precision,
                "against": form.library,
                "samples": shown.origin if shown else "tokens drawn at random",
                "tolerance": form.precisions[precision].to_plain(),
                "rows": [row.to_plain() for row in rows],
                "neighbours": shares,
                "seconds": round(time.monotonic() - began, 1),
            }
            _place(out, path, item, model_card.write(about, facts, out.name, form.usage(item, about, out.name)), facts)
    except OSError as error:
        raise atomic.user_error(error, out) from error
    return facts


def _check(form: Format, out: Path, kind: str, precision: str, opset: int | None) -> None:
    """Raises: UsageError for what the format does not write."""
    if out.suffix != form.suffix:
        raise UsageError(
            f"a file of the format {form.name} ends in {form.suffix}", where=out, fix=f"name it {out.stem}{form.suffix}"
        )
    if kind not in form.kinds:
        fix = " or ".join(_NEEDED[name] for name in form.kinds)
        raise UsageError(f"the format {form.name} does not take this ({kind})", where="--format", fix=fix)
    if precision not in form.precisions:
        precisions = list(form.precisions)
        raise UsageError(
            f"the format {form.name} has no precision {precision!r}",
            where="--precision",
            fix=f"take {' or '.join(filter(None, [', '.join(precisions[:-1]), precisions[-1]]))}",
        )
    if opset is not None and not form.opsets:
        raise UsageError(f"the format {form.name} has no opsets", where="--opset", fix="leave it out")


def _verified(
    form: Format, item: Exportable, path: Path, entries: Mapping[str, Any], screen: Screen
) -> tuple[Exportable, Description, list[verify.Comparison]]:
    """Written and compared; with fixed axes, and a note, where changing ones cannot be written or differ."""
    if not form.dynamic:
        item = item.fixed()
    try:
        return item, *_write(form, item, path, entries)
    except ExportError as error:
        if item.steps is None or item.tokens:
            raise
        screen.warn(f"with axes that change: {error.what}; they are fixed at {' x '.join(map(str, item.size))}")
    item = item.fixed()
    return item, *_write(form, item, path, entries)


def _write(
    form: Format, item: Exportable, path: Path, entries: Mapping[str, Any]
) -> tuple[Description, list[verify.Comparison]]:
    axes, sizes = item.axes()
    words = sha256(item.words.encode()) if item.words else None
    about = Description(**{**item.about, **entries}, axes=axes, sizes=sizes, vocabulary=words)
    libraries = {name: version(name) for name in form.packages}
    about = form.write(item, path, replace(about, versions={**about.versions, **libraries}))
    in_torch, from_file = item.run(), form.run(item, path)
    rows = [
        verify.compare(in_torch, from_file, item.batch(count, size), size)
        for place, size in enumerate(item.sizes())
        for count in (verify.BATCHES if place == 0 else (1, 2))
    ]
    verify.judge(rows, about.precision, form.precisions[about.precision])
    return about, rows


def _neighbours(
    form: Format, item: Exportable, shown: VerificationSamples | None, path: Path, precision: str
) -> dict[str, float] | None:
    """Nearest-neighbour accuracy of both, where labels are known; a precision may say how much of it may be lost."""
    if shown is None or shown.labels is None or item.about["kind"] != "features":
        return None
    from medcoss_cli.metrics.neighbours import agreement, neighbours  # with scikit-learn, which using a file needs not

    inputs = shown.inputs[: len(shown.labels)]
    chunks = [inputs[i : i + 16] for i in range(0, len(inputs), 16)]
    runs: dict[str, Callable[..., Any]] = {"torch": item.run(), form.name: form.run(item, path)}
    shares = {}
    for name, run in runs.items():
        nearest, _ = neighbours(np.concatenate([run(chunk)[-1] for chunk in chunks]), 1, shown.groups)
        shares[name] = agreement(nearest, shown.labels)
    verify.judge_neighbours(shares["torch"], shares[form.name], form.precisions[precision])
    return shares


def _parts(path: Path) -> list[Path]:
    """A written file and what belongs to it, the file itself last."""
    return sorted((part for part in path.parent.iterdir() if part.name.startswith(path.name)), reverse=True)


def _place(out: Path, path: Path, item: Exportable, card: str, facts: dict[str, Any]) -> None:
    """Everything under its final name, the file itself last."""
    if item.words is not None:
        atomic.write(metadata.words_beside(out), item.words.encode())
    atomic.write(metadata.verification_beside(out), json.dumps(facts, indent=1).encode())
    atomic.write(metadata.card_beside(out), card.encode())
    for part in _parts(path):
        part.chmod(path.stat().st_mode)  # some libraries make what lies beside for its owner alone
        part.replace(out.with_name(part.name))
