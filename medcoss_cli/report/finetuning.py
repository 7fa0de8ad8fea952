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

STARTS = {"checkpoint": "from a checkpoint", "scratch": "from scratch"}

_FAMILIES = {  # how a metric begins: what it is called, with the class behind it
    "dice_paper": "Dice as in the paper",
    "dice": "Dice",
    "hd95_directed": "HD95, directed, in voxels ↓",
    "hd95_mm": "HD95 in mm ↓",
    "hd95": "HD95 in voxels ↓",
    "object_f1": "F1 of objects",
    "missed": "missed, cases ↓",
    "false_alarm": "false alarms, cases ↓",
    "n_empty": "one of two masks empty, cases ↓",
}
_NAMES = {
    "accuracy": "Accuracy",
    "auc_ovo": "AUC, one against one",
    "auc_ovr": "AUC, one against the rest",
    "f1_macro": "F1, macro",
    "f1": "F1",
}


def page(run: Finetuning, with_samples: bool) -> bytes:
    """Metrics, curves, errors, data, pictures, recipe and versions."""
    dims = number(run.results.get("dims"))
    kind = f"{run.task} of {run.modality}" + (f" ({shown(dims)}D)" if dims else "")
    return document(
        run.title,
        f"{kind[:1].upper()}{kind[1:]}, {STARTS.get(run.start, 'start unknown')}",
        _summary(run),
        (
            section("Test", _metrics(run), about=_about(run)),
            section("Learning curves", _curves(run)),
            _confusion(run),
            section("Dice of every case", _strips(run)),
            section("Data", _data(run)),
            samples(run, with_samples),
            section("Seeds", _seeds(run)),
            section("Recipe", settings(run.recipe)),
            section("Versions", table(["part", "version"], [[*item] for item in run.versions.items()])),
        ),
        unfinished=None if run.finished else "Unfinished: the results are not complete.",
        private=bool(run.pictures),
    )


def samples(run: Finetuning, wanted: bool, title: str = "Cases") -> str:
    """Pictures of samples, or the word that there are none; nothing where they are not wanted."""
    if not wanted:
        return ""
    return section(title, cases(run.pictures) or '<p class="quiet">This run holds no pictures of samples.</p>\n')


def metric_name(metric: str) -> str:
    """How a metric is called on the page."""
    if metric in _NAMES:
        return _NAMES[metric]
    for start, name in _FAMILIES.items():
        if metric == start or metric.startswith(f"{start}_"):
            what = metric[len(start) + 1 :]
            return f"{name}: {what}" if what else name
    return metric.replace("_", " ")


def _summary(run: Finetuning) -> dict[str, str]:
    metric = run.main
    base = [x for seed in run.seeds if (x := number(_test(seed, "baseline").get(metric))) is not None]
    test = mapping(mapping(run.results.get("data")).get("test"))
    return {
        f"{metric_name(metric)}, test": spread(*run.summary.get(metric, (None, None))),
        "trivial baseline": shown(sum(base) / len(base) if base else None),
        "seeds": shown(len(run.seeds) or len(run.steps)),
        "test samples": shown(test.get("samples")),
        "start": run.start,
        "finished": run.finished or "not yet",
    }


def _about(run: Finetuning) -> str:
    trivial = "an empty mask" if run.task == "segmentation" else "the most frequent class"
    return (
        f"Mean ± standard deviation over the seeds; baseline: {trivial}. "
        "For each seed the value and, in brackets, its interval. ↓: less is better."
    )


def _metrics(run: Finetuning) -> str:
    tests = [_test(seed, "metrics") for seed in run.seeds]
    known = dict.fromkeys((*run.summary, *(metric for test in tests for metric in test)))
    columns = ["metric", "mean ± sd", "baseline", *(f"seed {seed.get('seed', i)}" for i, seed in enumerate(run.seeds))]
    lines = []
    classes = [str(name) for name in listing(run.results.get("classes"))]

    def place(metric: str) -> int:
        """The run's main metric, then those of all classes together, then class by class."""
        own = [i for i, name in enumerate(classes) if metric.endswith(f"_{name}")]
        return -2 if metric == run.main else own[0] if own else -1

    for metric in sorted(known, key=place):
        base = [x for seed in run.seeds if (x := number(_test(seed, "baseline").get(metric))) is not None]
        line = [
            metric_name(metric),
            spread(*run.summary.get(metric, (None, None))),
            shown(sum(base) / len(base) if base else None),
        ]
        for seed, test in zip(run.seeds, tests, strict=True):
            ends = listing(_test(seed, "intervals").get(metric))
            both = len(ends) == 2 and None not in map(number, ends)
            line.append(shown(test.get(metric)) + (f" [{shown(ends[0])}, {shown(ends[1])}]" if both else ""))
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
    return figure(pictures.learning(metric_name(run.main), loss, validation, best), words)


def _confusion(run: Finetuning) -> str:
    """Counts of all seeds together."""
    tables = [counts for seed in run.seeds if (counts := _counts(_test(seed).get("confusion")))]
    if not tables or len({len(counts) for counts in tables}) > 1:
        return ""
    total = [[sum(cells) for cells in zip(*lines, strict=True)] for lines in zip(*tables, strict=True)]
    names = [str(name) for name in listing(run.results.get("classes"))]
    if len(names) != len(total):
        names = [str(i) for i in range(len(total))]
    several = f", of all {len(tables)} seeds together" if len(tables) > 1 else ""
    words = f"Test samples by true class (rows) and predicted class (columns){several}, with their share of the row."
    return section("Confusion", heat_map("true \\ predicted", names, total), about=words)


def _counts(value: object) -> list[list[float]]:
    """A square table of numbers, or an empty one."""
    lines = [[number(cell) or 0 for cell in listing(line)] for line in listing(value)]
    return lines if all(len(line) == len(lines) for line in lines) else []


def _strips(run: Finetuning) -> str:
    found: list[tuple[int, dict[str, float]]] = []
    for i, seed in enumerate(run.seeds):
        for case in map(mapping, listing(_test(seed).get("cases"))):
            named = {k.removeprefix("dice_"): number(v) for k, v in case.items() if k.startswith("dice_")}
            dice = {k: v for k, v in named.items() if v is not None and not k.startswith("paper_")}
            found.append((int(number(seed.get("seed", i)) or 0), dice))
    known = dict.fromkeys(name for _, dice in found for name in dice)
    classes = [name for name in map(str, listing(run.results.get("classes"))) if name in known] or list(known)
    if not classes:
        return ""
    words = "The box holds the middle half of the cases, its line is the median; cases without a value are left out."
    return figure(pictures.strips(classes, found), words)


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
    columns.append(f"{metric_name(run.main)}, validation")
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
