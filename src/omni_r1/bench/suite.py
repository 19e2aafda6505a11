"""A suite is data, grader and judge. Here: any parquet in Omni-Bench's schema, and the miniature's own."""

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Picture

from omni_r1 import shipped
from omni_r1.errors import InputError
from omni_r1.files import open_image
from omni_r1.generate.runner import Question
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
        return {task: max(counts.values()) / counts.total() for task, counts in golds.items()}


def decode_picture(cell: Any, **where: Any) -> Picture.Image:
    """A picture from a parquet cell: base64 text. Raises InputError at the place given."""
    try:
        return open_image(base64.b64decode(cell, validate=True))
    except (binascii.Error, TypeError, ValueError) as error:
        raise InputError(f"is no base64: {error}", **where) from error
    except InputError as error:
        raise InputError(error.message, **where) from error


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
            cells = row["image"] if isinstance(row["image"], list) else [row["image"]]
            images = [decode_picture(cell, field="image", **where) for cell in cells]
            steps = [decode_picture(cell, field="steps", **where) for cell in row.get("steps") or []]
            questions.append(Question(name, row["question"], images, row.get("task"), str(row["answer"]), steps))
        except InputError as error:
            questions.append(Question(name, task=row.get("task"), gold=str(row["answer"]), error=error))
    return questions


def judge_miniature(drawn: Picture.Image, gold: Picture.Image) -> tuple[bool, str]:
    from omni_r1.data.miniature.world import judge

    verdict = judge(np.asarray(drawn), np.asarray(gold))
    return verdict.correct, verdict.reason


def load_suite(data: str) -> Suite:
    """A suite by name or by the path of its parquet."""
    if data == SHIPPED:
        return Suite(SHIPPED, read_parquet(shipped.BENCH), judge_miniature)
    return Suite(Path(data).stem, read_parquet(Path(data)))


def swap_pictures(questions: Sequence[Question]) -> list[Question]:
    """Each question with the picture of the next question of its task; its answer stays. A control, not a benchmark."""
    by_task: dict[str | None, list[Question]] = {}
    for question in questions:
        by_task.setdefault(question.task, []).append(question)
    donor = {
        id(question): group[(place + 1) % len(group)]
        for group in by_task.values()
        for place, question in enumerate(group)
    }
    return [Question(q.id, q.text, donor[id(q)].images, q.task, q.gold, q.gold_images, q.error) for q in questions]
