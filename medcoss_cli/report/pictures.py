"""The pictures of a page: SVG in the page's own ink, so that they suit a light screen, a dark one and paper."""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Concatenate, ParamSpec

import numpy as np

from medcoss_cli.pretraining.retention import named, similarity
from medcoss_cli.store.history import parts

Parameters = ParamSpec("Parameters")
Line = Sequence[tuple[float, float]]
"""Points (x, y) in order."""

INK = "#010203"  # stands for the page's colour of text until the picture is in the page
COLOURS = ("#2b83c2", "#e08a00", "#009e73", "#c66a9d", "#4da3d9", "#d55e00")  # told apart by the colour-blind too
POINTS = 120  # of a curve; more would only make the page large


def colour(i: int) -> str:
    """The i-th of a picture's colours."""
    return COLOURS[i % len(COLOURS)]


def dash(i: int) -> str:
    """The kind of line that tells the i-th apart where colours come again."""
    return ("-", "--", ":", "-.")[i // len(COLOURS) % 4]


def _picture(
    width: float, height: float, label: str
) -> Callable[[Callable[Concatenate[Any, Parameters], None]], Callable[Parameters, str]]:
    """Turns a function that draws on a figure into one that gives SVG.

    Args:
        width, height: inches, where the function sets no other size.
        label: what the picture is, for those who do not see it.
    """

    def decorate(draw: Callable[Concatenate[Any, Parameters], None]) -> Callable[Parameters, str]:
        def picture(*args: Parameters.args, **kwargs: Parameters.kwargs) -> str:
            import matplotlib
            from matplotlib.figure import Figure

            names = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
            style = dict.fromkeys(names, INK) | {
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.titlesize": "medium",
                "axes.grid": True,
                "axes.axisbelow": True,
                "grid.alpha": 0.2,
                "grid.color": INK,
                "legend.frameon": False,
                "legend.fontsize": "small",
                "svg.fonttype": "none",
                "svg.hashsalt": "medcoss",
                "text.parse_math": False,  # a class may be called $1
            }
            out = io.StringIO()
            with matplotlib.rc_context(style), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of letters that matplotlib's font lacks; the browser's has them
                figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
                draw(figure, *args, **kwargs)
                for axes in figure.axes:
                    axes.set_facecolor("none")
                nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
                figure.savefig(out, format="svg", bbox_inches="tight", metadata=nothing)
            return _inline(out.getvalue(), label)

        return picture

    return decorate


def _inline(svg: str, label: str) -> str:
    """An SVG file as a part of a page: no header, no style of its own, no names that two pictures would share."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="\w+_\d+"', "", svg)
    size = " ".join(re.findall(r'(?:viewBox|width|height)="[^"]*"', svg[: svg.index(">")]))
    return f'<svg role="img" aria-label="{escape(label)}" {size}{svg[svg.index(">") :]}'


@_picture(9.5, 7.2, "Losses and learning rate over the steps")
def training(
    figure: Any,
    new: Sequence[tuple[str, Line]],
    old: Sequence[tuple[str, Line]],
    rates: Sequence[Line],
    cuts: Sequence[int],
    titles: Sequence[str],
) -> None:
    """Pre-training over all its steps.

    Args:
        new: modality and relative loss, stage by stage.
        old: modality and loss of rehearsal, stage by stage.
        rates: learning rate, stage by stage.
        cuts: the step after which each stage ends.
        titles: of the stages.
    """
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(5, 4, 2))
    names = list(dict.fromkeys(name for name, _ in (*new, *old)))
    look = {name: {"color": colour(i), "linestyle": dash(i)} for i, name in enumerate(names)}
    for name, line in new:
        _curve(top, line, look[name])
    for name, line in old:
        _curve(middle, line, look[name], band=False)
    for line in rates:
        _curve(bottom, line, {"color": INK, "linewidth": 1})
    top.axhline(1, color=INK, alpha=0.5, linewidth=0.8)
    top.set(title="New data", ylabel="loss / predicting the mean")
    middle.set(title="Rehearsal: distance to the model before the stage, or loss", ylabel="loss")
    bottom.set(title="Learning rate", xlabel="step")
    if old:
        middle.set_yscale("log")
        for name in dict.fromkeys(name for name, _ in old):
            middle.plot([], [], label=name, **look[name])
        middle.legend(title="samples of", loc="upper left", bbox_to_anchor=(1, 1.05))
    else:
        middle.text(0.5, 0.5, "none yet", transform=middle.transAxes, ha="center", va="center")
    for axes in (top, middle, bottom):
        for cut in cuts[:-1]:
            axes.axvline(cut, color=INK, alpha=0.35, linewidth=0.8, linestyle=":")
        if axes is not top:
            _plain(axes)
    for name, start, end in zip(titles, (0, *cuts), cuts, strict=False):
        top.text((start + end) / 2, 0.97, name, transform=top.get_xaxis_transform(), ha="center", va="top")


@_picture(9.5, 3.7, "Retention over the stages")
def retention(figure: Any, runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> None:
    """Features and loss now against then; one row for each run, all on the same axes."""
    figure.set_size_inches(9.5, 3.4 * len(runs) + 0.3)
    grid = figure.subplots(len(runs), 2, squeeze=False, sharey="col")
    names = list(dict.fromkeys(name for _, stages in runs for stage in stages for name in parts(stage)))
    for (title, stages), (left, right) in zip(runs, grid, strict=True):
        for i, name in enumerate(names):
            look = {"color": colour(i), "linestyle": dash(i), "marker": "o", "markersize": 4, "label": name}
            look["label"] = named(name, stages[-1]["retention"].get(name, {}))
            rows = [(at, stage["retention"][name]) for at, stage in enumerate(stages) if name in stage["retention"]]
            left.plot([at for at, _ in rows], [similarity(row) for _, row in rows], **look)
            right.plot([at for at, _ in rows], [_ratio(row) for _, row in rows], **look)
        left.set(title=f"{title}: features" if title else "Features", ylabel="similarity, now to then")
        right.set(title=f"{title}: masked loss" if title else "Masked loss", ylabel="ratio, now to then")
        for axes in (left, right):
            ticks = [f"{stage['stage']}\n{textwrap.shorten(stage['modality'], 12)}" for stage in stages]
            axes.set_xticks(range(len(stages)), ticks, fontsize="small")
    for column, low, high in ((0, 0.9, 1), (1, 0.95, 1.1)):  # an axis that is never narrower: noise is to look small
        heights = [y for axes in grid[:, column] for line in axes.lines for y in line.get_ydata() if math.isfinite(y)]
        low, high = min([low, *heights]), max([high, *heights])
        grid[0][column].set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    grid[0][1].legend(title="anchors of", loc="upper left", bbox_to_anchor=(1, 1.05))
    grid[-1][0].set_xlabel("after stage")
    grid[-1][1].set_xlabel("after stage")


@_picture(9.5, 3.6, "Loss of training, and what validation measured, over the steps")
def learning(
    figure: Any, metric: str, loss: Mapping[int, Line], validation: Mapping[int, Line], best: Mapping[int, float]
) -> None:
    """Fine-tuning, a colour for each seed.

    Args:
        best: the step whose state was kept, by seed.
    """
    left, right = figure.subplots(1, 2)
    for i, seed in enumerate(sorted({*loss, *validation})):
        look = {"color": colour(i), "linestyle": dash(i)}
        _curve(left, loss.get(seed, ()), look)
        line = validation.get(seed, ())
        right.plot([x for x, _ in line], [y for _, y in line], label=f"seed {seed}", **look)
        best_points = [(x, y) for x, y in line if x == best.get(seed)]
        right.plot([x for x, _ in best_points], [y for _, y in best_points], "o", color=colour(i), markersize=7)
    left.set(title="Training", xlabel="step", ylabel="loss")
    right.set(title="Validation (dot: the state that was kept)", xlabel="step", ylabel=metric)
    right.legend(loc="upper left", bbox_to_anchor=(1, 1.05))


@_picture(9.5, 3.8, "The values of every case")
def strips(figure: Any, names: Sequence[str], cases: Sequence[tuple[int, Mapping[str, float]]], axis: str) -> None:
    """A dot for each case, a colour for each seed, and a box around the middle half.

    Args:
        names: of what is measured, such as classes.
        cases: seed, and values by name.
        axis: what a value is.
    """
    axes = figure.subplots()
    seeds = sorted({seed for seed, _ in cases})
    shift = np.random.default_rng(0)
    ticks = []
    for at, name in enumerate(names):
        values = {seed: [case[name] for s, case in cases if s == seed and name in case] for seed in seeds}
        everything = [x for line in values.values() for x in line]
        ticks.append(f"{textwrap.fill(name, 16)}\n{len(everything)} values")
        if everything:
            line = {"color": INK, "alpha": 0.7}
            parts = dict.fromkeys(("boxprops", "medianprops", "whiskerprops", "capprops"), line)
            axes.boxplot([everything], positions=[at], widths=0.5, showfliers=False, manage_ticks=False, **parts)
        for i, seed in enumerate(seeds):
            x = at + shift.uniform(-0.17, 0.17, len(values[seed]))
            label = f"seed {seed}" if at == 0 else None
            axes.plot(x, values[seed], "o", color=colour(i), markersize=4, alpha=0.65, markeredgewidth=0, label=label)
    many = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if len(names) > 7 else {}
    axes.set_xticks(range(len(names)), ticks, **many)
    axes.set(ylabel=axis, xlim=(-0.6, len(names) - 0.4))
    if all(0 <= x <= 1 for _, case in cases for x in case.values()):
        axes.set_ylim(-0.03, 1.03)
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1.03))


@_picture(8, 5.6, "The main metric of every task, one polygon for each start")
def radar(figure: Any, tasks: Sequence[str], groups: Mapping[str, Sequence[float | None]]) -> None:
    """A spoke for each task, a polygon for each group of runs; a missing task leaves its polygon open."""
    axes = figure.add_subplot(projection="polar")
    axes.set(theta_zero_location="N", theta_direction=-1, ylim=(0, 1))
    angles = np.linspace(0, 2 * math.pi, len(tasks), endpoint=False)
    for i, (name, values) in enumerate(groups.items()):
        line = [math.nan if value is None else min(max(value, 0), 1) for value in values]
        look = {"color": colour(i), "linestyle": dash(i)}
        axes.plot([*angles, angles[0]], [*line, line[0]], marker="o", markersize=4, label=name, **look)
        if None not in values:
            axes.fill(angles, line, color=colour(i), alpha=0.1, linewidth=0)
    axes.set_xticks(angles, ["\n".join(textwrap.fill(part, 18) for part in task.split("\n")) for task in tasks])
    for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
        side, top = math.sin(angle), math.cos(angle)
        label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
        label.set_verticalalignment("center" if abs(top) < 0.9 else "bottom" if top > 0 else "top")
    axes.set_yticks([0.25, 0.5, 0.75, 1], ["0.25", "0.5", "0.75", "1"], fontsize="small", alpha=0.7)
    axes.set_rlabel_position(180 / len(tasks))
    axes.spines["polar"].set_alpha(0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.1, 1.05))


@_picture(9.5, 4.2, "A metric by method, over a number that differs between its points")
def by_number(
    figure: Any,
    lines: Mapping[str, Sequence[tuple[float, float, float | None]]],
    what: str,
    value: str,
    whole: bool = False,
) -> None:
    """A line for each method: mean, with the standard deviation over the seeds as a bar.

    Args:
        lines: by name (x, mean, std).
        what, value: of the two axes.
        whole: x is a whole number.
    """
    axes = figure.subplots()
    wide = max(x for line in lines.values() for x, _, _ in line) - min(x for line in lines.values() for x, _, _ in line)
    for i, (name, line) in enumerate(lines.items()):
        aside = (i - (len(lines) - 1) / 2) * wide * 0.008  # so that bars at one place are told apart
        x, means = [point[0] + aside for point in line], [point[1] for point in line]
        look = {"color": colour(i), "linestyle": dash(i), "marker": "o", "markersize": 4, "label": name}
        axes.errorbar(x, means, yerr=[point[2] or 0.0 for point in line], capsize=2, elinewidth=0.8, **look)
    if whole:
        axes.set_xticks(sorted({int(x) for line in lines.values() for x, _, _ in line}))
    axes.set(xlabel=what, ylabel=value)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1.03))


def _curve(axes: Any, line: Line, look: Mapping[str, Any], *, band: bool = True) -> None:
    """A curve thinned to blocks: their mean, and what lies between their lowest and highest value as a band."""
    if not line:
        return
    blocks = np.array_split(np.asarray(line, dtype=float), min(len(line), POINTS))
    x, y = np.array([block.mean(0) for block in blocks]).T
    axes.plot(x, y, **look)
    if band and len(line) > POINTS:
        low, high = zip(*((block[:, 1].min(), block[:, 1].max()) for block in blocks), strict=True)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _ratio(row: Mapping[str, float]) -> float:
    reference = row.get("loss_then")
    return row["loss"] / reference if reference and "loss" in row else math.nan


def _plain(axes: Any) -> None:
    """Numbers along the axis as 1e-05, not as powers set in mathematics."""
    from matplotlib.ticker import LogFormatter

    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(LogFormatter())
