"""`omni-r1 report`: one HTML page of a run, with everything it shows inside it."""

import base64
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from omni_r1.errors import InputError
from omni_r1.files import write_atomic
from omni_r1.show.records import RESULTS, RUN, SUMMARY, Pictures, escape, read_object, read_records
from omni_r1.show.strip import article, mark, steps_of, verdict_of
from omni_r1.show.table import COLUMNS, OVERALL, columns, figures, interval, names, percent

if TYPE_CHECKING:
    from omni_r1.options import ReportOptions

HERE = Path(__file__).parent
REPORT = "report.html"
WIDTH = 192  # pixels for a picture: the miniature's, enlarged three times
UNI_TASKS = {
    "scene": "Natural-Scene Perception",
    "chart": "Structured-Image",
    "diagram": "Diagrammatic Math",
    "board": "Vision-Operational Scenes",
}
CHART = 150  # pixels from 0 to 100 % in the summary's drawings


def sentence(summary: dict[str, Any], records: Sequence[dict[str, Any]]) -> str:
    """What the run came to, in words."""
    found = {column.key: figures(summary, column.key).get(OVERALL) for column in COLUMNS}
    count = f"{len(records)} question{'s' if len(records) != 1 else ''}"
    if found["accuracy"] is None:
        parts = [f"The model was asked {count}."]
        if all(verdict_of(record) not in ("right", "wrong") for record in records):
            parts.append("Nothing here is graded: the questions came without gold answers.")
    else:
        bounds = interval(summary, COLUMNS[0], OVERALL)
        within = f" (95% interval {bounds[0]:.1%} to {bounds[1]:.1%})" if bounds else ""
        parts = [f"The model answered <b>{percent(found['accuracy'])}</b> of {count} right{within}."]
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
        parts.append(f"{failed} failed and count as wrong; each shows its error.")
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
        about = [f"{count} questions" if count is not None else "", UNI_TASKS.get(name, "")]
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
    options = run.get("options") if isinstance(run.get("options"), dict) else {}
    listed = {
        "model": options.get("model_path"),
        "mode": options.get("mode"),
        "seed": run.get("seed"),
        "started": run.get("started"),
        "commit": str(run.get("commit") or "unknown")[:10],
    }
    for key, unit in (("tokens_per_second", "tokens a second"), ("seconds", "seconds in all")):
        if isinstance(summary.get(key), int | float):
            listed[unit] = f"{summary[key]:,.0f}"
    pairs = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in listed.items() if value is not None)
    whole = f"<details><summary>All that is recorded of this run</summary><pre>{escape(json.dumps(run, indent=2))}</pre></details>"
    return (f"<dl>{pairs}</dl>" if pairs else "") + (whole if run else "")


def choice(name: str, title: str, counts: Counter[str], labels: dict[str, str]) -> str:
    """A filter: radio buttons for the values that `labels` names, with their counts; nothing where there is no choice."""
    values = [value for value in labels if counts[value]]
    if len(values) < 2 and counts.total() == sum(counts[value] for value in values):
        return ""
    buttons = [f'<label><input type="radio" name="{name}" value="" checked><span>all</span></label>']
    for value in values:
        label = f"{mark(value) if name == 'verdict' else ''}{escape(labels[value])} <small>{counts[value]}</small>"
        buttons.append(f'<label><input type="radio" name="{name}" value="{escape(value)}"><span>{label}</span></label>')
    return f"<fieldset><legend>{title}</legend>{''.join(buttons)}</fieldset>" if values else ""


def filters(records: Iterable[dict[str, Any]]) -> str:
    records = list(records)
    tasks = Counter(record.get("task") or "" for record in records)
    verdicts, steps = Counter(map(verdict_of, records)), Counter(map(steps_of, records))
    return "".join((
        choice("task", "Task", tasks, {task: task for task in tasks if task}),
        choice("verdict", "Answer", verdicts, {value: value for value in ("right", "wrong", "answered", "failed")}),
        choice("steps", "Drawings", steps, {"right": "all right", "wrong": "a wrong step"}),
    ))


def fingerprint(text: str) -> str:
    """A source of the page's content security policy: only this style or script may run, whatever else gets in."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def page(run_dir: Path) -> tuple[str, list[InputError]]:
    """The page, and what of the run could not be shown. Raises InputError where a file cannot be read at all."""
    records, problems = read_records(run_dir / RESULTS)
    summary, run = read_object(run_dir / SUMMARY), read_object(run_dir / RUN)
    pictures = Pictures(run_dir, WIDTH)
    rows = "".join(article(number, record, pictures) for number, record in enumerate(records, 1))
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    drawn = any("image" in segment for record in records for segment in record["segments"])
    judged = any(steps_of(record) for record in records)
    name = summary.get("suite") or run_dir.resolve().name
    html = Template((HERE / "report.html").read_text(encoding="utf-8")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src {fingerprint(style)}; script-src {fingerprint(script)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        name=escape(name),
        title=f"{len(records)} question{'s' if len(records) != 1 else ''}, answered {'by drawing' if drawn else 'in text'}",
        sentence=sentence(summary, records),
        judged="" if judged else " hidden",
        table=summary_table(summary),
        circumstances=circumstances(summary, run),
        filters=filters(records),
        count=len(records),
        rows=rows,
        size="large" if pictures.large else "small",
    )
    return html, problems + pictures.problems


def write(run_dir: str | Path) -> tuple[Path, list[InputError]]:
    html, problems = page(Path(run_dir))
    path = Path(run_dir) / REPORT
    write_atomic(path, html)
    return path, problems


def report(run_dir: str | Path) -> Path:
    """Write report.html into a run folder: one file, no network. Rows and pictures that cannot be shown say so on it.

    Raises InputError naming the file where results.jsonl is missing or summary.json or run.json is malformed.
    """
    return write(run_dir)[0]


def report_verb(options: "ReportOptions") -> int:
    """The verb. Exit code 2 where something of the run could not be shown."""
    path, problems = write(options.run_dir)
    for problem in problems:
        print(f"omni-r1: error: {problem}", file=sys.stderr)
    print(path)
    return 2 if problems else 0
