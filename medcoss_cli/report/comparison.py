"""The page of several runs: labelled tasks by their start, and what each pre-training remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medcoss_cli.pretraining import retention
from medcoss_cli.report import finetuning, pictures, pretraining
from medcoss_cli.report.page import MISSING, document, figure, section, shown, spread, table
from medcoss_cli.report.runs import Finetuning, Pretraining, Run
from medcoss_cli.store import start


def page(runs: Sequence[Run], with_samples: bool) -> bytes:
    """Tasks side by side, retention side by side; which of both there are depends on the runs."""
    tuned = [run for run in runs if isinstance(run, Finetuning)]
    trained = [run for run in runs if isinstance(run, Pretraining)]
    tasks = by_task(tuned)
    open_ones = sum(not run.finished for run in runs)
    facts = {"runs": len(runs), "labelled tasks": len(tasks), "fine-tunings": len(tuned), "pre-trainings": len(trained)}
    return document(
        f"Comparison of {len(runs)} runs",
        ", ".join(dict.fromkeys(run.title for run in tuned)) or "Retention by strategy",
        {name: shown(count) for name, count in facts.items() if count},
        (
            section("Labelled tasks", _radar(tasks), _tasks(tasks), about="On the test data, over all seeds of a run."),
            _trainings(trained),
            *(
                finetuning.samples(run, with_samples, f"Cases: {run.title}, {run.start}")
                for run in tuned
                if run.pictures or not any(other.pictures for other in tuned)
            ),
        ),
        unfinished=f"Unfinished: {open_ones} of these runs." if open_ones else None,
        private=any(run.pictures for run in tuned),
    )


def by_task(runs: Sequence[Finetuning]) -> dict[tuple[str, str], dict[str, Finetuning]]:
    """Runs by title and modality, then by what they began from; a second run of the same start has a 2 behind its name.

    A start is called the same in every task, whatever the order of the runs.
    """
    names = starts(runs)
    tasks: dict[tuple[str, str], dict[str, Finetuning]] = {}
    for run in runs:
        group = tasks.setdefault((run.title, run.modality), {})
        group[_free(names[run.called(start.hashed)], group)] = run
    return tasks


def starts(runs: Sequence[Finetuning]) -> dict[str, str]:
    """How the starts are called, by strategy, settings and stages; where two would be the same, with title, then with hash."""
    names: dict[str, str] = {}
    for words_of in (start.hashed, start.titled, start.named):
        groups: dict[str, set[str]] = {}
        for run in runs:
            groups.setdefault(run.called(words_of), set()).add(run.called(start.hashed))
        names |= {next(iter(full)): short for short, full in groups.items() if len(full) == 1}
    return names


def _free(name: str, titles: Mapping[str, object]) -> str:
    number = 1
    while (free := name if number == 1 else f"{name} {number}") in titles:
        number += 1
    return free


def _groups(tasks: Mapping[tuple[str, str], Mapping[str, Finetuning]]) -> list[str]:
    return list(dict.fromkeys(start for group in tasks.values() for start in group))


def _radar(tasks: Mapping[tuple[str, str], Mapping[str, Finetuning]]) -> str:
    """Tasks whose main metrics lie between 0 and 1, on one chart."""
    tasks = {key: group for key, group in tasks.items() if all(run.kind.unit_interval for run in group.values())}
    if len(tasks) < 3:
        return ""
    means = {
        start: [
            run.summary.get(run.main, (None, None))[0] if (run := group.get(start)) else None
            for group in tasks.values()
        ]
        for start in _groups(tasks)
    }
    picture = pictures.radar([f"{title}\n{modality}" for title, modality in tasks], means)
    shown_kinds = {run.task: run.kind.title_of(run.main) for group in tasks.values() for run in group.values()}
    metrics = ", ".join(f"{metric} of {task}" for task, metric in sorted(shown_kinds.items()))
    return figure(picture, f"{metrics}; the rim is 1, the centre 0.")


def _tasks(tasks: Mapping[tuple[str, str], Mapping[str, Finetuning]]) -> str:
    starts = _groups(tasks)
    lines = []
    for (title, modality), group in tasks.items():
        first = next(iter(group.values()))
        metric = first.main
        cells = [spread(*run.summary.get(metric, (None, None))) if (run := group.get(s)) else MISSING for s in starts]
        lines.append([title, modality, first.kind.title_of(metric), *cells])
    return table(["task", "modality", "metric", *starts], lines, "Mean ± standard deviation over the seeds")


def _trainings(runs: Sequence[Pretraining]) -> str:
    by_title: dict[str, Pretraining] = {}
    for run in runs:
        by_title[_free(run.strategy, by_title)] = run
    if not by_title:
        return ""
    facts = [pretraining.summary(run) for run in by_title.values()]
    names = [name for name in dict.fromkeys(name for fact in facts for name in fact) if name != "strategy"]
    lines = [[name, *(fact.get(name, MISSING) for fact in facts)] for name in names]
    overview = section("Pre-training", table(["", *by_title], lines), _after_all(by_title))
    return overview + pretraining.remembered([*by_title.items()])


def _after_all(by_title: Mapping[str, Pretraining]) -> str:
    """How alike features are to what they were, of every modality after the last stage of each run."""
    last = {name: run.retention[-1]["retention"] for name, run in by_title.items() if run.retention}
    modalities = dict.fromkeys(m for rows in last.values() for m in rows)
    lines = [
        [m, *(shown(retention.similarity(rows[m]) if m in rows else None) for rows in last.values())]
        for m in modalities
    ]
    lowest = [retention.lowest(by_title[name].retention) for name in last]
    if lines:
        lines.append(["least remembered", *(f"{x[0]}, {x[1]:.3f}" if x else MISSING for x in lowest)])
    return table(
        ["anchors of", *last], lines, "Features after the last stage (lower of debiased CKA and centred cosine)"
    )
