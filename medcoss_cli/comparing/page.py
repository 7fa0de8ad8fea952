"""tables.html of a comparison: one self-contained page that may be shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from medcoss_cli.comparing import tables
from medcoss_cli.comparing.numbers import Column, Numbers, Tested
from medcoss_cli.comparing.tables import MISSING, Grid
from medcoss_cli.finetuning.results import mean_sd
from medcoss_cli.pretraining.retention import similarity
from medcoss_cli.recipe.comparison import Table
from medcoss_cli.report import pictures
from medcoss_cli.report.page import document, figure, section, shown, spread, table
from medcoss_cli.store.start import SHORT

STYLE = """<style>body { max-width: 84rem; } details { margin: 1rem 0; }
table.compared td, table.compared th { white-space: nowrap; }
.best { color: #c00; font-weight: 600; } .second { color: #03c; }
@media (prefers-color-scheme: dark) { .best { color: #f77; } .second { color: #7af; } }</style>"""

Made = tuple[Table, list[Grid], Mapping[Column, Mapping[tuple[str, str], Tested]]]


def page(numbers: Numbers, made: Sequence[Made]) -> bytes:
    """All tables and pictures."""
    states = [outcome.get("status", "missing") for outcome in numbers.outcomes.values()]
    counts = {"done": states.count("done"), "failed": states.count("failed")}
    counts["not made"] = len(states) - sum(counts.values())
    facts = {
        "methods": len(numbers.recipe.methods),
        "seeds": len(numbers.recipe.seeds),
        "tasks": len(numbers.recipe.tasks),
        **{f"cells {name}": count for name, count in counts.items() if count},
    }
    open_cells = counts["failed"] + counts["not made"]
    return document(
        numbers.recipe.title or "Comparison",
        f"{_seeds(numbers)} Red: best, blue: second. *: differs from the reference "
        "(bootstrap over patients and seeds, p < .05 after Holm's correction over the methods).",
        {name: shown(count) for name, count in facts.items()},
        (
            STYLE,
            *(_table(numbers, *entry) for entry in made),
            section("Retention by stage", *_stages(numbers), about=_FROZEN),
            section(
                "Rehearsal ratio", _ratios(numbers), about="Main metric after all stages by the ratio of the buffer."
            ),
            section(
                "Tasks",
                _tasks(numbers),
                about=_TASKS if numbers.tasks or not numbers.counted else f"{_TASKS} {NO_TASK}",
            ),
            section("Methods", _methods(numbers)),
            section("Memory of earlier modalities, and cost", _retention(numbers), _cost(numbers)),
        ),
        unfinished=f"{open_cells} of {len(states)} cells failed or are not made yet." if open_cells else None,
    )


_FROZEN = (
    "A linear head, trained right after its own stage and never again, under the encoder of every later stage: what forgetting "
    "costs a model in use."
)
_TASKS = (
    "A task counts if the head of its own stage (of the first table's reference) is better on validation cases than the same "
    "head on a random encoder and than a linear model on coarse pixels, colours or words alone."
)


NO_TASK = "No task counts, so the tables are empty; `keep: true` at a task of the recipe shows it all the same."


def _seeds(numbers: Numbers) -> str:
    several = any(len(method.seeds or numbers.recipe.seeds) > 1 for method in numbers.recipe.methods)
    return (
        "Mean ± standard deviation over the seeds."
        if several
        else "One seed: nothing is said of what another would give."
    )


def _table(
    numbers: Numbers,
    shown_table: Table,
    grids: Sequence[Grid],
    tested: Mapping[Column, Mapping[tuple[str, str], Tested]],
) -> str:
    parts = [tables.html(grid) for grid in grids if grid.headings]
    if not parts:
        return ""
    return section(shown_table.title, _radar(numbers, shown_table), *parts, _differences(numbers, shown_table, tested))


def _radar(numbers: Numbers, shown_table: Table) -> str:
    """Full fine-tuning with all labels, or the frozen head: the main metric of every task."""
    for measure in ("full", "frozen"):
        columns = numbers.columns(measure, max(numbers.recipe.labels) if measure == "full" else 1.0)
        columns = [c for c in columns if numbers.kinds[c.task].unit_interval]
        if len(columns) < 3:
            continue
        means = {
            name: [numbers.mean(name, column, numbers.kinds[column.task].main)[0] for column in columns]
            for name in shown_table.methods
        }
        means = {name: values for name, values in means.items() if any(value is not None for value in values)}
        words = {"full": "Fine-tuning of all weights", "frozen": "Frozen heads after all stages"}[measure]
        return figure(pictures.radar([c.task for c in columns], means), f"{words}; the rim is 1, the centre 0.")
    return ""


def _differences(
    numbers: Numbers, shown_table: Table, tested: Mapping[Column, Mapping[tuple[str, str], Tested]]
) -> str:
    lines = []
    for column, found in tested.items():
        main = numbers.kinds[column.task].main
        for (method, metric), entry in found.items():
            if metric != main:
                continue
            gap = entry.gap
            words = "differs" if entry.p < 0.05 else "no detectable difference"
            interval = f"{_signed(gap.low)} to {_signed(gap.high)}"
            lines.append([method, column.task, _words(column), _signed(gap.mean), interval, f"{entry.p:.3f}", words])
    heads = ["method", "task", "measure", "difference", "95 % interval", "p (Holm)", ""]
    words = f"Differences to {shown_table.reference}: the main metric, same patients, same seeds"
    inner = table(heads, lines)
    return f"<details><summary>{escape(words)}</summary>{inner}</details>" if lines else ""


def _stages(numbers: Numbers) -> list[str]:
    parts = []
    for task in numbers.tasks:
        main = numbers.kinds[task].main
        lines = {}
        for method in numbers.recipe.names:
            found = numbers.stages(method, task)
            points = [
                (after, mean_sd([n.metrics.get(main) for n in entries]))
                for after, entries in found.items()
                if all(n.status == "done" for n in entries)
            ]
            if len(points) > 1:
                lines[method] = [(after, p["mean"], p["sd"]) for after, p in points if p["mean"] is not None]
        if any(lines.values()):
            title = f"{task}: {numbers.kinds[task].title_of(main)}"
            parts.append(figure(pictures.by_number(lines, "stages seen", title, whole=True), title))
    return parts


def _ratios(numbers: Numbers) -> str:
    """Fig. 4 of the paper: methods that differ in the ratio alone are one line."""
    lines: dict[str, list[tuple[float, float, float | None]]] = {}
    for column in [*numbers.columns("full"), *numbers.columns("frozen")]:
        main = numbers.kinds[column.task].main
        for method in numbers.recipe.names:
            found = numbers.trainings(method)
            if not found or not found[0][1].recipe.strategy.cls.rehearses:
                continue
            recipe = found[0][1].recipe
            mean, sd = numbers.mean(method, column, main)
            if mean is not None:
                name = f"{recipe.strategy}, share {recipe.rehearsal.share}: {column.task}, {_words(column)}"
                lines.setdefault(name, []).append((recipe.rehearsal.ratio, mean, sd))
    lines = {name: sorted(points) for name, points in lines.items() if len({x for x, _, _ in points}) > 1}
    if not lines:
        return ""
    return figure(pictures.by_number(lines, "ratio of the buffer", "main metric"), "Of every task that counts.")


def _tasks(numbers: Numbers) -> str:
    lines = []
    for c in numbers.counted:
        own = [c.task, c.metric, shown(c.own), shown(c.random), shown(c.simple), c.verdict]
        lines.append([*own, numbers.trained(c.task), *numbers.tested(c.task)])
    heads = ["task", "metric (validation)", "own stage", "random encoder", "no encoder", ""]
    heads += ["training cases", "test cases", "trivial, on them"]
    return table(heads, lines)


def _methods(numbers: Numbers) -> str:
    lines = []
    for method in numbers.recipe.methods:
        found = numbers.trainings(method.name)
        if not found:
            digest = (numbers.file_of(method.name) or MISSING)[:SHORT]
            lines.append([method.name, f"from {_kind(method.start)}", MISSING, MISSING, MISSING, digest])
            continue
        hashes = ", ".join(
            f"{seed}: {str(numbers.outcomes[cell.key].get('hash') or MISSING)[:SHORT]}" for seed, cell in found
        )
        recipe = found[0][1].recipe
        if method.stages == "own":
            names = list(dict.fromkeys(name for _, cell in found for name in cell.order))
            lines.append([method.name, "one stage", f"{' or '.join(names)} alone", MISSING, MISSING, hashes])
            continue
        rehearses = recipe.strategy.cls.rehearses
        buffer = (
            f"{recipe.rehearsal.ratio:g}, {recipe.selection}, share {recipe.rehearsal.share}" if rehearses else MISSING
        )
        steps = shown(numbers.outcomes[found[0][1].key].get("steps"))
        lines.append([method.name, str(recipe.strategy), ", ".join(found[0][1].order), buffer, steps, hashes])
    return table(["method", "strategy", "stages", "buffer: ratio, choice, share", "steps", "checkpoint by seed"], lines)


def _kind(start: str | None) -> str:
    return "scratch" if start == "scratch" else "a file of weights"


def _retention(numbers: Numbers) -> str:
    """After all stages: features of every earlier modality, and how well the own stage learned it."""
    lines = []
    for method in numbers.recipe.names:
        rows = [numbers.outcomes[cell.key].get("retention") or [] for _, cell in numbers.trainings(method)]
        rows = [stages[-1] for stages in rows if stages]
        for modality in dict.fromkeys(name for row in rows for name in row if name != "after"):
            measured = [row[modality] for row in rows if modality in row]
            values = {
                "features": mean_sd([similarity(entry) for entry in measured]),
                "shift": mean_sd([entry.get("shift") for entry in measured]),
                "now": mean_sd([entry["loss"] / entry["loss_then"] * entry["relative_then"] for entry in measured]),
                "then": mean_sd([entry["relative_then"] for entry in measured]),
            }
            lines.append([method, modality, *(spread(value["mean"], value["sd"]) for value in values.values())])
    heads = [
        "method",
        "modality",
        "features (1: unchanged)",
        "shift (0: none)",
        "loss at the end",
        "loss of its own stage",
    ]
    return table(
        heads, lines, "On held-out samples; a loss of 1 is that of predicting the mean (plasticity: own stage)"
    )


def _cost(numbers: Numbers) -> str:
    lines = []
    for method in numbers.recipe.names:
        found = [numbers.outcomes[cell.key] for _, cell in numbers.trainings(method)]
        found = [outcome for outcome in found if outcome.get("status") == "done"]
        if not found:
            continue
        step = mean_sd([1000 * outcome["step_seconds"] / max(1, outcome["own_steps"]) for outcome in found])
        memory = max(outcome.get("peak_memory_gib", 0.0) for outcome in found)
        lines.append([method, spread(step["mean"], step["sd"]), f"{memory:.1f}"])
    return table(
        ["method", "milliseconds a step", "memory, GiB"],
        lines,
        "Cost of pre-training, the shared first stage not counted; what runs beside it (--jobs) makes a step longer",
    )


def _words(column: Column) -> str:
    share = f", {100 * column.labels:g} % of the labels" if column.labels < 1 else ""
    return f"{column.measure}{share}"


def _signed(value: float) -> str:
    return MISSING if value != value else f"{value:+.3f}"
