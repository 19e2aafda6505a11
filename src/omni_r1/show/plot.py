"""Drawings of figures as SVG: the axis that all share, and accuracies with their intervals."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from omni_r1.show.records import escape
from omni_r1.show.table import BLIND, figures

HEIGHT, TOP, LEFT = 190, 14, 40  # of an accuracy plot, in pixels
GROUP, STEP = 92, 40  # between groups, and between the runs of a group
LINE, LETTERS, LETTER = 14, 18, 7  # of a group's name: height, letters of its two lines at most, and how wide one is
SHAPES = ("circle", "diamond", "square", "triangle")  # of runs, told apart without colours too


class Series(NamedTuple):
    """What is plotted: its name, and where its figures stand in a summary."""

    name: str
    summary: Mapping[str, Any]
    key: str = "accuracy"
    interval: str = "interval"


def label(x: float, y: float, text: str, anchor: str = "", style: str = "") -> str:
    """Text at a place; `anchor` is `end`, `middle` or, by default, the start."""
    where = f' text-anchor="{anchor}"' if anchor else ""
    kind = f' class="{style}"' if style else ""
    return f'<text{kind} x="{x:g}" y="{y:g}"{where}>{escape(text)}</text>'


def axis(left: float, right: float, ticks: Sequence[tuple[float, str]]) -> str:
    """Horizontal lines from `left` to `right` at heights, each with its label, which may be empty, on the left."""
    lines = "".join(f'<line class="frame" x1="{left:g}" x2="{right:g}" y1="{y:g}" y2="{y:g}"/>' for y, _ in ticks)
    return lines + "".join(label(left - 6, y + 4, name, "end") for y, name in ticks if name)


def shape(place: int, x: float, y: float) -> str:
    """The mark of the run `place`."""
    style = f'class="mark m{place % len(SHAPES)}"'
    match SHAPES[place % len(SHAPES)]:
        case "circle":
            return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
        case "diamond":
            return f'<path {style} d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>'
        case "square":
            return f'<rect {style} x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
        case _:
            return f'<path {style} d="M{x:.1f} {y - 5:.1f}l5 9h-10z"/>'


def accuracies(series: Sequence[Series], names: Sequence[str]) -> str:
    """Accuracy of each series in each group of `names`, from 0 to 100 %: mark, interval, and what needs no looking."""
    titles = [textwrap.wrap(name, LETTERS, max_lines=2, placeholder="…") for name in names]
    longest = max((len(line) for title in titles for line in title), default=0)
    group = max(GROUP, STEP * len(series) + 26, LETTER * longest + 12)
    below = TOP + HEIGHT + 18 + LINE * (max((len(title) for title in titles), default=1) - 1)  # their last line
    right = LEFT + group * len(names)

    def y(share: float) -> float:
        return TOP + HEIGHT * (1 - share)

    parts = [axis(LEFT, right, [(y(k / 4), f"{25 * k}%" if k % 2 == 0 else "") for k in range(5)])]
    told = []
    for place, (name, title) in enumerate(zip(names, titles, strict=True)):
        middle = LEFT + group * (place + 0.5)
        for column in BLIND:
            share = figures(series[0].summary, column.key).get(name)
            if share is not None:
                reach = group / 2 - 8
                parts.append(
                    f'<line class="{column.key}" x1="{middle - reach:.1f}" x2="{middle + reach:.1f}" '
                    f'y1="{y(share):.1f}" y2="{y(share):.1f}"/>'
                )
        for number, one in enumerate(series):
            share, bounds = figures(one.summary, one.key).get(name), figures(one.summary, one.interval).get(name)
            x = middle + STEP * (number - (len(series) - 1) / 2) - 6
            if share is None:
                continue
            if bounds:
                low, high = bounds
                parts.append(
                    f'<rect class="within m{number % len(SHAPES)}" x="{x - 4:.1f}" width="8" y="{y(high):.1f}" '
                    f'height="{max(1.0, y(low) - y(high)):.1f}" rx="4"/>'
                )
            parts.append(shape(number, x, y(share)))
            parts.append(label(round(x + 8, 1), round(y(share) + 4, 1), f"{100 * share:.0f}", style="value"))
            told.append(f"{one.name}, {name}: {share:.1%}")
        for line, text in enumerate(title):
            parts.append(label(middle, TOP + HEIGHT + 18 + LINE * line, text, "middle", "name"))
        count = figures(series[0].summary, "count").get(name)
        if count is not None:
            parts.append(label(middle, below + 15, f"{count:,}", "middle"))
    width, height = right + 6, below + 26
    return (
        f'<svg class="plot" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape("; ".join(told))}">{"".join(parts)}</svg>'
    )


def key(series: Sequence[Series]) -> str:
    """What the marks of a plot mean."""
    parts = []
    for number, one in enumerate(series):
        mark = f'<svg width="14" height="14" aria-hidden="true">{shape(number, 7, 7)}</svg>'
        parts.append(f'<span class="key">{mark}{escape(one.name)}</span>')
    for column in BLIND:
        if figures(series[0].summary, column.key):
            parts.append(f'<span class="key"><i class="{column.key}"></i>{column.title}</span>')
    return f'<p class="keys">{"".join(parts)}<span class="key"><i class="within"></i>95% interval</span></p>'


def figure(title: str, about: str, drawing: str) -> str:
    return f"<figure><h3>{escape(title)}</h3><p>{escape(about)}</p>{drawing}</figure>"
