"""Tables of a comparison: methods down, tasks and their metrics across; as CSV, as LaTeX, and in the page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from medcoss_cli.comparing.numbers import Column, Numbers, Tested
from medcoss_cli.recipe.comparison import Table

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """Mean and std over the seeds, and how it ranks among the methods: 1, 2, or 0 for all others."""

    mean: float | None = None
    sd: float | None = None
    status: str = ""
    rank: int = 0
    tested: Tested | None = None

    def text(self, percent: bool) -> str:
        """As printed: "94.3 ± 0.4", a dash, or failed."""
        if self.mean is None:
            return {"failed": "failed", "missing": "not made"}.get(self.status, MISSING)
        scale, digits = (100.0, 1) if percent else (1.0, 2)
        spread = "" if self.sd is None else f" ± {self.sd * scale:.{digits}f}"
        return f"{self.mean * scale:.{digits}f}{spread}"


@dataclass(frozen=True)
class Heading:
    """A column: the task it belongs to, and the metric; of an average the task is "average"."""

    group: str
    metric: str
    title: str
    percent: bool
    lower: bool


@dataclass(frozen=True)
class Grid:
    """A table that is ready to be written."""

    title: str
    about: str
    methods: list[str]
    headings: list[Heading]
    cells: list[list[Cell]]
    reference: str


def grid(
    numbers: Numbers,
    table: Table,
    columns: Sequence[Column],
    tested: Mapping[Column, Mapping[tuple[str, str], Tested]],
    about: str,
) -> Grid:
    """One measure of every task that counts, and averages over tasks of the same kind."""
    headings, lines = list[Heading](), {name: list[Cell]() for name in table.methods}
    by_kind: dict[tuple[str, str], list[int]] = {}
    for column in columns:
        kind = numbers.kinds[column.task]
        for metric in kind.shown or (kind.main,):
            title = kind.title_of(metric)
            lower, short = "↓" in title, title.removesuffix(" ↓").partition(",")[0]
            by_kind.setdefault((kind.name, metric), []).append(len(headings))
            headings.append(Heading(column.task, metric, short, kind.unit_interval and not lower, lower))
            for name, line in lines.items():
                mean, sd = numbers.mean(name, column, metric)
                status = numbers.status(name, column)
                line.append(Cell(mean, sd, status, 0, tested.get(column, {}).get((name, metric))))
    for (_, metric), places in by_kind.items():
        if len(places) > 1:
            first = headings[places[0]]
            headings.append(Heading("average", metric, first.title, first.percent, first.lower))
            for line in lines.values():
                line.append(_average([line[place] for place in places]))
    cells = [list(line) for line in lines.values()]
    for at, heading in enumerate(headings):
        for row, cell in zip(cells, _ranked([line[at] for line in cells], heading.lower), strict=True):
            row[at] = cell
    return Grid(table.title, about, list(table.methods), headings, cells, str(table.reference))


def _average(cells: Sequence[Cell]) -> Cell:
    """Of all tasks; none where one is missing."""
    means = [cell.mean for cell in cells]
    if any(mean is None for mean in means):
        return Cell(status=next((cell.status for cell in cells if cell.status not in ("", "done")), ""))
    return Cell(sum(mean for mean in means if mean is not None) / len(means), None, "done")


def _ranked(cells: Sequence[Cell], lower: bool) -> list[Cell]:
    """With the best and the second best marked; equal means share a rank."""
    values = sorted(
        {cell.mean for cell in cells if cell.mean is not None and math.isfinite(cell.mean)}, reverse=not lower
    )
    ranks = {value: rank for rank, value in enumerate(values[:2], 1)} if len(values) > 1 else {}
    return [Cell(c.mean, c.sd, c.status, ranks.get(c.mean, 0) if c.mean is not None else 0, c.tested) for c in cells]


def html(made: Grid) -> str:
    """The table for the page: the best red, the second blue; what differs from the reference has a star."""
    groups: dict[str, int] = {}
    for heading in made.headings:
        groups[heading.group] = groups.get(heading.group, 0) + 1
    top = "".join(f'<th scope="colgroup" colspan="{count}">{escape(name)}</th>' for name, count in groups.items())
    below = "".join(f'<th scope="col" class="number">{escape(_title(heading))}</th>' for heading in made.headings)
    lines = []
    for name, row in zip(made.methods, made.cells, strict=True):
        cells = "".join(
            f'<td class="number{("", " best", " second")[cell.rank]}">{escape(cell.text(h.percent))}{_star(cell)}</td>'
            for cell, h in zip(row, made.headings, strict=True)
        )
        mark = " (reference)" if name == made.reference else ""
        lines.append(f'<tr><th scope="row">{escape(name)}{mark}</th>{cells}</tr>\n')
    return (
        f'<div class="wide"><table class="compared"><caption>{escape(made.about)}</caption>'
        f'<thead><tr><th></th>{top}</tr><tr><th scope="col">method</th>{below}</tr></thead>\n'
        f"<tbody>{''.join(lines)}</tbody></table></div>\n"
    )


def latex(made: Grid) -> str:
    r"""The same as a LaTeX table; needs \usepackage{booktabs,xcolor}."""
    groups: dict[str, int] = {}
    for heading in made.headings:
        groups[heading.group] = groups.get(heading.group, 0) + 1
    top = " & ".join(rf"\multicolumn{{{count}}}{{c}}{{{_tex(name)}}}" for name, count in groups.items())
    below = " & ".join(_tex(_title(heading)) for heading in made.headings)
    lines = []
    for name, row in zip(made.methods, made.cells, strict=True):
        cells = []
        for cell, heading in zip(row, made.headings, strict=True):
            text = _tex(cell.text(heading.percent))
            colour = ("", "red", "blue")[cell.rank]
            cells.append(rf"\textcolor{{{colour}}}{{{text}}}" if colour else text)
        lines.append(f"{_tex(name)} & {' & '.join(cells)} \\\\")
    body = "\n".join(lines)
    return (
        f"% {made.title}: {made.about}\n"
        rf"\begin{{tabular}}{{l{'r' * len(made.headings)}}}" + "\n\\toprule\n"
        f" & {top} \\\\\nmethod & {below} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )


NUMBER = (
    "method",
    "seed",
    "task",
    "measure",
    "labels",
    "stages_seen",
    "task_counts",
    "cell",
    "status",
    "metric",
    "value",
)
DIFFERENCE = (
    *("table", "method", "reference", "task", "measure", "labels", "metric"),
    *("difference", "low", "high", "p", "p_holm"),
)
"""Columns of numbers.csv and differences.csv."""


def csv_of(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> bytes:
    """Rows with a heading, which is there without rows, too."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def numbers_rows(numbers: Numbers) -> list[dict[str, object]]:
    """Every number of every cell, one a line: method, seed, task, measure, share of labels, stages seen, metric, value."""
    rows: list[dict[str, object]] = []
    for number in numbers.all:
        use = number.use
        about = {
            "method": use.method or {"random": "(random encoder)", "simple": "(no encoder)"}[use.measure],
            "seed": use.seed,
            "task": use.task,
            "measure": use.measure,
            "labels": use.labels,
            "stages_seen": use.after,
            "task_counts": use.task in numbers.tasks,
            "cell": use.cell,
            "status": number.status,
        }
        metrics = number.metrics or {"": None}
        rows += [{**about, "metric": metric, "value": value} for metric, value in metrics.items()]
    return rows


def differences_rows(
    table: Table, tested: Mapping[Column, Mapping[tuple[str, str], Tested]]
) -> list[dict[str, object]]:
    """Every tested difference, one a line."""
    return [
        {
            "table": table.title,
            "method": method,
            "reference": table.reference,
            "task": column.task,
            "measure": column.measure,
            "labels": column.labels,
            "metric": metric,
            "difference": entry.gap.mean,
            "low": entry.gap.low,
            "high": entry.gap.high,
            "p": entry.gap.p,
            "p_holm": entry.p,
        }
        for column, found in tested.items()
        for (method, metric), entry in found.items()
    ]


def _title(heading: Heading) -> str:
    return f"{heading.title}{' ↓' if heading.lower else ''}{' %' if heading.percent else ''}"


def _star(cell: Cell) -> str:
    return "*" if cell.tested is not None and cell.tested.p < 0.05 else ""


def _tex(text: str) -> str:
    for letter in "\\&%$#_{}":
        text = text.replace(letter, f"\\{letter}" if letter != "\\" else "/")
    return text.replace("±", r"$\pm$").replace("↓", r"$\downarrow$").replace("–", "--")
