"""The figures of a run as tables: which there are, and how they look as plain text and as Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from omni_r1.bench.published import ABLATION, BENCH, COUNTS, SOURCE
from omni_r1.bench.statistics import MISSING, OVERALL
from omni_r1.errors import InputError
from omni_r1.run_record import SUMMARY

NOTHING = "–"
PUBLISHED_SUITE = "omni-bench"  # the suite that the paper's tables are about
TIMES = {"tokens_per_second": "tokens a second", "seconds": "seconds in all"}


class Column(NamedTuple):
    """A figure of summary.json, and the key of its 95 % interval if it has one."""

    key: str
    title: str
    interval: str | None = None
    kind: Literal["share", "count", "mean"] = "share"


class Cell(NamedTuple):
    figure: str
    bounds: tuple[float, float] | None = None


class Table(NamedTuple):
    """`corner`: what the names of the rows are; `note`: what stands below."""

    title: str
    corner: str
    heads: list[str]
    rows: list[tuple[str, list[Cell]]]
    note: str = ""


ACCURACY = Column("accuracy", "accuracy", "interval")
BLIND = (Column("constant", "constant answer"), Column("chance", "chance"))
MISSED = tuple(Column(name, name.replace("_", " "), kind="count") for name in MISSING)
ANSWERS = (
    Column("count", "questions", kind="count"),
    Column("samples", "samples", kind="count"),
    ACCURACY,
    Column("control_accuracy", "text-only control", "control_interval"),
    *BLIND,
    Column("prefix", "steps before the first wrong one"),
    *MISSED,
)
JUDGE = (Column("accuracy", "accuracy", "interval"), Column("missing", "without a verdict", kind="count"))
BESIDE_RULES = (
    Column("agreement", "agreement with the rules"),
    Column("kappa", "Cohen's kappa", kind="mean"),
    Column("only_rule", "right for the rules alone", kind="count"),
    Column("only_judge", "right for the judge alone", kind="count"),
    Column("tokens_in", "tokens read", kind="count"),
    Column("tokens_out", "tokens written", kind="count"),
    Column("cost", "cost", kind="mean"),
)
DRAWINGS = (
    Column("step_accuracy", "steps right", "step_interval"),
    Column("valid_images", "whole images", "valid_interval"),
    Column("images", "images drawn", kind="mean"),
    Column("words", "words", kind="mean"),
    Column("words_median", "median", kind="mean"),
    Column("tokens", "tokens", kind="mean"),
    Column("tokens_median", "median", kind="mean"),
)
PARTS = {"by_source": "source", "by_images": "images drawn", "by_steps": "drawings"}


def figures(summary: Mapping[str, Any], key: str | None) -> dict[str, Any]:
    """The figures under a key, `{"overall": ..., task: ...}`; none where the run has no such key.

    `generate` grades nothing and has plain numbers under some of the keys: no figures.
    """
    found = summary.get(key or "") or {}
    if isinstance(found, int | float):
        return {}
    if not isinstance(found, dict):
        raise InputError(f"must be figures by task, not {type(found).__name__}", file=SUMMARY, field=key)
    pairs = (key or "").endswith("interval")
    for figure in found.values():
        parts = figure if pairs and isinstance(figure, list | tuple) and len(figure) == 2 else [figure]
        if figure is not None and pairs and len(parts) != 2:
            raise InputError(f"must be pairs of numbers, not {figure!r}", file=SUMMARY, field=key)
        if not all(part is None or isinstance(part, int | float) for part in parts):
            raise InputError(f"must be {'pairs of ' if pairs else ''}numbers, not {figure!r}", file=SUMMARY, field=key)
    return found


def part(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The figures of a part of the run, by source or by what was drawn; none where the run has none."""
    found = summary.get(name) or {}
    if not isinstance(found, dict):
        raise InputError(f"must be figures by name, not {type(found).__name__}", file=SUMMARY, field=name)
    return found


def columns(summary: Mapping[str, Any], wanted: Iterable[Column]) -> list[Column]:
    """The columns that say something: samples where they are not the questions, what is missing where something is."""
    listed = []
    for column in wanted:
        values = [value for value in figures(summary, column.key).values() if value is not None]
        told = any(values) if column.key in MISSING else bool(figures(summary, column.key))
        if column.key == "samples":
            told = figures(summary, "samples") != figures(summary, "count")
        listed += [column] if told else []
    return listed


def names(summary: Mapping[str, Any]) -> list[str]:
    """The table's rows: overall, then the tasks as the run met them."""
    found = dict.fromkeys(name for column in (*ANSWERS, *DRAWINGS) for name in figures(summary, column.key))
    return sorted(found, key=lambda name: name != OVERALL)


def percent(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.1%}"


def interval(summary: Mapping[str, Any], column: Column, name: str) -> tuple[float, float] | None:
    bounds = figures(summary, column.interval).get(name)
    return (bounds[0], bounds[1]) if bounds else None


def cell(summary: Mapping[str, Any], column: Column, name: str) -> Cell:
    value = figures(summary, column.key).get(name)
    if value is None:
        return Cell(NOTHING)
    if column.kind == "share":
        return Cell(percent(value), interval(summary, column, name))
    return Cell(f"{value:,}" if column.kind == "count" else f"{value:,.1f}")


def table_of(summary: Mapping[str, Any], wanted: Iterable[Column], title: str, corner: str) -> Table | None:
    """A row for the whole and for each part; None where there are no figures."""
    shown = columns(summary, wanted)
    if not any(column.kind != "count" for column in shown):
        return None
    rows = [(name, [cell(summary, column, name) for column in shown]) for name in names(summary)]
    return Table(title, corner, [column.title for column in shown], rows)


