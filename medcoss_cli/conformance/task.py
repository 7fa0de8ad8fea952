"""The suite that every kind of task passes: `medcoss plugins check --task NAME`, and in a plugin author's own pytest:

def test_it_conforms(tmp_path):
    assert conformance.check_task(MyTask, tmp_path) == []

The kind is taken through the verbs on a tiny synthetic set: finetune, evaluate, predict, export, predict of the exported
file, report.
"""

from __future__ import annotations

import csv
import json
import math
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medcoss_cli.console import Screen
from medcoss_cli.errors import MedcossError
from medcoss_cli.plugin import CompleteModality
from medcoss_cli.registry import discovery
from medcoss_cli.tasks import TaskKind

COUNT = 24  # samples of the synthetic set
CLOSE = 1e-3  # how far an exported file's numbers may be from the run's, as a share


def check_task(kind: type[TaskKind], folder: Path, settings: Mapping[str, Any] | None = None) -> list[str]:
    """Everything that is wrong with an installed kind of task, one sentence each; empty if it conforms.

    Args:
        kind: the class that the entry point names.
        folder: an empty folder.
        settings: of the recipe's `task`; needed where `Settings` has keys without a default.
    """
    lacking = sorted(getattr(kind, "__abstractmethods__", ()))
    if lacking:
        return [f"it lacks the method {name}" for name in lacking]
    lacking = [name for name in ("name", "metrics", "main", "baseline") if not hasattr(kind, name)]
    if lacking:
        return [f"it lacks the attribute {name}" for name in lacking]
    if kind.main not in kind.metrics:
        return [f"its main metric {kind.main} has no title in metrics"]
    run = _Run(kind, folder, settings or {})
    steps = (run.finetune, run.evaluate, run.predict, run.export, run.report)
    faults: list[str] = []
    for step in steps:
        verb = step.__name__
        try:
            sentences = list(step())
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            sentences = [_blame(kind, verb, error)]
        faults += sentences
        if sentences and verb == "finetune":
            break  # the others need its run
    return faults


