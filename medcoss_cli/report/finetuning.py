"""The page of a run of kind finetune."""

from __future__ import annotations

from typing import Any

from medcoss_cli.report import pictures
from medcoss_cli.report.page import (
    MISSING,
    cases,
    document,
    duration,
    figure,
    heat_map,
    section,
    settings,
    shown,
    spread,
    table,
)
from medcoss_cli.report.runs import Finetuning, listing, mapping, number
from medcoss_cli.store import start
from medcoss_cli.tasks.figures import Confusion, Figure

OVERLAP = {"groups": "patients", "samples": "samples"}


def page(run: Finetuning, with_samples: bool) -> bytes:
    """Metrics, curves, errors, data, pictures, recipe and versions."""
    dims = number(run.results.get("dims"))
    kind = f"{run.task} of {run.modality}" + (f" ({shown(dims)}D)" if dims else "")
    return document(
        run.title,
        f"{kind[:1].upper()}{kind[1:]}, from {run.start}",
        _summary(run),
        (
            section("Test", _metrics(run), about=_about(run)),
            section("Learning curves", _curves(run)),
            *_figures(run),
            section("Data", _data(run)),
            samples(run, with_samples),
            section("Seeds", _seeds(run)),
            section("Recipe", settings(run.recipe)),
            section("Versions", table(["part", "version"], [[*item] for item in run.versions.items()])),
        ),
        unfinished=None if run.finished else "Unfinished: the results are not complete.",
        private=bool(run.pictures),
    )


def samples(run: Finetuning, with_samples: bool, title: str = "Cases") -> str:
    """Pictures of samples, or the word that there are none; nothing where they are not wanted."""
    if not with_samples:
        return ""
    return section(title, cases(run.pictures) or '<p class="quiet">This run holds no pictures of samples.</p>\n')


def _summary(run: Finetuning) -> dict[str, str]:
    metric = run.main
    base = [x for seed in run.seeds if (x := number(_test(seed, "baseline").get(metric))) is not None]
    test = mapping(mapping(run.results.get("data")).get("test"))
    return {
        f"{run.kind.title_of(metric)}, test": spread(*run.summary.get(metric, (None, None))),
        "trivial baseline": shown(sum(base) / len(base) if base else None),
        "seeds": shown(len(run.seeds) or len(run.steps)),
        "test samples": shown(test.get("samples")),
        "start": run.called(start.hashed),
        **_trust(run),
        "finished": run.finished or "not yet",
    }


def _trust(run: Finetuning) -> dict[str, str]:
    """Of a later test, what was left out, and what of it the run was trained on."""
    left_out = [f"{shown(count)} {what}" for what, count in mapping(run.results.get("left_out")).items() if count]
    overlap = mapping(run.results.get("overlap"))
    trained = [f"{shown(overlap[key])} {word}" for key, word in OVERLAP.items() if overlap.get(key)]
    facts = {"left out": ", ".join(left_out), "trained on, of these": ", ".join(trained)}
    return {name: text for name, text in facts.items() if text}


def _about(run: Finetuning) -> str:
    return (
        f"Mean ± standard deviation over the seeds; baseline: {run.kind.baseline}. "
        "For each seed the value and, in brackets, its interval. ↓: less is better."
    )


def _metrics(run: Finetuning) -> str:
    tests = [_test(seed, "metrics") for seed in run.seeds]
    metrics = dict.fromkeys((*run.summary, *(metric for test in tests for metric in test)))
    columns = ["metric", "mean ± std", "baseline", *(f"seed {seed.get('seed', i)}" for i, seed in enumerate(run.seeds))]
    lines = []
    classes = [str(name) for name in listing(run.results.get("classes"))]

    def place(metric: str) -> int:
        """The run's main metric, then those of all classes together, then class by class."""
        matches = [i for i, name in enumerate(classes) if metric.endswith(f"_{name}")]
        return -2 if metric == run.main else matches[0] if matches else -1

    means = {metric: run.summary.get(metric, (None, None))[0] for metric in metrics}
    headings = run.kind.headings(classes, means)
    for metric in sorted(headings, key=place):
        base = [x for seed in run.seeds if (x := number(_test(seed, "baseline").get(metric))) is not None]
        line = [
            headings[metric],
            spread(*run.summary.get(metric, (None, None))),
            shown(sum(base) / len(base) if base else None),
        ]
        for seed, test in zip(run.seeds, tests, strict=True):
            ends = listing(_test(seed, "intervals").get(metric))
            has_interval = len(ends) == 2 and None not in map(number, ends)
            line.append(shown(test.get(metric)) + (f" [{shown(ends[0])}, {shown(ends[1])}]" if has_interval else ""))
        lines.append(line)
    return table(columns, lines)


