"""What a page is made of: a run's folder, read. Only numbers, classes, modalities and settings come through."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medcoss_cli.errors import DataError, UsageError, is_of_the_machine
from medcoss_cli.registry.discovery import make_task
from medcoss_cli.store import checkpoint, start, typed, yaml_text
from medcoss_cli.store.run import without_paths
from medcoss_cli.tasks import TaskKind

_PLACES = ("folder", "cnn", "start")  # keys of a finetune recipe that name files


@dataclass(frozen=True)
class Pretraining:
    """A run of kind pretrain or extend.

    Args:
        finished: the day, or None.
        history: the checkpoint's entry of every finished stage, those before this run too.
        modalities: the checkpoint's facts of each.
        encoder: the checkpoint's facts, or the recipe's.
        retention: stage, modality and measures, as retention.json holds them.
        steps: lines of metrics.jsonl.
    """

    kind: str
    finished: str | None
    recipe: dict[str, Any]
    versions: dict[str, str]
    history: list[dict[str, Any]]
    modalities: dict[str, Any]
    encoder: dict[str, Any]
    retention: list[dict[str, Any]]
    steps: list[dict[str, Any]]

    @property
    def strategy(self) -> str:
        # with the settings that differ from defaults
        recorded = self.history[-1].get("strategy") if self.history else None
        choice = self.recipe.get("strategy")
        return str(recorded or (choice.get("name") if isinstance(choice, Mapping) else choice) or "–")

    @property
    def stages(self) -> dict[int, str]:
        """Modality by number of stage: those that are done, and the one that is at work."""
        titles = {entry["stage"]: entry["modality"] for entry in (*self.history, *self.retention)}
        fresh: dict[int, dict[str, None]] = {}
        for row in self.steps:
            if row["new"] and row["stage"] not in titles:
                fresh.setdefault(row["stage"], {})[row["modality"]] = None
        return dict(sorted((titles | {stage: "+".join(names) for stage, names in fresh.items()}).items()))


@dataclass(frozen=True)
class Finetuning:
    """A run of kind finetune, or a later test of one.

    Args:
        finished: the day, or None.
        results: results.json; empty while there is none.
        steps: lines of metrics.jsonl by seed.
        pictures: caption and PNG of samples; only where they were asked for.
    """

    finished: str | None
    recipe: dict[str, Any]
    versions: dict[str, str]
    results: dict[str, Any]
    steps: dict[int, list[dict[str, Any]]]
    pictures: list[tuple[str, bytes]]

    @property
    def task(self) -> str:
        """The kind's name."""
        written, task = self.recipe.get("task"), self.results.get("task")
        return str(
            (task if isinstance(task, str) else None)
            or (written.get("name") if isinstance(written, Mapping) else written)
            or "task"
        )

    @cached_property
    def kind(self) -> TaskKind:
        """The installed kind of task. Raises: UsageError if there is none of this name, PluginError if it is broken."""
        written = mapping(self.recipe.get("task"))
        return make_task(self.task, {key: value for key, value in written.items() if key != "name"})

    @property
    def modality(self) -> str:
        return str(self.results.get("modality") or self.recipe.get("modality") or "–")

    @property
    def title(self) -> str:
        return str(self.results.get("title") or f"{self.task} of {self.modality}".capitalize())

    @property
    def start(self) -> str:
        return self.called(start.named)

    def called(self, words_of: Callable[[object], str]) -> str:
        """The start in words, with the encoder and the data where they are others than in training.

        Args:
            words_of: `store.start.named`, or one that says more, where several starts are named alike.
        """
        encoder = self.results.get("encoder", "as trained")
        words = [
            words_of(self.results.get("start")),
            *([str(encoder)] if encoder != "as trained" else []),
            *(["other data"] if self.foreign else []),
        ]
        return ", ".join(words)

    @property
    def foreign(self) -> bool:
        """Was it tested on data that is not its own?"""
        return self.results.get("foreign") is True

    @property
    def main(self) -> str:
        """The metric that is compared."""
        return self.kind.main

    @property
    def summary(self) -> dict[str, tuple[float | None, float | None]]:
        """Mean and standard deviation over the seeds."""
        entries = {metric: mapping(entry) for metric, entry in mapping(self.results.get("summary")).items()}
        return {metric: (number(entry.get("mean")), number(entry.get("sd"))) for metric, entry in entries.items()}

    @property
    def seeds(self) -> list[dict[str, Any]]:
        return [mapping(entry) for entry in listing(self.results.get("seeds"))]


Run = Pretraining | Finetuning


def read(folder: Path, with_samples: bool = False) -> list[Run]:
    """What there is of a run, finished or not; of a folder that `evaluate` left, a test with each encoder.

    Raises: UsageError if the folder is none of a run's, DataError for a file that medcoss did not write like this.
    """
    if not (folder / "run.json").is_file() or not (folder / "recipe.yaml").is_file():
        if (folder / "results.json").is_file():
            return _evaluations(folder / "results.json")
        raise UsageError("this is not a run's folder", where=folder, fix="name a folder under runs/")
    return [_run(folder, with_samples)]


