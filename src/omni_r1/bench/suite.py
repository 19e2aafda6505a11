"""A suite is data, grader and judge. Here: any parquet in Omni-Bench's schema, and the miniature's own."""

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Picture

from omni_r1 import shipped
from omni_r1.bench.statistics import OVERALL
from omni_r1.errors import InputError
from omni_r1.generate.questions import Question
from omni_r1.options import SHIPPED

REQUIRED = ("question", "image", "answer")


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

    Optional: `id`, `task`, and `steps`, the gold step pictures. A row that cannot be used becomes a Question with
    `error`. Raises InputError where the file or a column is missing.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot be read: {' '.join(str(error).split())}", file=path) from error
    for column in REQUIRED:
        if column not in table.column_names:
            raise InputError("column is missing", file=path, field=column)
    questions = []
    for number, row in enumerate(table.to_pylist(), 1):
        where: dict[str, Any] = {"file": path, "row": number}
        name = str(row.get("id") or f"row {number}")
        try:
            if not isinstance(row["question"], str) or not row["question"].strip():
                raise InputError("must be a text", field="question", **where)
            if row["answer"] is None:
                raise InputError("is missing", field="answer", **where)
            if row.get("task") == OVERALL:
                raise InputError(f"{OVERALL!r} is the name of the whole", field="task", **where)
            cells = row["image"] if isinstance(row["image"], list) else [row["image"]]
            images = [picture_bytes(cell, field="image", **where) for cell in cells]
            steps = [picture_bytes(cell, field="steps", **where) for cell in row.get("steps") or []]
            gold = str(row["answer"])
            text, task = row["question"], row.get("task")
            questions.append(Question(name, text, images, task, gold, steps, row=number, where=where))
        except InputError as error:
            known = None if row["answer"] is None else str(row["answer"])
            questions.append(Question(name, task=row.get("task"), gold=known, error=error, row=number, where=where))
    if not questions:
        raise InputError("no rows", file=path)
    return questions


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
