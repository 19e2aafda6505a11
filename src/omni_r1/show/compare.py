"""`omni-r1 bench compare`: whether runs on the same questions differ, as words, tables and a page of where they do."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omni_r1.bench.compare import Against, Comparison, Run, changed_options, compare
from omni_r1.bench.published import SOURCE
from omni_r1.bench.statistics import OVERALL, Record, by_question
from omni_r1.errors import InputError
from omni_r1.files import write_atomic, writing
from omni_r1.run_record import ORIGIN, RESULTS, RUN, SUMMARY
from omni_r1.show import plot
from omni_r1.show.overview import html_table, options_of, questions
from omni_r1.show.records import Pictures, escape, read_object, read_records
from omni_r1.show.report import WIDTH, choice, filled
from omni_r1.show.strip import answered, failure, given, mark, question, strip, verdict_of
from omni_r1.show.table import (
    MISSED,
    Cell,
    Column,
    Table,
    beside,
    cell,
    columns,
    markdown_of,
    names,
    percent,
    printable,
    published,
    text_of,
)
from omni_r1.trajectory import counted

if TYPE_CHECKING:
    from omni_r1.options import CompareOptions

SAMPLES = Column("samples", "answers", kind="count")
PAGE, TABLES, FOUND = "compare.html", "compare.md", "compare.json"


def run_names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or as much of their paths as tells them apart. Raises InputError for one given twice."""
    whole = [folder.resolve() for folder in folders]
    if len(set(whole)) < len(whole):
        twice = next(folder for folder in folders if whole.count(folder.resolve()) > 1)
        raise InputError("is given twice", file=twice, field="runs")
    depth = 1
    while len({path.parts[-depth:] for path in whole}) < len(whole):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in whole]


def read_run(folder: Path, name: str) -> Run:
    """A finished run. Raises InputError where its results are missing, not finished, or a row cannot be used."""
    log = folder / RESULTS
    if not log.is_file():
        raise InputError(f"no {RESULTS}: this is no folder of `omni-r1 bench`", file=folder, field="runs")
    if not (folder / SUMMARY).is_file():
        raise InputError(f"no {SUMMARY}: the run did not finish", file=folder, field="runs")
    records, problems = read_records(log)
    if problems:
        raise problems[0]
    suite, read = read_object(folder / SUMMARY).get("suite"), read_object(folder / ORIGIN).get("files")
    read = {name: str(sha) for name, sha in read.items()} if isinstance(read, dict) else {}
    return Run(name, records, log, suite, options_of(read_object(folder / RUN)), read, folder)