def _evaluations(path: Path) -> list[Run]:
    results = _json(path)
    if results.get("kind") != "evaluate":
        raise _damaged(path)
    recipe, tested = _settings(mapping(results.get("recipe"))), results.get("tested")
    day = tested if isinstance(tested, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", tested) else "–"
    runs: list[Run] = []
    for label, summary in mapping(results.get("summary")).items():
        seeds = [entry for entry in map(mapping, listing(results.get("seeds"))) if entry.get("encoder") == label]
        of_label = {**results, "seeds": seeds, "summary": summary, "encoder": label}
        runs.append(Finetuning(day, recipe, _versions(results), of_label, {}, []))
    if not runs:
        raise _damaged(path)
    return runs


def _run(folder: Path, with_samples: bool) -> Run:
    facts = _json(folder / "run.json")
    kind, end = facts.get("kind"), facts.get("finished")
    day = re.match(r"\d{4}-\d\d-\d\d", end) if isinstance(end, str) else None
    finished = day and day[0]
    recipe = _recipe(folder / "recipe.yaml")
    versions = _versions(facts)
    if kind == "finetune":
        results = _json(folder / "results.json") if (folder / "results.json").exists() else {}
        return Finetuning(
            finished if results else None,
            _settings(mapping(results.get("recipe")) or recipe),
            _versions(results) or versions,
            results,
            {int(seed.name[5:]): list(_lines(seed / "metrics.jsonl")) for seed in _seeds(folder)},
            list(_pictures(folder)) if with_samples else [],
        )
    if kind not in ("pretrain", "extend"):
        raise DataError("no page is made of a run of this kind", where=folder / "run.json")
    content = checkpoint.load(folder / "ckpt.pt") if (folder / "ckpt.pt").exists() else None
    if kind == "extend":
        recipe["stage"] = mapping(facts.get("stage"))
    history = content.history if content else []
    return Pretraining(
        kind,
        finished,
        _settings(recipe),
        versions | (_versions(history[-1]) if history else {}),
        history,
        content.modalities if content else {},
        content.encoder if content else mapping(recipe.get("encoder")),
        _retention(folder / "retention.json"),
        [row for row in _lines(folder / "metrics.jsonl") if _is_step(row)],
    )


def number(value: object) -> float | None:
    """A finite number, or None for what is none (null, NaN, absent)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 1e300 and math.isfinite(value) else None


def mapping(value: object) -> dict[str, Any]:
    """A JSON object, or an empty one for what is none."""
    return {str(key): entry for key, entry in value.items()} if isinstance(value, Mapping) else {}


def listing(value: object) -> list[Any]:
    """A JSON array, or an empty one for what is none."""
    return value if isinstance(value, list) else []


def _json(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        content = typed.loads(text)
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(content, dict):
        raise _damaged(path)
    return content


def _recipe(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        return mapping(yaml_text.read(text))
    except ValueError as error:
        raise _damaged(path) from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a metrics.jsonl; the last one may have been torn by a kill."""
    lines = _text(path).splitlines() if path.exists() else []
    for i, line in enumerate(lines, 1):
        try:
            row = typed.loads(line)
        except ValueError as error:
            if i < len(lines):
                raise _damaged(f"{path}:{i}") from error
            return
        yield mapping(row)


def _retention(path: Path) -> list[dict[str, Any]]:
    """Stages of a retention.json; a measure that is no number is left out."""
    stages = listing(_json(path).get("stages")) if path.exists() else []
    try:
        return [
            {
                "stage": int(stage["stage"]),
                "modality": str(stage["modality"]),
                **({"modalities": _parts(stage["modalities"])} if "modalities" in stage else {}),
                "retention": {m: row for m, row in _measures(stage).items() if "cka" in row},
            }
            for stage in stages
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error


def _parts(modalities: object) -> dict[str, dict[str, Any]]:
    """What is said of each modality of a joint stage; a baseline that is no number is left out."""
    kept = {m: dict(mapping(part)) for m, part in mapping(modalities).items()}
    for part in kept.values():
        if number(part.get("baseline")) is None:
            part.pop("baseline", None)
    return kept


def _measures(stage: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    rows = mapping(stage.get("retention"))
    return {m: {k: x for k, v in mapping(row).items() if (x := number(v)) is not None} for m, row in rows.items()}


def _is_step(row: Mapping[str, Any]) -> bool:
    kinds = {"stage": int, "step": int, "modality": str, "new": bool}
    return all(isinstance(row.get(key), kind) for key, kind in kinds.items())


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as the page may show it: no path, no name of a file, nothing that was left to its default."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, Mapping):
            parts = {key: cleaned(entry) for key, entry in value.items() if key not in _PLACES}
            return {key: entry for key, entry in parts.items() if entry is not None and entry != {}}
        if isinstance(value, list):
            return [entry for entry in map(cleaned, value) if entry is not None]
        return None if isinstance(value, str) and re.search(r"[/\\~]", value) else value

    return mapping(cleaned(without_paths(recipe)))


def _versions(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in mapping(facts.get("versions")).items() if isinstance(value, str)}


def _seeds(folder: Path) -> list[Path]:
    folders = [path for path in folder.glob("seed-*") if re.fullmatch(r"seed-\d{1,9}", path.name)]
    return sorted(folders, key=lambda path: int(path.name[5:]))


def _pictures(folder: Path) -> Iterator[tuple[str, bytes]]:
    for seed in _seeds(folder):
        pictures = [path for path in (seed / "cases").glob("*.png") if path.is_file()]
        for path in sorted(pictures, key=lambda path: _natural(path.stem)):
            yield f"{path.stem.replace('-', ' ').capitalize()} (seed {seed.name[5:]})", path.read_bytes()


def _natural(stem: str) -> list[tuple[int, str]]:
    """Sorts "best-2" before "best-10"."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", stem)]


_LONE = re.compile(r"(\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})|\\ud[89a-f][0-9a-f]{2}", re.IGNORECASE)
"""Half of a character in JSON, which no picture can hold; or a whole one, which stays."""


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > typed.LARGEST:
            raise _damaged(path)
        return _LONE.sub(lambda escape: escape[1] or r"\ufffd", path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if is_of_the_machine(error):
            raise
        raise _damaged(path) from error


def _damaged(where: object) -> DataError:
    return DataError("this file of the run is damaged", where=where, fix="restore it, or continue with --resume RUN")
