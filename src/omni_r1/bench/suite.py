"""A suite is data, grader and judge. Here: any parquet in Omni-Bench's schema, and the miniature's own."""

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image as Picture

from omni_r1 import shipped
from omni_r1.bench.statistics import OVERALL
from omni_r1.errors import InputError
from omni_r1.generate.questions import LONGEST_PROMPT, MOST_IMAGES, Question, enter, id_of, short
from omni_r1.options import SHIPPED

REQUIRED = ("question", "image", "answer")
OPTIONAL = ("id", "task", "steps")
MAX_ROWS = 100_000
ROOM = 256 * 1024 * 1024  # bytes that any parquet may unpack to,
EXPANSION = 4  # or so many times its own size: pictures do not compress, what does is a bomb


@dataclass
class Suite:
    """Questions, and where drawings can be judged, the judge: (drawn, gold) pictures to a verdict and its reason."""

    name: str
    questions: list[Question]
    judge: Callable[[Picture.Image, Picture.Image], tuple[bool, str]] | None = None

    def chance(self) -> dict[str, float]:
        """Accuracy per task of the best constant answer."""
        golds: dict[str, Counter[str | None]] = {}
        for question in self.questions:
            if question.task:
                golds.setdefault(question.task, Counter())[question.gold] += 1
        return {
            task: max((count for gold, count in counts.items() if gold is not None), default=0) / counts.total()
            for task, counts in golds.items()
        }


def picture_bytes(cell: Any, **where: Any) -> bytes:
    """The file in a parquet cell: base64 text. Raises InputError at the place given."""
    try:
        return base64.b64decode(cell, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise InputError(f"is no base64: {error}", **where) from error


def read_parquet(path: Path) -> list[Question]:
    """Questions of a parquet in Omni-Bench's schema: `question`, `image` (base64, or a list of them), `answer`.

    Optional: `id`, `task`, and `steps`, the gold step pictures; where an id is not a row's alone, its number is. A row
    that cannot be used becomes a Question with `error`. Raises InputError where the file cannot be read, is too large
    or lacks a column.
    """
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(_rows(path), 1):
        where: dict[str, Any] = {"file": path, "row": number}
        name, gold, task = f"row {number}", None, None
        try:
            name = id_of(row if row.get("id") else {}, number)
            told = None if row["answer"] is None else str(row["answer"])
            if told is not None and len(told) > LONGEST_PROMPT:
                raise InputError(f"has more than {LONGEST_PROMPT:,} characters", field="answer")
            gold = told
            task = _text(row, "task")
            question = _text(row, "question")
            if question is None or not question.strip():
                raise InputError("must be a text", field="question")
            if len(question) > LONGEST_PROMPT:
                raise InputError(f"has more than {LONGEST_PROMPT:,} characters", field="question")
            if gold is None:
                raise InputError("is missing", field="answer")
            if task == OVERALL:
                raise InputError(f"{OVERALL!r} is the name of the whole", field="task")
            images = _pictures(row, "image")
            steps = _pictures(row, "steps")
            name, _ = enter(name, number, seen)
            questions.append(Question(name, question, images, task, gold, steps, row=number, where=where))
        except InputError as error:
            name, _ = enter(name, number, seen)
            located = InputError(error.message, field=error.field, **where)
            questions.append(Question(name, task=task, gold=gold, error=located, row=number, where=where))
    if not questions:
        raise InputError("no rows", file=path)
    return questions


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows, one at a time: a value of a hundred megabytes may stand in every row for a few bytes of the file."""
    most = max(ROOM, EXPANSION * path.stat().st_size) if path.is_file() else ROOM
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in REQUIRED:
                if column not in names:
                    raise InputError("column is missing", file=path, field=column)
            for column in (*REQUIRED, *OPTIONAL):
                if names.count(column) > 1:
                    raise InputError("is the name of two columns", file=path, field=column)
            groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
            if file.metadata.num_rows > MAX_ROWS:
                raise InputError(f"has {file.metadata.num_rows:,} rows, more than {MAX_ROWS:,}", file=path)
            if sum(group.total_byte_size for group in groups) > most:
                raise InputError(f"unpacks to more than {most:,} bytes", file=path)
            columns = [name for name in (*REQUIRED, *OPTIONAL) if name in names]
            unpacked = 0
            for batch in file.iter_batches(batch_size=1, columns=columns, use_threads=False):
                unpacked += batch.nbytes
                if unpacked > most:
                    raise InputError(f"unpacks to more than {most:,} bytes", file=path)
                yield from batch.to_pylist()
    except InputError:
        raise
    except Exception as error:  # Arrow raises its own errors, OSError, and whatever a damaged value makes of itself
        raise InputError(f"cannot be read: {short(' '.join(str(error).split()))}", file=path) from error


def _text(row: dict[str, Any], field: str) -> str | None:
    if row.get(field) is not None and not isinstance(row[field], str):
        raise InputError("must be a text", field=field)
    return row.get(field)


def _pictures(row: dict[str, Any], field: str) -> list[bytes]:
    """The files in a cell: a base64 text, a list of them, or nothing."""
    given = row.get(field)
    cells = given if isinstance(given, list) else [given]
    if len(cells) > MOST_IMAGES:
        raise InputError(f"has {len(cells)} pictures, more than {MOST_IMAGES}", field=field)
    return [picture_bytes(cell, field=field) for cell in cells if field != "steps" or given is not None]


def judge_miniature(drawn: Picture.Image, gold: Picture.Image) -> tuple[bool, str]:
    from omni_r1.data.miniature.world import judge

    verdict = judge(np.asarray(drawn.resize(gold.size)), np.asarray(gold))  # a model of another size draws larger
    return verdict.correct, verdict.reason


def load_suite(data: str) -> Suite:
    """A suite by name or by the path of its parquet."""
    if data == SHIPPED:
        return Suite(SHIPPED, read_parquet(shipped.BENCH), judge_miniature)
    return Suite(Path(data).stem, read_parquet(Path(data)))


def swap_pictures(questions: Sequence[Question]) -> list[Question]:
    """Each question with the picture of the next question of its task; its answer stays. A control, not a benchmark.

    Questions that could not be read stay as they are. Raises InputError for a task with a single question.
    """
    by_task: dict[str | None, list[Question]] = {}
    for question in questions:
        if question.error is None:
            by_task.setdefault(question.task, []).append(question)
    swapped: dict[int, Question] = {}
    for task, group in by_task.items():
        if len(group) < 2:
            raise InputError(f"task {task!r} has one question alone", field="swap_pictures")
        for question, donor in zip(group, [*group[1:], group[0]], strict=True):
            swapped[id(question)] = replace(question, images=donor.images)
    return [swapped.get(id(question), question) for question in questions]
