"""`omni-r1 report`: one HTML page of a run, with everything it shows inside it."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from omni_r1.errors import InputError
from omni_r1.files import write_atomic
from omni_r1.run_record import ANSWERS, DRAWINGS, FIGURES, REPORT, RESULTS, RUN, SUMMARY
from omni_r1.show import training
from omni_r1.show.overview import asked, circumstances, overview, questions, sentence
from omni_r1.show.records import Pictures, escape, fingerprint, read_object, read_records
from omni_r1.show.strip import VERDICTS, article, drawings_verdict, mark, told, verdict_of
from omni_r1.show.table import markdown, table, time_line

if TYPE_CHECKING:
    from omni_r1.options import ReportOptions

HERE = Path(__file__).parent
LOGS = (RESULTS, ANSWERS)
WIDTH = 192  # pixels for a picture: the miniature's, enlarged three times


def choice(name: str, title: str, counts: Counter[str], labels: dict[str, str]) -> str:
    """A filter: radio buttons for the values that `labels` names, with counts; nothing where there is no choice."""
    values = [value for value in labels if counts[value]]
    if not values or counts[values[0]] == counts.total():
        return ""
    buttons = [f'<label><input type="radio" name="{name}" value="" checked><span>all</span></label>']
    for value in values:
        label = f"{mark(value) if name == 'verdict' else ''}{escape(labels[value])} <small>{counts[value]}</small>"
        buttons.append(f'<label><input type="radio" name="{name}" value="{escape(value)}"><span>{label}</span></label>')
    return f"<fieldset><legend>{title}</legend>{''.join(buttons)}</fieldset>"


def filters(records: Sequence[dict[str, Any]]) -> str:
    tasks = Counter(record.get("task") or "" for record in records)
    verdicts, steps = Counter(map(verdict_of, records)), Counter(map(drawings_verdict, records))
    return (
        choice("task", "Task", tasks, {task: task for task in tasks if task})
        + choice("verdict", "Answer", verdicts, {value: told(value) for value in (*VERDICTS, "answered")})
        + choice("steps", "Drawings", steps, {"right": "all right", "wrong": "a wrong step"})
    )


def log_of(run_dir: Path) -> Path | None:
    """The log in a run folder, None where there is none."""
    return next((run_dir / name for name in LOGS if (run_dir / name).is_file()), None)


def logs_in(path: Path) -> list[Path]:
    """The log of a run folder, or those of the run folders in it. Raises InputError where there is no run."""
    found = [log for folder in (path, *sorted(path.glob("*/"))) if (log := log_of(folder))]
    if not found:
        raise InputError(
            f"no run here: neither {' nor '.join(LOGS)}, nor a folder with one", file=path, field="run_dir"
        )
    return found[:1] if found[0].parent == path else found


def how(drawn: bool, judged: bool, several: bool = False) -> str:
    """How to read the strips."""
    under = " What stands under a thought was drawn by the model, token by token." if drawn else ""
    legend = """
<p class="legend"><span class="right"><i></i>a drawing judged right</span><span class="wrong"><i></i>a drawing judged
wrong; the reason stands below it</span></p>"""
    one = "one answer to a question" if several else "one question"
    return (
        f"<p>Each strip below is {one}. Read it from left to right: the picture the model was given, then what "
        f"it thought{' and what it drew' if drawn else ''}, then its answer.{under}</p>{legend if judged else ''}"
    )


def filled(**parts: object) -> str:
    """The page of strips: its template with style, script and a policy that lets nothing else run, and these parts."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {fingerprint(style)}; script-src {fingerprint(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    template = Template((HERE / "report.html").read_text(encoding="utf-8"))
    return template.substitute(policy=policy, style=style, script=script, **parts)


def page(run_dir: Path, log: Path) -> tuple[str, list[InputError]]:
    """The page, and what of the run could not be shown. Raises InputError where a file cannot be read at all."""
    records, problems = read_records(log)
    summary, run = read_object(run_dir / SUMMARY), read_object(run_dir / RUN)
    pictures = Pictures(run_dir, WIDTH)
    rows = "".join(article(number, record, pictures) for number, record in enumerate(records, 1))
    drawn = any("image" in segment for record in records for segment in record["segments"])
    name = summary.get("suite") or run_dir.resolve().name
    html = filled(
        name=escape(name),
        title=f"{questions(asked(records))}, answered {'by drawing' if drawn else 'in text'}",
        how=how(drawn, any(drawings_verdict(record) for record in records), several=len(records) > asked(records)),
        sentence=sentence(summary, records, run),
        table=overview(summary),
        circumstances=circumstances(summary, run),
        filters=filters(records),
        count=len(records),
        rows=rows,
        size="large" if pictures.large else "small",
    )
    return html, problems + pictures.problems


def write(log: Path) -> tuple[Path, list[InputError]]:
    html, problems = page(log.parent, log)
    path = log.with_name(REPORT)
    write_atomic(path, html)
    summary = read_object(log.with_name(SUMMARY))
    if figures := markdown(summary):
        write_atomic(log.with_name(FIGURES), "\n".join(filter(None, (figures, time_line(summary)))) + "\n")
    return path, problems


def report(run_dir: str | Path) -> Path:
    """Write report.html into a run folder: one file, no network. Rows and pictures that cannot be shown say so on it.
    Beside it, where the run has figures, figures.md.

    Raises InputError naming the file where the log is missing or summary.json or run.json is malformed.
    """
    return write(logs_in(Path(run_dir))[0])[0]


def report_verb(options: "ReportOptions") -> int:
    """The verb. A bootstrapped folder has a page of its own; so has a training run, and one for each sample of answers
    that was kept on its way.

    Exit code 2 where something of a run could not be shown.
    """
    code, pages, run_dir = 0, list[Path](), Path(options.run_dir)
    if (run_dir / DRAWINGS).is_dir():
        from omni_r1.show import drawings  # needs the model's VQ

        print(drawings.write(run_dir, options.model_path))
        return 0
    if options.model_path is not None:
        raise InputError("the page of this run needs no checkpoint", field="model_path")
    trained = training.is_training(run_dir)
    for log in sorted(run_dir.glob(f"{training.SAMPLES}/*/{RESULTS}")) if trained else logs_in(run_dir):
        path, problems = write(log)
        for problem in problems:
            print(f"omni-r1: error: {problem}", file=sys.stderr)
        summary = read_object(log.with_name(SUMMARY))
        if figures := table(summary):
            print("\n\n".join(filter(None, (figures, time_line(summary)))) + "\n")
        print(path)
        pages.append(path)
        code = 2 if problems else code
    if trained:
        print(training.write(run_dir, pages))
    return code
