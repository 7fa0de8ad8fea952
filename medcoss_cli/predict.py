"""A fine-tuned run on new files: classes with probabilities, or masks on the grid of every input."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.data.inputs import list_records, name_of
from medcoss_cli.data.masks import files_of, overlay, write_png, write_segmentation, write_volume
from medcoss_cli.data.read import read_checked
from medcoss_cli.errors import DataError, ResourceError, UsageError
from medcoss_cli.finetuning.predictor import Applied
from medcoss_cli.plugin import LeftOut, Record, Sample
from medcoss_cli.store import atomic
from medcoss_cli.store.table import write_rows

LARGE = 2**31
"""Bytes from which on a volume's need of memory is told before it is begun."""


@dataclass
class Written:
    """What a prediction left behind."""

    done: int = 0
    files: list[Path] = field(default_factory=list)
    bad: list[LeftOut] = field(default_factory=list)


def predict(
    run: Path, inputs: Sequence[Path], out: Path, *, seed: int | None, overlays: int, screen: Screen
) -> Written:
    """Predict every record of these files and folders; a broken file is put aside and the others are done.

    Args:
        seed: whose network; None: the one that validated best.
        overlays: pictures to draw of the first cases.

    Raises: DataError if nothing can be read at all, ResourceError where a volume needs more memory than there is.
    """
    one = network_of(run, seed, screen)
    records, bad = list_records(one.modality, inputs, screen)
    written = Written(bad=bad)
    rows: list[dict[str, Any]] = []
    with screen.progress("predicting", len(records)) as bar:
        for base, record in records:
            name = name_of(base, record)
            try:
                sample = read_checked(one.modality, record)
                if one.task.kind == "classification":
                    rows.append({"input": name.as_posix(), **predict_sample(one, sample)})
                else:
                    written.files += _segmented(one, sample, record, out / name, written.done < overlays, screen)
                written.done += 1
            except DataError as error:
                written.bad.append(LeftOut(record.source, error.what, bad=True))
            bar.advance()
    if rows:
        written.files += _tables(out, rows)
    if written.bad:
        write_rows(out / "quarantine.csv", [{"file": item.source, "reason": item.reason} for item in written.bad])
        written.files.append(out / "quarantine.csv")
    return written


def network_of(run: Path, seed: int | None, screen: Screen) -> Applied:
    """What an exported file or a run's folder holds; torch is imported for the latter alone."""
    if run.suffix == ".onnx":
        from medcoss_cli.export import runtime

        return runtime.load(run).applied()
    from medcoss_cli.finetuning.checkpoints import applied, best
    from medcoss_cli.finetuning.setup import one_device

    one, place = best(run, seed, screen), one_device()
    return applied(one.task, one.modality, one.network, place.device)


def predict_sample(one: Applied, sample: Sample) -> dict[str, Any]:
    """The predicted class and probabilities of one sample, or `labels` (*size) on its own grid, 0 the background."""
    if one.task.kind == "segmentation":
        return {"labels": one.segment(sample)}
    scores = one.classify(sample)
    shares = {f"p_{label}": round(float(p), 6) for label, p in zip(one.task.classes, scores, strict=True)}
    return {"predicted": one.task.classes[int(scores.argmax())], **shares}


def _segmented(
    one: Applied, sample: Sample, record: Record, target: Path, draw: bool, screen: Screen
) -> Iterator[Path]:
    """The mask's files: NIfTI for volumes and, of a DICOM series, a DICOM Segmentation; PNG for images."""
    needed, shape = one.bytes_needed(sample)
    if needed > LARGE:
        screen.say(
            f"a volume of {' x '.join(map(str, shape))} on the network's grid: about {needed / 2**30:.1f} GiB of memory"
        )
    if needed > _available():
        raise ResourceError(
            f"the volume needs about {needed / 2**30:.1f} GiB of memory, {_available() / 2**30:.1f} are free",
            where=record.source,
            fix="close other programs, or fine-tune with a coarser input.spacing",
        )
    labels = one.segment(sample)
    if one.modality.dims == 2:
        write_png(labels, one.task.classes, path := target.with_name(f"{target.name}.png"))
        yield path
    else:
        stored = sample.stored
        if stored is None:
            raise DataError("its loader does not say on which grid the volume lies", where=record.source)
        write_volume(labels, stored, path := target.with_name(f"{target.name}.nii.gz"))
        yield path
        if files := files_of(record):
            try:
                path = target.with_name(f"{target.name}.seg.dcm")
                for note in write_segmentation(labels, stored, files, one.task.classes, path):
                    screen.warn(note)
                yield path
            except (UsageError, DataError) as error:  # the NIfTI is there all the same
                screen.warn(f"no DICOM Segmentation: {error}")
    if draw:
        overlay(
            sample.array,
            labels,
            None,
            one.task.classes,
            path := target.with_name(f"{target.name}-overlay.png"),
            sample.spacing,
        )
        yield path


def _available() -> float:
    """Bytes of memory that are free, infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return float("inf")


def _tables(out: Path, rows: Sequence[dict[str, Any]]) -> Iterator[Path]:
    write_rows(out / "predictions.csv", rows)
    yield out / "predictions.csv"
    atomic.write(out / "predictions.json", json.dumps(rows, indent=1).encode("utf-8", "surrogateescape"))
    yield out / "predictions.json"
