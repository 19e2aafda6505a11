"""ViC-Bench: mazes, jigsaws, plans and counting; the answer is a sequence of steps, or a number.

Its files are JSON lists; the names of their fields are not documented where they are published, so each may be any of
the usual ones, and a row that has none of them is refused by name.
"""

import json
from pathlib import Path
from typing import Any

from omni_r1.bench.suites.files import Files
from omni_r1.bench.suites.rows import Row, read, with_marks
from omni_r1.bench.suites.suite import Item

HUB, SPLIT = "meituan/ViC-Bench", "stage1"
PICTURES = ("images/*", "*.png", "*.jpg")
QUESTION = ("question", "query", "prompt", "instruction")
ANSWER = ("answer", "gt_answer", "ground_truth", "label", "gt")
IMAGE = ("images", "image", "image_path", "img_path", "img")
NAMES = ("counting", "maze", "puzzle", "embodied")


def task_of(row: dict[str, Any], path: Path) -> str | None:
    return next((name for name in NAMES if name in path.stem), None)


def profile_of(task: str | None) -> str:
    return "number" if task == "counting" else "sequence"


def questions(files: Files) -> list[Item]:
    """One of each of `QUESTION`, `ANSWER` and `IMAGE`; the task is the one of `NAMES` that the file's own name has."""

    def convert(row: Row) -> Item:
        task = task_of(row.data, row.path)
        field = row.first(*ANSWER)
        told = row.data[field]
        if isinstance(told, list):
            row.data[field] = ", ".join(told) if all(isinstance(one, str) for one in told) else json.dumps(told)
        gold = row.gold(field)
        pictures = row.pictures(image := row.first(*IMAGE))
        text = with_marks(row.text(asked := row.first(*QUESTION), required=True) or "", pictures)
        profile = profile_of(task)
        return Item(
            "", text, pictures, task, gold, source="vicbench", profile=profile, text_field=asked, images_field=image
        )

    return read(files, convert)