def probability(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def points(share: float) -> str:
    return f"{100 * share:+.1f}"


def sentence(comparison: Comparison, name: str) -> str:
    """Whether a run differs from the first, in words."""
    first, found = comparison.runs[0].name, comparison.against[name][OVERALL]
    shares = [comparison.figures[run]["accuracy"][OVERALL] for run in (name, first)]
    low, high = found.difference.interval
    count = comparison.figures[first]["count"][OVERALL]
    figures = (
        f"{percent(shares[0])} against {percent(shares[1])}, a difference of {points(found.difference.value)} points "
        f"[{points(low)}, {points(high)}], p {'< 0.001' if found.p < 0.001 else f'= {found.p:.3f}'}, "
        f"{questions(count)}, {found.better} better and {found.worse} worse"
    )
    failures = failed_apart(comparison, name)
    if found.shown:
        return f"{name} is {'better' if found.difference.value > 0 else 'worse'} than {first}: {figures}.{failures}"
    text = f"No difference between {name} and {first} is shown: {figures}."
    needed = found.difference.questions_needed
    if needed and needed > count:
        text += f" To see a difference of this size, about {rounded(needed)} questions would be needed."
    return text + failures


def failed_apart(comparison: Comparison, name: str) -> str:
    """Whether so many more answers failed in one of the runs that the difference may be of that; else nothing.

    That is a twentieth of the answers, or half of the difference and a hundredth of the answers.
    """
    runs = name, comparison.runs[0].name
    counts = [(comparison.figures[run]["failed"][OVERALL], comparison.figures[run]["samples"][OVERALL]) for run in runs]
    (failed, samples), (others, of) = counts
    least = max(0.01, min(0.05, abs(comparison.against[name][OVERALL].difference.value) / 2))
    if abs(failed / samples - others / of) < least:
        return ""
    told = " and ".join(f"{failed:,} of {of:,} in {run}" for (failed, of), run in zip(counts, runs, strict=True))
    return f" Answers that failed, {told}, count as not right: the runs differ in these too."


def rounded(count: int) -> str:
    """A count of which two digits are known."""
    return f"{round(count, 2 - len(str(count))):,}" if count >= 100 else str(count)


def differences(comparison: Comparison, name: str) -> Table:
    """A run against the first, for all questions and for each task."""
    rows = []
    for part, found in comparison.against[name].items():
        needed = found.difference.questions_needed
        cells = [
            Cell(points(found.difference.value), found.difference.interval),
            Cell(probability(found.p)),
            Cell(str(found.better)),
            Cell(str(found.worse)),
            Cell(rounded(needed) if needed else "–"),
            Cell(verdict(found)),
        ]
        rows.append((part, cells))
    heads = ["difference, points", "p", "better", "worse", "questions needed", ""]
    return Table(f"{name} against {comparison.runs[0].name}", "task", heads, rows, adjusted(comparison))


def adjusted(comparison: Comparison) -> str:
    """For how many tests the p-values are adjusted."""
    whole, tasks = len(comparison.against), sum(len(parts) - 1 for parts in comparison.against.values())
    told = {"overall": whole, "the tasks": tasks}
    over = (f"{what} over {counted(count, 'test')}" for what, count in told.items() if count)
    return f"p is Holm-adjusted: {', '.join(over)}."


def left_out(comparison: Comparison) -> Table | None:
    """How many answers of each run are none that could be right or wrong; None where there are none in any."""
    found = comparison.figures
    shown = [column for column in MISSED if any(columns(figures, [column]) for figures in found.values())]
    if not shown:
        return None
    heads = [column.title for column in (SAMPLES, *shown)]
    rows = [(name, [cell(figures, column, OVERALL) for column in (SAMPLES, *shown)]) for name, figures in found.items()]
    return Table("Answers that are neither right nor wrong, and count as not right", "run", heads, rows)


def verdict(found: Against) -> str:
    if not found.shown:
        return "not shown"
    return "better" if found.difference.value > 0 else "worse"


def tables(comparison: Comparison) -> list[Table]:
    rows = published(comparison.suite)
    first = comparison.runs[0]
    by = f" by {first.grader}" if first.options.get("primary") == "judge" else ""
    title = f"Accuracy{by}" + (f", beside the published tables ({SOURCE})" if rows else "")
    others = [run.name for run in comparison.runs[1:]]
    found = [beside(comparison.figures, title, rows), *(differences(comparison, name) for name in others)]
    found += [missed] if (missed := left_out(comparison)) else []
    if options := changed_options(comparison.runs):
        told = [(name, [Cell(str(value)) for value in values]) for name, values in options.items()]
        found.append(Table("What was asked for otherwise", "option", [run.name for run in comparison.runs], told))
    return found


def telling(samples: Sequence[Record], right: bool) -> Record:
    """The first sample with this verdict, or else the first."""
    return next((record for record in samples if bool(record.get("correct")) == right), samples[0])


def articles(comparison: Comparison, pictures: dict[str, Pictures]) -> Iterator[tuple[str, str, str]]:
    """For each question in which the runs differ: who is right, its task, and its traces side by side."""
    answers = {run.name: by_question(run.records) for run in comparison.runs}
    for number, name in enumerate(comparison.differing, 1):
        found = {run: answers[run][name] for run in answers}
        counts = {run: sum(bool(record.get("correct")) for record in samples) for run, samples in found.items()}
        most = max(counts[run] / len(found[run]) for run in found)
        best = [run for run in found if counts[run] / len(found[run]) == most]
        sides = []
        for run, samples in found.items():
            record = telling(samples, run in best)
            told = verdict_of(record)
            several = f" <small>right in {counts[run]} of {len(samples)}</small>" if len(samples) > 1 else ""
            failed = failure(record) if told == "failed" else ""
            traced = strip(answered(record, pictures[run]))
            sides.append(f"<section><h3>{mark(told)}{escape(run)}{several}</h3>{failed}{traced}</section>")
        first = telling(found[comparison.runs[0].name], True)
        task = first.get("task") or ""
        who = ", ".join(best)
        data = f'data-task="{escape(task)}" data-verdict="{escape(who)}" data-steps=""'
        html = (
            f'<article class="row" id="r{number}" {data}>'
            f'<header><a href="#r{number}">{escape(name)}</a>{f"<span>{escape(task)}</span>" if task else ""}'
            f"<span>gold answer: <b>{escape(first.get('gold') or '')}</b></span></header>"
            f'<h2 dir="auto">{question(first)}</h2><div class="sides">'
            f"{strip(given(first, pictures[comparison.runs[0].name]))}"
            f'<div class="runs">{"".join(sides)}</div></div></article>\n'
        )
        yield who, task, html


def page(comparison: Comparison, folders: Sequence[Path]) -> tuple[str, list[InputError]]:
    """The page, and the pictures that could not be shown."""
    pictures = {run.name: Pictures(folder, WIDTH) for run, folder in zip(comparison.runs, folders, strict=True)}
    rows = list(articles(comparison, pictures))
    series = [plot.Series(run.name, comparison.figures[run.name]) for run in comparison.runs]
    drawing = plot.accuracies(series, names(series[0].summary))
    about = "Share of right answers of each run."
    others = [run.name for run in comparison.runs[1:]]
    shown = any(comparison.against[name][OVERALL].shown for name in others)
    first, *listed = tables(comparison)
    titled = "".join(f"<h3>{escape(one.title)}</h3>{html_table(one)}" for one in listed)
    count = comparison.figures[comparison.runs[0].name]["count"][OVERALL]
    winners, tasks = Counter(who for who, _, _ in rows), Counter(task for _, task, _ in rows)
    html = filled(
        name=escape(comparison.suite or "runs"),
        title=f"{'A difference' if shown else 'No difference'} that is more than noise",
        sentence="<br>".join(escape(sentence(comparison, name)) for name in others),
        table=html_table(first)
        + f'<div class="plots">{plot.figure("By task", about, drawing)}</div>{plot.key(series)}{titled}',
        how=f"<p>Below are the {questions(len(rows))} of {count} in which the runs are not equally right: the picture, "
        "and what each run made of it.</p>",
        circumstances="",
        filters=choice("task", "Task", tasks, {task: task for task in tasks if task})
        + choice("verdict", "Best", winners, {who: who for who in winners}),
        count=len(rows),
        rows="".join(html for _, _, html in rows),
        size=f"{'large' if any(each.large for each in pictures.values()) else 'small'} compared",
    )
    return html, [problem for each in pictures.values() for problem in each.problems]


def write(comparison: Comparison, folders: Sequence[Path], output_dir: Path) -> list[InputError]:
    html, problems = page(comparison, folders)
    with writing(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    said = [printable(sentence(comparison, run.name)) for run in comparison.runs[1:]]
    write_atomic(output_dir / FOUND, json.dumps(comparison.as_json(), indent=1) + "\n")
    write_atomic(output_dir / TABLES, "\n\n".join([*said, *map(markdown_of, tables(comparison))]))
    write_atomic(output_dir / PAGE, html)
    return problems


def compare_verb(options: "CompareOptions") -> int:
    """The verb. Exit code 2 where a picture could not be shown on the page."""
    folders = [Path(folder) for folder in options.runs]
    runs = [read_run(folder, name) for folder, name in zip(folders, run_names(folders), strict=True)]
    comparison = compare(runs)
    problems = write(comparison, folders, Path(options.output_dir))
    for run in runs[1:]:
        print(printable(sentence(comparison, run.name)))
    for one in tables(comparison):
        print(f"\n{one.title}\n{text_of(one)}")
    for problem in problems:
        print(f"omni-r1: error: {problem}", file=sys.stderr)
    print(f"\n{Path(options.output_dir) / PAGE}")
    return 2 if problems else 0
