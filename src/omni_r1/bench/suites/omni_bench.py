"""Omni-Bench: one parquet of `question`, `image` and `answer`, whose sources and Uni-Tasks are told by a rule of ours.

Optional columns: `id`, `task` (the Uni-Task), a column that names the source (`sources.source_of`), `options`, and
`steps`, the gold step pictures. docs/omni-bench.md says what becomes of each quirk of the published file.
"""

from dataclasses import replace

from omni_r1.bench.suites.files import Files
from omni_r1.bench.suites.rows import Row, read, with_marks
from omni_r1.bench.suites.sources import COLUMNS, IDS, SOURCES, source_of
from omni_r1.bench.suites.suite import Item
from omni_r1.errors import InputError
from omni_r1.perpo.grading.canonical import canonical
from omni_r1.perpo.grading.choices import choice

HUB, SPLIT = "ModalityDance/Omni-Bench", None
REQUIRED = ("question", "image", "answer")
OPTIONAL = ("id", "task", "steps", "options")


def questions(files: Files, source_column: str | None = None) -> list[Item]:
    """Raises InputError as `read`, and where no file has the column `source_column`."""
    wanted = {*REQUIRED, *OPTIONAL, *COLUMNS, *IDS} | ({source_column} if source_column else set())
    required = (*REQUIRED, *([source_column] if source_column else []))

    return read(files, lambda row: item_of(row, source_column), required, sorted(wanted))


def item_of(row: Row, source_column: str | None = None) -> Item:
    """A row as a question. Raises InputError naming the field at fault."""
    gold = row.gold("answer") if row.data.get("answer") is not None else None
    task, text = row.text("task"), row.text("question", required=True) or ""
    if gold is None:
        raise InputError("is missing", field="answer")
    pictures = row.pictures("image")
    steps = row.pictures("steps") if row.data.get("steps") is not None else []
    source = source_of(row.data, source_column)
    origin = SOURCES.get(source or "")
    item = Item("", with_marks(text, pictures), pictures, task, gold, steps, source=source)
    if origin is None:
        return replace(item, options=row.texts("options"))
    return replace(item, task=task or origin.task, profile=profile_of(source, gold), options=row.texts("options"))


def profile_of(source: str | None, gold: str) -> str:
    """Its source's, but for what a source has of another kind: a letter among numbers, a number among sequences."""
    if source in ("geometry3k", "mathvista") and choice(canonical(gold)) is not None:
        return "choice"
    if source == "vicbench" and len(canonical(gold).split()) == 1 and "," not in gold:
        return "number"
    return SOURCES[source or ""].profile
