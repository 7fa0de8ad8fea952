"""A fine-tuned run on new files: a row of a table for each, or files such as masks, as the kind of task has it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.data.inputs import list_records, names_of
from medcoss_cli.data.read import read_checked
from medcoss_cli.data.recordings import parts_of
from medcoss_cli.errors import DataError
from medcoss_cli.plugin import Record, Skipped
from medcoss_cli.store import atomic
from medcoss_cli.store.table import write_rows
from medcoss_cli.tasks import Prediction
from medcoss_cli.tasks.predictor import Predictor


@dataclass(frozen=True)
class Predicted:
    """One record's prediction, and what its recording's row and its own are called."""

    record: Record
    recording: str
    name: str
    prediction: Prediction


@dataclass
class PredictionFiles:
    """What a prediction left behind."""

    done: int = 0
    files: list[Path] = field(default_factory=list)
    bad: list[Skipped] = field(default_factory=list)


def predict(
    run: Path, inputs: Sequence[Path], out: Path, *, seed: int | None, overlays: int, screen: Screen
) -> PredictionFiles:
    """Predict every record of these files and folders; a broken file is put aside and the others are done.

    Args:
        seed: whose network; None: the one that validated best.
        overlays: pictures to draw of the first cases.

    Raises: DataError if nothing can be read at all, ResourceError where a volume needs more memory than there is.
    """
    predictor = predictor_for(run, seed, screen)
    records, bad = list_records(predictor.modality, inputs, screen)
    written = PredictionFiles(bad=bad)
    predicted: list[Predicted] = []
    with screen.progress("predicting", len(records)) as bar:
        for (_, record), (recording, name) in zip(records, names_of(records), strict=True):
            try:
                sample = read_checked(predictor.modality, record)
                draw = written.done < overlays
                prediction = predictor.kind.write(predictor, sample, record, out / name, draw=draw, screen=screen)
            except DataError as error:
                written.bad.append(Skipped(record.source, error.what, bad=True))
            else:
                written.files += prediction.files
                if prediction.row:
                    predicted.append(Predicted(record, recording.as_posix(), name.as_posix(), prediction))
                written.done += 1
            bar.advance()
    if predicted:
        written.files += _tables(out, predictor, predicted)
    if written.bad:
        write_rows(out / "quarantine.csv", [{"file": item.source, "reason": item.reason} for item in written.bad])
        written.files.append(out / "quarantine.csv")
    return written


def predictor_for(run: Path, seed: int | None, screen: Screen) -> Predictor:
    """What an exported file or a run's folder holds; torch is imported for the latter alone."""
    if run.suffix == ".onnx":
        from medcoss_cli.export import runtime

        return runtime.load(run).predictor(screen)
    from medcoss_cli.finetuning.checkpoints import best_seed
    from medcoss_cli.finetuning.setup import one_device

    return best_seed(run, seed, screen).predictor(one_device().device)


def _tables(out: Path, predictor: Predictor, predicted: Sequence[Predicted]) -> Iterator[Path]:
    """A row for each recording, made of its parts by the kind of task; the parts' own rows beside it."""
    rows: list[dict[str, Any]] = []
    part_rows = [{"input": item.name, **item.prediction.row} for item in predicted]
    for places in parts_of([item.record for item in predicted]):
        parts = [predicted[place] for place in places]
        row = predictor.kind.combine(predictor.spec, [item.prediction for item in parts]) if len(parts) > 1 else None
        rows += [part_rows[place] for place in places] if row is None else [{"input": parts[0].recording, **row}]
    write_rows(out / "predictions.csv", rows)
    yield out / "predictions.csv"
    atomic.write(out / "predictions.json", json.dumps(rows, indent=1).encode("utf-8", "surrogateescape"))
    yield out / "predictions.json"
    if len(rows) < len(part_rows):
        write_rows(out / "predictions-parts.csv", part_rows)
        yield out / "predictions-parts.csv"
