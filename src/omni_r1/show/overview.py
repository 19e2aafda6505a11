"""The top of a report: what the run came to, in words, in numbers, and under which circumstances."""

import json
from collections.abc import Sequence
from typing import Any

from omni_r1.show.records import escape
from omni_r1.show.strip import verdict_of
from omni_r1.show.table import COLUMNS, OVERALL, columns, figures, interval, names, percent

UNI_TASKS = {
    "scene": "Natural-Scene Perception",
    "chart": "Structured-Image",
    "diagram": "Diagrammatic Math",
    "board": "Vision-Operational Scenes",
}
CHART = 150  # pixels from 0 to 100 % in the summary's drawings


def questions(count: int) -> str:
    return f"{count} question{'' if count == 1 else 's'}"


def options_of(run: dict[str, Any]) -> dict[str, Any]:
    return run["options"] if isinstance(run.get("options"), dict) else {}


def sentence(summary: dict[str, Any], records: Sequence[dict[str, Any]], run: dict[str, Any]) -> str:
    """What the run came to, in words."""
    found = {column.key: figures(summary, column.key).get(OVERALL) for column in COLUMNS}
    count = questions(len(records))
    if found["accuracy"] is None:
        parts = [f"The model was asked {count}."]
        if run and not summary:
            parts.append("<b>The run did not finish</b>: these are the answers it got to.")
        elif all(verdict_of(record) not in ("right", "wrong") for record in records):
            parts.append("Nothing here is graded: the questions came without gold answers.")
    else:
        bounds = interval(summary, COLUMNS[0], OVERALL)
        within = f" (95% interval {bounds[0]:.1%} to {bounds[1]:.1%})" if bounds else ""
        parts = [f"The model answered <b>{percent(found['accuracy'])}</b> of {count} right{within}."]
    if options_of(run).get("swap_pictures"):
        parts.append("<b>Each was shown with another question's picture</b>, to see whether pictures count.")
    others = []
    if found["control_accuracy"] is not None:
        others.append(f"a control that answers in text alone gets {percent(found['control_accuracy'])}")
    if found["chance"] is not None:
        others.append(f"the best guess without looking {percent(found['chance'])}")
    if others:
        text = " and ".join(others)
        parts.append(f"{text[0].upper()}{text[1:]}.")
    if found["step_accuracy"] is not None:
        parts.append(f"Of the drawings on the way, {percent(found['step_accuracy'])} are as they should be.")
    if failed := sum(verdict_of(record) == "failed" for record in records):
        graded = "" if found["accuracy"] is None else ", counted as wrong"
        parts.append(f"{questions(failed)} failed{graded}; each shows its error.")
    return " ".join(parts)


def dots(summary: dict[str, Any], name: str) -> str:
    """Accuracy with its interval, control and chance on a line from 0 to 100 %; the numbers stand beside it."""

    def x(key: str) -> float | None:
        share = figures(summary, key).get(name)
        return None if share is None else 5 + share * CHART

    parts = [f'<line class="scale" x1="5" x2="{CHART + 5}" y1="9" y2="9"/>']
    if bounds := interval(summary, COLUMNS[0], name):
        low, high = (5 + bound * CHART for bound in bounds)
        parts.append(f'<rect class="within" x="{low:.1f}" width="{high - low:.1f}" y="5" height="8" rx="4"/>')
    if (chance := x("chance")) is not None:
        parts.append(f'<line class="chance" x1="{chance:.1f}" x2="{chance:.1f}" y1="2" y2="16"/>')
    if (control := x("control_accuracy")) is not None:
        parts.append(f'<path class="control" d="M{control:.1f} 4l5 5l-5 5l-5 -5z"/>')
    if (accuracy := x("accuracy")) is not None:
        parts.append(f'<circle class="accuracy" cx="{accuracy:.1f}" cy="9" r="4"/>')
    return f'<svg width="{CHART + 10}" height="18" aria-hidden="true">{"".join(parts)}</svg>'


def summary_table(summary: dict[str, Any]) -> str:
    shown = columns(summary)
    if not shown:
        return ""
    heads = "".join(f'<th scope="col">{column.title}</th>' for column in shown)
    key = '<span class="key"><i class="accuracy"></i>accuracy and its 95% interval</span>'
    if figures(summary, "control_accuracy"):
        key += '<span class="key"><i class="control"></i>text-only control</span>'
    if figures(summary, "chance"):
        key += '<span class="key"><i class="chance"></i>chance</span>'
    rows = []
    for name in names(summary):
        count = figures(summary, "count").get(name)
        about = [questions(count) if count is not None else "", UNI_TASKS.get(name, "")]
        title = f"{escape(name)}<small>{''.join(f'<span>{part}</span>' for part in about if part)}</small>"
        cells = []
        for column in shown:
            bounds = interval(summary, column, name)
            within = f"<small>{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}</small>" if bounds else ""
            cells.append(f"<td>{percent(figures(summary, column.key).get(name))}{within}</td>")
        line = dots(summary, name)
        rows.append(f'<tr><th scope="row">{title}</th><td class="dots">{line}</td>{"".join(cells)}</tr>')
    return (
        f'<div class="figures"><table><thead><tr><th scope="col">task</th><td class="dots"></td>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table><p>{key}</p></div>"
    )


def circumstances(summary: dict[str, Any], run: dict[str, Any]) -> str:
    """Speed, and where the figures come from; all of run.json folded below."""
    options = options_of(run)
    listed: dict[str, Any] = {
        "model": options.get("model_path"),
        "mode": options.get("mode"),
        "seed": run.get("seed"),
        "started": run.get("started"),
        "commit": run["commit"][:10] if isinstance(run.get("commit"), str) else None,
    }
    for key, unit in (("tokens_per_second", "tokens a second"), ("seconds", "seconds in all")):
        if isinstance(summary.get(key), int | float):
            listed[unit] = f"{summary[key]:,.0f}"
    known = {name: value for name, value in listed.items() if value is not None}
    pairs = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in known.items())
    whole = f"<summary>All that is recorded of this run</summary><pre>{escape(json.dumps(run, indent=2))}</pre>"
    return f"<dl>{pairs}</dl>" + (f"<details>{whole}</details>" if run else "")