class _Run:
    """Each step yields what is wrong; the later ones use the run of the first."""

    def __init__(self, kind: type[TaskKind], folder: Path, settings: Mapping[str, Any]) -> None:
        self.kind, self.folder, self.settings = kind, folder, dict(settings)
        self.run = folder / "runs" / "run"
        self.tested: dict[str, Any] = {}
        self.samples: list[Path] = []

    def finetune(self) -> Iterator[str]:
        """Trained, tested, and what it leaves can be read by programs."""
        from medcoss_cli.finetune import finetune
        from medcoss_cli.finetuning.setup import begin_finetune
        from medcoss_cli.recipe.finetuning import FinetuneRecipe
        from medcoss_cli.training.runs import Options

        modality = _image_modality()
        self.samples = _synthetic(modality, self.kind(self.settings), self.folder / "data" / "set")
        content: dict[str, Any] = {
            "kind": "finetune",
            "task": {"name": self.kind.name, **self.settings} if self.settings else self.kind.name,
            "modality": modality.name,
            "from": "scratch",
            "encoder": {"width": 32, "depth": 2, "heads": 2},
            "data": {"folder": "set", "workers": 1},
            "input": {"size": [32, 32], "augment": "none"},
            "train": {"lr": 1e-3, "batch": 4, "steps": 6, "epoch": 3},
        }
        recipe = FinetuneRecipe.model_validate(content | dict(self.kind.example))
        place = self.folder
        options = Options("run", False, place / "data", place / "prepared", place / "runs")
        job = begin_finetune(recipe, "run", None, [0], options, Screen())
        try:
            results = finetune(job)
        finally:
            job.run.finish()
            job.run.close()
        self.tested = results["seeds"][0]["test"] or {}
        missing = [key for key in ("metrics", "intervals", "baseline", "samples") if key not in self.tested]
        if missing:
            yield f"the result of its evaluate lacks {', '.join(missing)}"
            return
        if self.kind.main not in self.tested["metrics"]:
            yield f"its evaluate gives {', '.join(self.tested['metrics'])}, not its main metric {self.kind.main}"
        for part in ("intervals", "baseline"):
            if set(self.tested[part]) != set(self.tested["metrics"]):
                yield f"the {part} of its evaluate are not of the same metrics as metrics"
        measured = results["seeds"][0]["validation"]
        if measured is not None and not math.isfinite(self.kind(self.settings).criterion(measured)):
            yield "its criterion is not a finite number of the validation's scores"
        text = (self.run / "results.json").read_text(encoding="utf-8")
        if any(sample.name in text for sample in self.samples) or str(self.folder) in text:
            yield "the result of its evaluate names files, and results.json is shareable"
        with (self.run / "seed-0" / "cases.csv").open(newline="", encoding="utf-8") as file:
            if next(csv.reader(file))[:1] != ["where"]:
                yield "the rows of its evaluate do not begin with `where`"

    def evaluate(self) -> Iterator[str]:
        """The test of the stored network gives what the test after training gave."""
        from medcoss_cli.evaluate import evaluate
        from medcoss_cli.training.runs import Options

        options = Options(None, False, self.folder / "data", self.folder / "prepared")
        repeated = evaluate(self.run, None, None, None, options, Screen())["seeds"][0]["test"]
        for part in ("metrics", "baseline"):
            if json.dumps(repeated[part]) != json.dumps(self.tested[part]):
                yield f"its evaluate gives other {part} of the stored network; what it needs is kept by fit_target"

    def predict(self) -> Iterator[str]:
        """Every sample gives a row or files."""
        yield from self._predict(self.run, "predicted")

    def export(self) -> Iterator[str]:
        """The exported file predicts the same, and needs no torch."""
        from medcoss_cli.export import export
        from medcoss_cli.export.onnx import Onnx

        file = self.folder / "exported.onnx"
        export(
            None,
            file,
            form=Onnx(),
            modality=None,
            run=self.run,
            seed=None,
            precision="fp32",
            opset=None,
            samples=self.folder / "data" / "set",
            licence="not stated",
            screen=Screen(),
        )
        from medcoss_cli.export import runtime

        if "torch" in (runtime.load(file).about.packages or []):
            yield "using its exported file imports torch; import it inside the functions that train"
        yield from self._predict(file, "exported")
        first, second = (self.folder / name / "predictions.json" for name in ("predicted", "exported"))
        if first.exists() and second.exists():
            rows = [json.loads(path.read_text(encoding="utf-8")) for path in (first, second)]
            for row, other in zip(*rows, strict=True):
                wrong = next((key for key in row if not _is_close(row[key], other.get(key))), None)
                if wrong is not None:
                    yield f"its exported file predicts {wrong} {other.get(wrong)}, the run {row[wrong]}"
                    return

    def report(self) -> Iterator[str]:
        """The page is drawn."""
        from medcoss_cli.report import write

        write([self.run], self.folder / "report.html")
        page = (self.folder / "report.html").read_text(encoding="utf-8")
        if self.kind.title_of(self.kind.main) not in page:
            yield "its main metric is not on the page of its run"

    def _predict(self, source: Path, name: str) -> Iterator[str]:
        from medcoss_cli.predict import predict

        written = predict(source, self.samples[:4], self.folder / name, seed=None, overlays=1, screen=Screen())
        if written.bad:
            yield f"its write refuses a sample that it was trained on ({written.bad[0].reason})"
        elif not written.files:
            yield "its write gives neither a row nor a file"
        missing = [path.name for path in written.files if not path.is_file()]
        if missing:
            yield f"its write names files that it does not write ({', '.join(missing)})"


def _image_modality() -> CompleteModality:
    """The first installed modality of images with a demo set. Raises: StopIteration where there is none."""
    modalities = (status.modality for status in discovery.statuses())
    return next(m for m in modalities if m is not None and m.dims == 2 and m.demo is not None)


def _synthetic(modality: CompleteModality, kind: TaskKind, root: Path) -> list[Path]:
    """A demo set whose manifest has the kind's column; where the demo has none, numbers that follow the label."""
    assert modality.demo is not None
    modality.demo(root, COUNT, 0)
    manifest, column = root / "manifest.csv", kind.target.column
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row.get("label", "") for row in rows})
    for place, row in enumerate(rows):
        row.setdefault(column, str(20 + 10 * labels.index(row.get("label", "")) + place % 7))
    with manifest.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return [root / row["path"] for row in rows]


def _is_close(value: Any, other: Any) -> bool:
    if isinstance(value, int | float) and isinstance(other, int | float):
        return math.isclose(value, other, rel_tol=CLOSE, abs_tol=CLOSE)
    return bool(value == other)


def _blame(kind: type[TaskKind], verb: str, error: Exception) -> str:
    """One sentence: the kind's own member that raised, if one did, else the verb."""
    members = {name for base in kind.__mro__ for name in vars(base)}
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    member = next((name for name in reversed(frames) if name in members and name not in ("__init__", verb)), None)
    reason = str(error) if isinstance(error, MedcossError) else f"{type(error).__name__}: {error}"
    return f"its {member} fails in {verb} ({reason})" if member else f"{verb} fails ({reason})"
