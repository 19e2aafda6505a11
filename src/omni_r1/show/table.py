"""The figures of a run: which there are, and their plain text table."""

from typing import Any, NamedTuple

from omni_r1.errors import InputError
from omni_r1.run_record import SUMMARY

OVERALL = "overall"
NOTHING = "–"


class Column(NamedTuple):
    """A figure of summary.json, and the key of its 95 % interval if it has one."""

    key: str
    title: str
    interval: str | None = None


COLUMNS = (
    Column("accuracy", "accuracy", "interval"),
    Column("control_accuracy", "text-only control", "control_interval"),
    Column("chance", "chance"),
    Column("step_accuracy", "steps right"),
    Column("valid_images", "whole images"),
)


def figures(summary: dict[str, Any], key: str | None) -> dict[str, Any]:
    """The figures under a key, `{"overall": ..., task: ...}`; none where the run has no such key."""
    found = summary.get(key or "") or {}
    if not isinstance(found, dict):
        raise InputError(f"must be figures by task, not {type(found).__name__}", file=SUMMARY, field=key)
    pairs = (key or "").endswith("interval")
    for figure in found.values():
        parts = figure if pairs and isinstance(figure, list | tuple) and len(figure) == 2 else [figure]
        if (pairs and len(parts) != 2) or not all(part is None or isinstance(part, int | float) for part in parts):
            raise InputError(f"must be {'pairs of ' if pairs else ''}numbers, not {figure!r}", file=SUMMARY, field=key)
    return found


def columns(summary: dict[str, Any]) -> list[Column]:
    """The columns that this run has figures for."""
    return [column for column in COLUMNS if figures(summary, column.key)]


def names(summary: dict[str, Any]) -> list[str]:
    """The table's rows: overall, then the tasks as the run met them."""
    found = dict.fromkeys(name for column in COLUMNS for name in figures(summary, column.key))
    return sorted(found, key=lambda name: name != OVERALL)


def percent(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.1%}"


def interval(summary: dict[str, Any], column: Column, name: str) -> tuple[float, float] | None:
    bounds = figures(summary, column.interval).get(name)
    return (bounds[0], bounds[1]) if bounds else None


def table(summary: dict[str, Any]) -> str:
    """The figures as aligned plain text, a line for the whole and for each task; empty for a run without figures.

    Raises InputError naming the key where `summary` holds something else.
    """
    shown = columns(summary)
    if not shown:
        return ""
    lines = [["", *(column.title for column in shown)]]
    for name in names(summary):
        cells = ["".join(letter if letter.isprintable() else "?" for letter in name)]
        for column in shown:
            bounds = interval(summary, column, name)
            within = f" [{', '.join(map(percent, bounds))}]" if bounds else ""
            cells.append(percent(figures(summary, column.key).get(name)) + within)
        lines.append(cells)
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in lines)