def _curves(run: Finetuning) -> str:
    loss: dict[int, list[tuple[float, float]]] = {}
    validation: dict[int, list[tuple[float, float]]] = {}
    for seed, rows in run.steps.items():
        for row in rows:
            step, measured = number(row.get("step")), mapping(row.get("validation"))
            y = number(measured.get(run.main) if measured else row.get("loss"))
            if step is not None and y is not None:
                (validation if measured else loss).setdefault(seed, []).append((step, y))
    if not loss and not validation:
        return ""
    best = {
        int(n): x for s in run.seeds if (n := number(s.get("seed"))) is not None and (x := number(s.get("best_step")))
    }
    words = "Training: means over short spans, the bands reach from the lowest to the highest value."
    return figure(pictures.learning(run.kind.title_of(run.main), loss, validation, best), words)


def _figures(run: Finetuning) -> list[str]:
    """A section for each figure of the kind of task; none for a figure without numbers."""
    tests = [(int(number(seed.get("seed", i)) or 0), _test(seed)) for i, seed in enumerate(run.seeds)]
    classes = [str(name) for name in listing(run.results.get("classes"))]
    return [_figure(drawn) for drawn in run.kind.figures(tests, classes)]


def _figure(drawn: Figure) -> str:
    if isinstance(drawn, Confusion):
        return section(drawn.title, heat_map("true \\ predicted", drawn.names, drawn.counts), about=drawn.about)
    cases = [(seed, {k: x for k, v in case.items() if (x := number(v)) is not None}) for seed, case in drawn.cases]
    present = dict.fromkeys(name for _, case in cases for name in case)
    names = [name for name in drawn.names if name in present] or list(present)
    return section(drawn.title, figure(pictures.strips(names, cases, drawn.axis), drawn.about)) if names else ""


def _data(run: Finetuning) -> str:
    splits = {name: mapping(entry) for name, entry in mapping(run.results.get("data")).items()}
    counts = {name: mapping(entry.get("classes")) for name, entry in splits.items()}
    classes = list(dict.fromkeys(name for line in counts.values() for name in line))
    lines = [
        [name, shown(entry.get("samples")), shown(entry.get("groups")), *(shown(counts[name].get(c)) for c in classes)]
        for name, entry in splits.items()
    ]
    return table(["split", "samples", "groups", *classes], lines)


def _gib(memory: Any) -> str:
    return MISSING if (gib := number(memory)) is None else f"{gib:.1f} GiB"


def _seeds(run: Finetuning) -> str:
    on_gpu = any("peak_gpu_memory_gib" in seed for seed in run.seeds)
    columns = ["seed", "steps", "best step", "time", "peak memory", *(["GPU's"] if on_gpu else [])]
    columns.append(f"{run.kind.title_of(run.main)}, validation")
    lines = [
        [
            str(seed.get("seed", i)),
            shown(seed.get("steps")),
            shown(seed.get("best_step")),
            duration(seed.get("seconds")),
            _gib(seed.get("peak_memory_gib")),
            *([_gib(seed.get("peak_gpu_memory_gib"))] if on_gpu else []),
            shown(mapping(seed.get("validation")).get(run.main)),
        ]
        for i, seed in enumerate(run.seeds)
    ]
    return table(columns, lines)


def _test(seed: dict[str, Any], key: str = "") -> dict[str, Any]:
    test = mapping(seed.get("test"))
    return mapping(test.get(key)) if key else test
