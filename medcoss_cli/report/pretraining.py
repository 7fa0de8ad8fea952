"""The page of a run of kind pretrain or extend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medcoss_cli.pretraining import retention
from medcoss_cli.report import pictures
from medcoss_cli.report.page import MISSING, document, duration, figure, section, settings, shown, table
from medcoss_cli.report.runs import Pretraining, listing, mapping, number
from medcoss_cli.store.history import parts


def page(run: Pretraining) -> bytes:
    """Curves, retention, stages, data, recipe and versions."""
    stages = run.stages
    if run.kind == "extend":
        new = mapping(run.recipe.get("stage")).get("modality") or (list(stages.values()) or [MISSING])[-1]
        title = f"One more modality: {new}"
    else:
        title = "Pre-training of one encoder"
    count = len(listing(run.recipe.get("stages")))
    state = f"{len(run.retention)} of {count} stages are done" if count else "the new stage is not done"
    return document(
        title,
        " → ".join(stages.values()) or "no stage has begun",
        summary(run),
        (
            section("Training", _curves(run), about="Steps of all stages, one after another."),
            remembered([("", run)]),
            section("Stages", _stages(run)),
            section("Data", _data(run), about="Samples of the anchors are never trained on."),
            section("Recipe", settings(run.recipe)),
            section("Versions", table(["part", "version"], [[*item] for item in run.versions.items()])),
        ),
        unfinished=None if run.finished else f"Unfinished: {state}.",
    )


def summary(run: Pretraining) -> dict[str, str]:
    """The few facts that stand at the top."""
    samples = [number(entry.get("samples")) for entry in run.history]
    lowest = retention.lowest(run.retention)
    shape = [number(run.encoder.get(key)) for key in ("width", "depth")]
    return {
        "modalities": str(len(set(run.stages.values()))),
        "samples": shown(sum(x for x in samples if x is not None)) if samples else MISSING,
        "encoder": f"{shown(shape[0])} × {shown(shape[1])}" if None not in shape else MISSING,
        "strategy": run.strategy,
        "steps of this run": shown(len({(row["stage"], row["step"]) for row in run.steps})),
        "time of this run": duration(_seconds(run.steps)),
        "least remembered": f"{lowest[0]}, {lowest[1]:.3f}" if lowest else MISSING,
        **({"learned nothing of": ", ".join(unlearned)} if (unlearned := retention.unlearned(run.retention)) else {}),
        "finished": run.finished or "not yet",
    }


TABLES = {
    "similarity": "Features after each stage",
    "shift": "Shift of the mean feature after each stage",
    "loss": "Masked loss after each stage",
}
"""Of what retention measures, and how a table is headed."""


def remembered(runs: Sequence[tuple[str, Pretraining]]) -> str:
    """Retention of runs, one below the other on the same axes, and their tables."""
    runs = [(name, run) for name, run in runs if run.retention]
    if not runs:
        return ""
    tables = ""
    for name, run in runs:
        columns = ["anchors of", *(f"{stage['stage']} {stage['modality']}" for stage in run.retention)]
        for value, words in TABLES.items():
            tables += table(columns, retention.rows(run.retention, value), f"{name}: {words}" if name else words)
    picture = pictures.retention([(name, run.retention) for name, run in runs])
    return section(
        "Retention",
        figure(picture, "What the encoder makes of the anchors after each stage, against the end of their own stage."),
        tables,
        about="Features: the lower of debiased CKA (unchanged up to rotation and scale) and centred cosine; 1 is unchanged, "
        "0 unrelated. Shift: how far the mean feature has moved, in spreads of the samples; a frozen head fails at several. "
        "The masked loss is that of the decoder kept from the modality's own stage.",
    )


def _curves(run: Pretraining) -> str:
    if not run.steps:
        return ""
    new: list[tuple[str, pictures.Line]] = []
    old: list[tuple[str, pictures.Line]] = []
    rates, cuts, titles, begun = [], [], [], 0
    for stage in sorted({row["stage"] for row in run.steps}):
        rows = [row for row in run.steps if row["stage"] == stage]
        for name in dict.fromkeys(row["modality"] for row in rows if row["new"]):
            fresh = [row for row in rows if row["new"] and row["modality"] == name]
            new.append((name, _line(fresh, "relative", begun)))
        for name in dict.fromkeys(row["modality"] for row in rows if not row["new"]):
            samples = [row for row in rows if not row["new"] and row["modality"] == name]
            old.append((name, _line(samples, "loss", begun)))
        titles.append(run.stages.get(stage, ""))
        rates.append(_line(rows, "lr", begun))
        begun += max(row["step"] for row in rows)
        cuts.append(begun)
    picture = pictures.training(new, old, rates, cuts, titles)
    return figure(picture, "Means over short spans; the bands reach from the lowest to the highest value.")


def _line(rows: Sequence[Mapping[str, Any]], key: str, begun: int) -> list[tuple[float, float]]:
    return [(begun + row["step"], y) for row in rows if (y := number(row.get(key))) is not None]


def _stages(run: Pretraining) -> str:
    columns = ["stage", "modality", "strategy", "batch", "learning rate", "steps", "of them rehearsal", "last loss"]
    facts = {entry["stage"]: entry for entry in run.history}
    lines = []
    for stage, modality in run.stages.items():
        entry = facts.get(stage, {})
        rows = [row for row in run.steps if row["stage"] == stage]
        old = sum(not row["new"] for row in rows) if rows else None
        last = [y for _, y in _line(rows, "relative", 0)[-20:]]
        lines.append(
            [
                str(stage),
                modality,
                str(entry.get("strategy") or run.strategy),
                shown(entry.get("batch")),
                f"{rate:g}" if (rate := number(entry.get("learning_rate"))) is not None else MISSING,
                shown(entry.get("steps", len(rows) or None)),
                shown(entry.get("rehearsal_steps", old)),
                shown(sum(last) / len(last) if last else None),
                duration(_seconds(rows)),
            ]
        )
    words = "The last loss is the mean of the last 20 steps on new data; 1 is predicting the mean."
    return table([*columns, "time"], lines, words)


def _data(run: Pretraining) -> str:
    columns = ["modality", "size", "samples", "groups", "trained on", "anchors", "buffer"]
    lines = [
        [
            name,
            " × ".join(map(shown, listing(mapping(run.modalities.get(name)).get("size")))) or MISSING,
            *(shown(part.get(key)) for key in ("samples", "groups", "train", "anchors", "buffer")),
        ]
        for entry in run.history
        for name, part in parts(entry).items()
    ]
    return table(columns, lines)


def _seconds(rows: Sequence[Mapping[str, Any]]) -> float | None:
    seconds = [x for row in rows if (x := number(row.get("seconds"))) is not None]
    return sum(seconds) if seconds else None
