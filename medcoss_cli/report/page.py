"""One HTML page without anything from outside: its style, its tables, how numbers are written. All text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import yaml

from medcoss_cli import __version__
from medcoss_cli.report.runs import number

MISSING = "–"

STYLE = """
:root { color-scheme: light dark; --ink: #1f2733; --paper: #ffffff; --quiet: #626c7a; --line: #dde2e9;
  --card: #f5f7f9; --accent: #0072b2; --warn: #b45309; --private: #b42318; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e3e7ed; --paper: #15181d; --quiet: #98a2b0;
  --line: #323842; --card: #1d2128; --accent: #4da3d9; --warn: #e0a458; --private: #f0857a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 3rem 0 .6rem; font-size: 1.25rem; break-after: avoid; }
p { margin: .5rem 0; }
.quiet, figcaption, caption { color: var(--quiet); }
.note { margin: 1rem 0 0; padding: .45rem .9rem; border-left: 4px solid var(--accent); background: var(--card); }
.note.unfinished { border-color: var(--warn); color: var(--warn); font-weight: 600; }
.note.private { border-color: var(--private); color: var(--private); font-weight: 600; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .7rem; margin: 1.6rem 0 0; }
dl div { padding: .7rem .9rem; border-radius: .5rem; background: var(--card); }
dt { color: var(--quiet); font-size: .85rem; }
dd { margin: 0; font-size: 1.15rem; font-weight: 600; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: .8rem 0 1.6rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; break-inside: avoid; }
caption { padding-bottom: .4rem; text-align: left; white-space: nowrap; }
th, td { padding: .32rem 1.1rem .32rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { color: var(--quiet); font-weight: 500; vertical-align: bottom; }
tbody th { font-weight: 500; }
.number { text-align: right; white-space: nowrap; }
.heat th, .heat td { padding: .4rem .7rem; text-align: center; }
.heat tbody th { text-align: right; }
.heat td { border: 2px solid var(--paper); min-width: 4rem; print-color-adjust: exact;
  background: color-mix(in srgb, var(--accent) calc(var(--share) * 60%), var(--card)); }
.heat small { display: block; opacity: .8; }
figure { margin: 1rem 0 1.6rem; break-inside: avoid; }
figcaption { font-size: .92rem; }
svg { display: block; height: auto; max-width: 100%; }
svg * { stroke-linejoin: round; }
svg text { font-family: inherit !important; }
.cases { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem; }
.cases figure { margin: 0; }
.cases img { display: block; width: 100%; border-radius: .3rem; }
pre { margin: .8rem 0; padding: 1rem; border-radius: .5rem; background: var(--card); columns: 15rem 3;
  font: .82rem/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
footer { margin-top: 3.5rem; padding-top: .8rem; border-top: 1px solid var(--line); color: var(--quiet); }
@page { margin: 16mm 14mm; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } h2 { margin-top: 1.6rem; }
  section > p { break-after: avoid; } svg { max-height: 11.5cm; } dl { grid-template-columns: repeat(4, 1fr); }
  .wide { overflow: visible; } table { font-size: 8.5pt; } th, td { padding-right: .7rem; } }
"""


def document(
    title: str,
    subtitle: str,
    summary: Mapping[str, str],
    sections: Iterable[str],
    *,
    unfinished: str | None = None,
    private: bool = False,
) -> bytes:
    """The page.

    Args:
        unfinished: what is not done yet, for a banner.
        private: the page holds pictures of samples.
    """
    kind, words = (
        ("private", "Private: holds pictures of samples")
        if private
        else ("shareable", "Shareable: holds no sample, name or path")
    )
    cards = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in summary.items())
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="quiet">{escape(subtitle)}</p>
<p class="note {kind}">{words}</p>
{f'<p class="note unfinished">{escape(unfinished)}</p>' if unfinished else ""}
<dl>{cards}</dl>
</header>
<main>
{"".join(sections)}
</main>
<footer>Not a medical device. Made by medcoss {escape(__version__)}.</footer>
</body>
</html>
"""
    return text.encode("utf-8", "replace")


def section(title: str, *parts: str, about: str = "") -> str:
    """A heading, a sentence, and what there is below it; nothing where there is nothing."""
    content = "".join(parts)
    if not content:
        return ""
    words = f'<p class="quiet">{escape(about)}</p>' if about else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{words}{content}</section>\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table whose first column names the rows; columns of numbers are set to the right."""
    if not rows:
        return ""
    figures = [all(not row[i] or row[i][0] in "-–0123456789" for row in rows) for i in range(len(columns))]
    kinds = [' class="number"' if i and figures[i] else "" for i in range(len(columns))]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(columns, kinds, strict=True))
    lines = []
    for row in rows:
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        lines.append(f'<tr><th scope="row">{escape(row[0])}</th>{cells}</tr>\n')
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead>\n<tbody>{"".join(lines)}</tbody></table></div>\n'


def heat_map(corner: str, names: Sequence[str], counts: Sequence[Sequence[float]]) -> str:
    """Counts of names against the same names, each cell as dark as its share of its row."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    lines = []
    for name, row in zip(names, counts, strict=True):
        shares = [count / max(sum(row), 1e-9) for count in row]
        cells = "".join(
            f'<td style="--share: {share:.3f}">{shown(count)} <small>{100 * share:.0f} %</small></td>'
            for count, share in zip(row, shares, strict=True)
        )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>\n')
    top = f"<thead><tr><th>{escape(corner)}</th>{head}</tr></thead>"
    return f'<div class="wide"><table class="heat">{top}\n<tbody>{"".join(lines)}</tbody></table></div>\n'


def figure(picture: str, caption: str) -> str:
    """An SVG picture with a caption."""
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>\n"


def cases(pictures: Sequence[tuple[str, bytes]]) -> str:
    """PNG pictures with their captions, side by side."""
    if not pictures:
        return ""
    shots = (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
        for caption, png in pictures
    )
    return f'<div class="cases">{"".join(shots)}</div>\n'


def settings(recipe: dict[str, Any]) -> str:
    """A recipe as YAML."""
    if not recipe:
        return ""
    return f"<pre>{escape(yaml.dump(recipe, Dumper=_RecipeDumper, sort_keys=False, allow_unicode=True))}</pre>\n"


class _RecipeDumper(yaml.SafeDumper):
    """Writes a list of plain values, such as a size, on one line."""


_RecipeDumper.add_representer(
    list,
    lambda dumper, values: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", values, flow_style=not any(isinstance(value, dict | list) for value in values)
    ),
)


def shown(value: object) -> str:
    """A number as a reader wants it; a dash for what is none."""
    x = number(value)
    if x is None:
        return MISSING
    if isinstance(x, int):
        return f"{x:,}".replace(",", "\u202f")
    if x and abs(x) < 0.001:
        return f"{x:.1e}"
    return f"{x:.3f}" if abs(x) < 100 else f"{x:,.1f}".replace(",", "\u202f")


def spread(mean: float | None, sd: float | None) -> str:
    """A mean and the standard deviation around it."""
    return shown(mean) if mean is None or sd is None else f"{shown(mean)} ± {shown(sd)}"


def duration(seconds: object) -> str:
    """Hours, minutes or seconds."""
    x = number(seconds)
    if x is None:
        return MISSING
    minutes, remainder = divmod(round(x), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {remainder:02d} s" if minutes else f"{x:.1f} s"
