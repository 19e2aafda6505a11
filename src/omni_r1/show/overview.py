"""The top of a report: what the run came to, in words, in numbers, and under which circumstances."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from omni_r1.bench.published import TITLES
from omni_r1.bench.statistics import OVERALL, outcome
from omni_r1.show import plot
from omni_r1.show.records import escape
from omni_r1.show.strip import verdict_of
from omni_r1.show.table import (
    ACCURACY,
    DRAWINGS,
    Table,
    answers,
    figures,
    interval,
    judge_of,
    names,
    part,
    percent,
    table_of,
    tables,
    times,
)
from omni_r1.trajectory import counted

UNI_TASKS = TITLES | {
    "scene": "Natural-Scene Perception",
    "chart": "Structured-Image",
    "diagram": "Diagrammatic Math",
    "board": "Vision-Operational Scenes",
}
WITHOUT = {
    "no_answer": "are missing",
    "unparsed": "could not be read",
    "ungraded": "got no verdict",
}


def questions(count: int) -> str:
    return counted(count, "question")


def asked(records: Sequence[dict[str, Any]]) -> int:
    """How many questions there are; a record without an id is one of its own."""
    return len({record.get("id") or number for number, record in enumerate(records)})


def options_of(run: dict[str, Any]) -> dict[str, Any]:
    return run["options"] if isinstance(run.get("options"), dict) else {}


def sentence(summary: dict[str, Any], records: Sequence[dict[str, Any]], run: dict[str, Any]) -> str:
    """What the run came to, in words."""
    keys = ("accuracy", "control_accuracy", "constant", "step_accuracy")
    found = {key: figures(summary, key).get(OVERALL) for key in keys}
    graded, judge = found["accuracy"] is not None, judge_of(summary)
    count = questions(number := asked(records))
    if not graded:
        parts = [f"The model was asked {count}."]
        if run and not summary:
            parts.append("<b>The run did not finish</b>: these are the answers it got to.")
        elif all(verdict_of(record) in ("answered", "failed") for record in records):
            parts.append("Nothing here is graded: the questions came without gold answers.")
    else:
        bounds = interval(summary, ACCURACY, OVERALL)
        by = f", by the verdicts of the judge {escape(judge)}" if judge else ""
        within = f" (95% interval {bounds[0]:.1%} to {bounds[1]:.1%})" if bounds else ""
        parts = [f"The model answered <b>{percent(found['accuracy'])}</b> of {count} right{within}{by}."]
        if len(records) > number:
            parts.append(
                f"A question has {len(records) / number:.3g} answers on average; its share of right ones counts."
            )
    if options_of(run).get("swap_pictures"):
        parts.append(
            "<b>Each was shown with another question's picture</b>, where another has as many, "
            "to see whether pictures count."
        )
    others = []
    if found["control_accuracy"] is not None:
        rules = " by the rules" if judge else ""
        others.append(f"a control that answers in text alone gets {percent(found['control_accuracy'])}{rules}")
    if found["constant"] is not None:
        others.append(f"the best constant answer {'' if others else 'gets '}{percent(found['constant'])}")
    if others:
        text = " and ".join(others)
        parts.append(f"{text[0].upper()}{text[1:]}.")
    if found["step_accuracy"] is not None:
        parts.append(f"Of the drawings on the way, {percent(found['step_accuracy'])} are as they should be.")
    outcomes = Counter(map(outcome, records))
    if failed := outcomes["failed"]:
        what = questions(failed) if number == len(records) else f"{failed} answers"
        parts.append(f"{what} failed{', counted as wrong' if graded else ''}; each shows its error.")
    if graded and (told := [f"{outcomes[name]} {WITHOUT[name]}" for name in WITHOUT if outcomes[name]]):
        parts.append(f"Of the answers {', '.join(told)}; none of these counts as right.")
    return " ".join(parts)


def span(low: float, high: float) -> str:
    """Bounds in percent or points, a minus sign told from a dash."""
    between = "–" if low >= 0 else " to "
    return f"{100 * low:.1f}{between}{100 * high:.1f}".replace("-", "−")


def html_table(table: Table) -> str:
    """A table with its note, each interval below its figure, and full names of the Uni-Tasks below the short ones."""
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in table.heads)
    rows = []
    for name, cells in table.rows:
        about = f"<small>{UNI_TASKS[name]}</small>" if name in UNI_TASKS and table.corner == "task" else ""
        row = []
        for cell in cells:
            within = f"<small>{span(*cell.bounds)}</small>" if cell.bounds else ""
            row.append(f"<td>{escape(cell.figure)}{within}</td>")
        rows.append(f'<tr><th scope="row">{escape(name)}{about}</th>{"".join(row)}</tr>')
    whole = ' class="whole"' if table.rows and table.rows[0][0] == OVERALL else ""
    return (
        f'<div class="figures"><table{whole}><thead><tr><th scope="col">{table.corner}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>{f'<p>{escape(table.note)}</p>' if table.note else ''}</div>"
    )


def plots(summary: dict[str, Any]) -> str:
    """Accuracy by task, by what was drawn and by how well; nothing where there is no accuracy."""
    if not figures(summary, "accuracy"):
        return ""
    series = [plot.Series("the model", summary)]
    if figures(summary, "control_accuracy"):
        series.append(plot.Series("text-only control", summary, "control_accuracy", "control_interval"))
    about = f"Share of right answers{', by the judge' * bool(judge_of(summary))}."
    drawn = [plot.figure("By task", about, plot.accuracies(series, names(summary)))]
    for key, title, about in (
        ("by_source", "By source", "The data sets that the questions are from."),
        ("by_images", "By number of images drawn", "Of answers that drew so many."),
        (
            "by_steps",
            "By quality of the drawings",
            "Of answers that drew such steps; a missing step is a wrong one.",
        ),
    ):
        found = part(summary, key)
        if figures(found, "accuracy"):
            drawing = plot.accuracies([plot.Series("the model", found)], list(figures(found, "accuracy")))
            drawn.append(plot.figure(title, about, drawing))
    return f'<div class="plots">{"".join(drawn)}</div>{plot.key(series)}'


def overview(summary: dict[str, Any]) -> str:
    """Tables and plots; the tables of what is plotted folded."""
    first = table_of(summary, (*answers(summary), *DRAWINGS[:2]), "", "task")
    if first is None:
        return ""
    folded = "".join(f"<h3>{escape(table.title)}</h3>{html_table(table)}" for table in tables(summary)[1:])
    more = f'<details class="more"><summary>More figures</summary>{folded}</details>' if folded else ""
    return html_table(first) + plots(summary) + more


def circumstances(summary: dict[str, Any], run: dict[str, Any]) -> str:
    """Speed, and where the figures come from; all of run.json folded below."""
    options = options_of(run)
    listed: dict[str, Any] = {
        "model": options.get("model_path"),
        "data": options.get("data"),
        "mode": options.get("mode"),
        "seed": run.get("seed"),
        "started": run.get("started"),
        "commit": run["commit"][:10] if isinstance(run.get("commit"), str) else None,
    }
    known = {name: value for name, value in listed.items() if value is not None} | times(summary)
    pairs = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in known.items())
    whole = f"<summary>All that is recorded of this run</summary><pre>{escape(json.dumps(run, indent=2))}</pre>"
    return f"<dl>{pairs}</dl>" + (f"<details>{whole}</details>" if run else "")
