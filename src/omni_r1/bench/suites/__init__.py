"""Suites by name: `load_suite` reads one; each has a file of its own here."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omni_r1.bench.suites import (
    arxivqa,
    chartqa,
    geometry3k,
    mathvista,
    miniature,
    omni_bench,
    vic_bench,
    vstar,
)
from omni_r1.bench.suites.files import Files, find, of_split
from omni_r1.bench.suites.sources import SOURCES, known_source, source_of
from omni_r1.bench.suites.suite import Item, Suite, swap_pictures
from omni_r1.errors import InputError, warn
from omni_r1.options import SHIPPED

__all__ = ["OMNI_BENCH", "SUITES", "Files", "Item", "Suite", "load_suite", "placed", "swap_pictures"]

Reader = Callable[[Files], list[Item]]
OMNI_BENCH = "omni-bench"
# Name -> its reader, its data set of the hub, the split that is asked, and the pictures beside its rows.
SUITES: dict[str, tuple[Reader, str, str | None, tuple[str, ...]]] = {
    OMNI_BENCH: (omni_bench.questions, omni_bench.HUB, omni_bench.SPLIT, ()),
    "vstar": (vstar.questions, vstar.HUB, vstar.SPLIT, vstar.PICTURES),
    "arxivqa": (arxivqa.questions, arxivqa.HUB, arxivqa.SPLIT, arxivqa.PICTURES),
    "chartqa": (chartqa.questions, chartqa.HUB, chartqa.SPLIT, ()),
    "geometry3k": (geometry3k.questions, geometry3k.HUB, geometry3k.SPLIT, ()),
    "mathvista": (mathvista.questions, mathvista.HUB, mathvista.SPLIT, ()),
    "vic-bench": (vic_bench.questions, vic_bench.HUB, vic_bench.SPLIT, vic_bench.PICTURES),
}
HIDDEN = {"mathvista": "test"}  # splits whose answers are not published


def mathvista_task(row: dict[str, Any], path: Path) -> Any:
    about = row.get("metadata")
    return about.get("task") if isinstance(about, dict) else None


# Suite -> the task of a row and its file, for the rows that cannot be read.
TASKS: dict[str, Callable[[dict[str, Any], Path], Any]] = {
    "vstar": vstar.task_of,
    "chartqa": chartqa.task_of,
    "mathvista": mathvista_task,
    "vic-bench": vic_bench.task_of,
}


def load_suite(
    data: str | None = None,
    name: str | None = None,
    revision: str | None = None,
    split: str | None = None,
    source_column: str | None = None,
) -> Suite:
    """The suite `name` from its `data`: a path, a hub id, or None for its own of the hub; both None: the miniature.

    Raises InputError naming the option or the file at fault.
    """
    if SHIPPED in (name, data) or (name, data) == (None, None):
        if name not in (None, SHIPPED) or data not in (None, SHIPPED):
            raise InputError(f"{SHIPPED} is a suite with its own data", field="suite")
        given = {"revision": revision, "split": split, "source_column": source_column}
        if idle := [field for field, value in given.items() if value is not None]:
            raise InputError(f"has no effect on {SHIPPED}", field=idle[0])
        return Suite(SHIPPED, miniature.questions(), miniature.judge, miniature.FILES.origin)
    name = name or OMNI_BENCH
    reader, hub, usual, pictures = SUITES[name]
    hidden = HIDDEN.get(name)
    if hidden and split == hidden:
        raise InputError(f"the answers of {split!r} are not published", field="split")
    files = find(data or hub, revision, split or usual, pictures)
    if hidden and any(of_split(path.relative_to(files.folder), hidden) for path in files.paths):
        raise InputError(f"is the split {hidden!r}, whose answers are not published", file=data, field="data")
    if name == OMNI_BENCH:
        items = omni_bench.questions(files, source_column)
    elif source_column is not None:
        raise InputError(f"is read for {OMNI_BENCH}; {name} is a source itself", field="source_column")
    else:
        items = reader(files)
    items = [placed(item, name, source_column) for item in items]
    if name == OMNI_BENCH:
        warn_of_untold(items)
    return Suite(name, items, origin=files.origin)


def warn_of_untold(items: Sequence[Item]) -> None:
    """Tell how many rows are graded by rules that were chosen for none of them, and count in no task."""
    untold = [item for item in items if item.source is None]
    if not untold:
        return
    alone = sum(item.task is None for item in untold)
    where = ", in no task" if alone == len(untold) else f", {alone} of them in no task" if alone else ""
    otherwise = "--source-column and --profile tell otherwise"
    warn(f"{len(untold)} of {len(items)} rows tell no source: graded strict{where}; {otherwise}")


def placed(item: Item, suite: str, source_column: str | None = None) -> Item:
    """A row that could not be read, with the task, source and profile it would have had: there it counts as wrong."""
    if item.error is None:
        return item
    source = source_of(item.columns, source_column) if suite == OMNI_BENCH else known_source(suite)
    if source is None:
        return item
    task: str | None
    task, profile = SOURCES[source]
    if suite != OMNI_BENCH:
        found = TASKS[suite](item.columns, item.where["file"]) if suite in TASKS else None
        task = found if isinstance(found, str) else None
        profile = vic_bench.profile_of(task) if suite == "vic-bench" else profile
    elif item.gold is not None:
        profile = omni_bench.profile_of(source, item.gold)
    return replace(item, task=item.task or task, source=source, profile=profile)
