"""V*: find a small thing in a large photograph; a question with lettered choices in its text, and the right letter."""

from pathlib import Path
from typing import Any

from omni_r1.bench.suites.files import Files
from omni_r1.bench.suites.rows import Row, letter_of, read
from omni_r1.bench.suites.suite import Item
from omni_r1.bench.suites.written_options import options_in

HUB, SPLIT = "craigwu/vstar_bench", "test"
PICTURES = ("direct_attributes/*", "relative_position/*")


def task_of(row: dict[str, Any], path: Path) -> Any:
    return row.get("category")


def questions(files: Files) -> list[Item]:
    """Columns `image` (a path, or the picture), `text`, `category`, `label`, `question_id`."""

    def convert(row: Row) -> Item:
        text = row.text("text", required=True) or ""
        options = options_in(text)
        number, kind = row.data.get("question_id"), row.text("category")
        name = f"{kind}-{number}" if kind and number is not None else ""
        gold = letter_of(row, "label", options)
        pictures = row.pictures("image")
        return Item(
            name, text, pictures, kind, gold, source="vstar", profile="choice", options=options, text_field="text"
        )

    return read(files, convert)
