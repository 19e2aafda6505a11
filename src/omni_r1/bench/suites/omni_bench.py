"""Omni-Bench: one parquet of `question`, `image` and `answer`, whose sources and Uni-Tasks are told by a rule of ours.

Optional columns: `id`, `task` (the Uni-Task), a column that names the source (`sources.source_of`), `options`, those
of MathVista, and `steps`, the gold step pictures. docs/omni-bench.md says what becomes of each quirk of the published
file.
"""

from collections.abc import Sequence
from dataclasses import replace

from omni_r1.bench.sequences import steps_of
from omni_r1.bench.suites.files import Files
from omni_r1.bench.suites.mathvista import typed
from omni_r1.bench.suites.rows import Row, read, with_marks
from omni_r1.bench.suites.sources import COLUMNS, IDS, SOURCES, source_of
from omni_r1.bench.suites.suite import Item
from omni_r1.bench.suites.written_options import options_in
from omni_r1.perpo.grading.canonical import canonical
from omni_r1.perpo.grading.choices import choice, labelled

HUB, SPLIT = "ModalityDance/Omni-Bench", None
REQUIRED = ("question", "image", "answer")
OPTIONAL = ("id", "task", "steps", "options", "choices", "answer_type", "precision")  # the last three: MathVista's


def questions(files: Files, source_column: str | None = None) -> list[Item]:
    """Raises InputError as `read`, and where no file has the column `source_column`."""
    wanted = {*REQUIRED, *OPTIONAL, *COLUMNS, *IDS} | ({source_column} if source_column else set())
    required = (*REQUIRED, *([source_column] if source_column else []))

    return read(files, lambda row: item_of(row, source_column), required, sorted(wanted))


def item_of(row: Row, source_column: str | None = None) -> Item:
    """A row as a question. Raises InputError naming the field at fault."""
    task, text = row.text("task"), row.text("question", required=True) or ""
    gold = row.gold("answer")
    options: Sequence[str] | None = row.texts("options")
    pictures = row.pictures("image")
    steps = [] if row.data.get("steps") in (None, []) else row.pictures("steps")
    source = source_of(row.data, source_column)
    origin = SOURCES.get(source or "")
    item = Item("", with_marks(text, pictures), pictures, task, gold, steps, source=source, options=options)
    if origin is None:
        return replace(item, options=options or listed(text, gold))
    profile = profile_of(source, gold)
    if profile in ("choice", "mathvista"):
        options = options or row.texts("choices") or options_in(text)
    kind, precision = typed(row, gold) if source == "mathvista" else (None, None)
    task = task or origin.task
    return replace(item, task=task, profile=profile, options=options, kind=kind, precision=precision)


def listed(text: str, gold: str) -> Sequence[str] | None:
    """The choices in a question of which nothing tells that it is one: those that gold is one of."""
    options = options_in(text)
    return options if options and labelled(options, canonical(gold)) else None


def profile_of(source: str | None, gold: str) -> str:
    """Its source's, but for what a source has of another kind: a letter among numbers, a number among sequences."""
    if source in ("geometry3k", "mathvista") and choice(canonical(gold)) is not None:
        return "choice"
    if source == "vicbench" and len(steps_of(gold)) == 1:
        return "number"
    return SOURCES[source or ""].profile
