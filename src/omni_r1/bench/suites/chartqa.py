"""ChartQA: charts, with questions by people and by a model; an answer is a number or a few words."""

from pathlib import Path, PurePosixPath
from typing import Any

from omni_r1.bench.suites.files import Files
from omni_r1.bench.suites.rows import Row, read
from omni_r1.bench.suites.suite import Item
from omni_r1.errors import InputError

HUB, SPLIT = "HuggingFaceM4/ChartQA", "test"
KINDS = {0: "human", 1: "augmented", "human_test": "human", "augmented_test": "augmented"}


def task_of(row: dict[str, Any], path: Path) -> Any:
    kind = row.get("human_or_machine", row.get("type"))
    return KINDS.get(kind, kind) if isinstance(kind, int | str) else None


def questions(files: Files) -> list[Item]:
    """`query` or `question`, `label` or `answer` (one, or a list of one), `image` or `imgname` (below `png/`)."""

    def convert(row: Row) -> Item:
        question = row.text(asked := row.first("query", "question"), required=True) or ""
        field = row.first("label", "answer")
        told = row.data[field]
        if isinstance(told, list):
            if len(told) != 1:
                raise InputError(f"has {len(told)} answers, not one", field=field)
            row.data[field] = told[0]
        gold = row.gold(field)
        image = "image" if row.data.get("image") is not None or row.text("imgname") is None else "imgname"
        if image == "imgname" and "/" not in row.data[image]:
            row.data[image] = str(PurePosixPath("png") / row.data[image])
        kind = task_of(row.data, row.path)
        task = kind if isinstance(kind, str) else None
        pictures = row.pictures(image)
        return Item(
            "",
            question,
            pictures,
            task,
            gold,
            source="chartqa",
            profile="relaxed",
            text_field=asked,
            images_field=image,
        )

    return read(files, convert)