def beside(runs: Mapping[str, Mapping[str, Any]], title: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Accuracies of `runs` (figures by name), a column for the whole and for each task; then those of further `rows`.

    What answers without looking is the same for all runs and stands last.
    """
    tasks = list(dict.fromkeys(name for run in runs.values() for name in names(run)))
    counts = figures(next(iter(runs.values())), "count")
    listed = [(name, [cell(found, ACCURACY, task) for task in tasks]) for name, found in {**runs, **rows}.items()]
    first = next(iter(runs.values()))
    listed += [(column.title, [cell(first, column, task) for task in tasks]) for column in columns(first, BLIND)]
    heads = [f"{task} ({counts[task]:,})" if counts.get(task) else task for task in tasks]
    return Table(title, "accuracy", heads, listed)


def published(suite: object) -> dict[str, Mapping[str, Any]]:
    """The paper's rows, marked as such, where the suite is the one they are about."""
    if suite != PUBLISHED_SUITE:
        return {}
    return {f"{row.model} (published)": row.figures() for row in (*BENCH, *ABLATION[1:])}


def judge_of(summary: Mapping[str, Any]) -> str | None:
    """The judge whose verdicts are the figures; None where the rules' are."""
    judged = part(summary, "judge")
    return printable(str(judged.get("model"))) if judged.get("primary") else None


def answers(summary: Mapping[str, Any]) -> tuple[Column, ...]:
    """The columns of answers. Beside a judge's verdicts the control is still graded by the rules."""
    if judge_of(summary) is None:
        return ANSWERS
    titles = {"accuracy": "accuracy by the judge", "control_accuracy": "text-only control by the rules"}
    return tuple(column._replace(title=titles.get(column.key, column.title)) for column in ANSWERS)


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """All tables of a run that there are figures for.

    Raises InputError naming the key where `summary` holds something else.
    """
    wanted, judge = answers(summary), judge_of(summary)
    found = [table_of(summary, wanted, "Answers", "task"), table_of(summary, DRAWINGS, "Drawings and lengths", "task")]
    if rows := published(summary.get("suite")):
        title = f"Beside the published tables ({SOURCE}: {COUNTS[OVERALL]} questions, graded by a language model)"
        found.append(beside({"this run, by the judge" if judge else "this run": summary}, title, rows))
    for key, corner in PARTS.items():
        found.append(table_of(part(summary, key), wanted, f"Answers by {corner}", corner))
    if judged := part(summary, "judge"):
        found += [table_of(judged, JUDGE, "Judge", "task"), beside_rules(judged)]
    if profiles := figures(summary, "profiles"):
        found.append(Table("Rules", "profile", ["answers"], [(name, [Cell(str(n))]) for name, n in profiles.items()]))
    return [table for table in found if table]


def beside_rules(judged: Mapping[str, Any]) -> Table:
    """What the judge is, how it agrees with the rules, and what it took."""
    rows = [("model", [Cell(printable(str(judged.get("model"))))])]
    for column in BESIDE_RULES:
        value = judged.get(column.key)
        if value is not None and not isinstance(value, int | float):
            raise InputError(f"must be a number, not {value!r}", file=SUMMARY, field=column.key)
        if value is not None:
            told = {"share": f"{value:.1%}", "count": f"{value:,}", "mean": f"{value:.3f}"}[column.kind]
            rows.append((column.title, [Cell(told)]))
    return Table("Judge beside the rules", "", [""], rows)


def times(summary: Mapping[str, Any]) -> dict[str, str]:
    """How fast the run was: figures by what they are."""
    found = {unit: summary.get(key) for key, unit in TIMES.items()}
    return {unit: f"{value:,.0f}" for unit, value in found.items() if isinstance(value, int | float)}


def time_line(summary: Mapping[str, Any]) -> str:
    return ", ".join(f"{value} {unit}" for unit, value in times(summary).items())


def printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def words(cell: Cell) -> str:
    if cell.bounds is None:
        return cell.figure
    sign = "+" if cell.figure[:1] in ("+", "-") else ""  # of a difference
    low, high = (f"{100 * bound:{sign}.1f}" for bound in cell.bounds)
    return f"{cell.figure} [{low}, {high}]"


def text_of(table: Table) -> str:
    """Aligned plain text, a line for each row, and the note below."""
    lines = [["", *table.heads], *([printable(name), *map(words, cells)] for name, cells in table.rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    rows = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in lines]
    return "\n".join([*rows, *filter(None, [printable(table.note)])])


def markdown_of(table: Table) -> str:
    def escaped(text: str) -> str:
        return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")

    lines = [[table.corner, *table.heads], ["---"] * (len(table.heads) + 1)]
    lines += [[name, *map(words, cells)] for name, cells in table.rows]
    body = ("| " + " | ".join(map(escaped, line)) + " |" for line in lines)
    note = f"\n{escaped(table.note)}\n" if table.note else ""
    return f"### {table.title}\n\n" + "\n".join(body) + f"\n{note}"


def table(summary: Mapping[str, Any]) -> str:
    """All tables of a run for the terminal; empty for a run without figures. Raises InputError as `tables`."""
    first, *others = map(text_of, listed) if (listed := tables(summary)) else [""]
    titled = (f"{one.title}\n{text}" for one, text in zip(listed[1:], others, strict=True))
    return "\n\n".join((first, *titled))


def markdown(summary: Mapping[str, Any]) -> str:
    """The same as Markdown."""
    return "\n".join(map(markdown_of, tables(summary)))
