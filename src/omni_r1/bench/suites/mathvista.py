"""MathVista: mathematics in pictures of many kinds; each row says of what type its answer is, and how precise."""

import re

from omni_r1.bench.suites.files import Files
from omni_r1.bench.suites.rows import Row, bare, lettered, read
from omni_r1.bench.suites.suite import Item
from omni_r1.errors import InputError
from omni_r1.perpo.grading.choices import LETTERS

HUB, SPLIT = "AI4Math/MathVista", "testmini"
KINDS = ("text", "integer", "float", "list")
MOST_DIGITS = 15  # a float has no more


def questions(files: Files) -> list[Item]:
    """`pid`, `question`, `decoded_image` (or `image`, a path), `choices`, `unit`, `precision`, `answer`,
    `question_type`, `answer_type`, `metadata`. A choice is published by its text; its gold here is the letter.

    What is asked is `query`, where a row has it: a hint such as how many decimals are wanted, and question, unit and
    choices again. Else these three.
    """

    def convert(row: Row) -> Item:
        row.text("answer_type", required=True)
        if row.data.get("answer") == "":
            raise InputError("is hidden in this split", field="answer")
        gold = row.gold("answer")
        kind, precision = typed(row, gold)
        text, options = row.text("question", required=True) or "", row.texts("choices")
        if row.text("question_type") == "multi_choice":
            if options is None:
                raise InputError("is missing", field="choices")
            if gold not in options:
                raise InputError(f"{gold[:40]!r} is none of the choices", field="answer")
            text, gold, options = lettered(text, options, "choices"), LETTERS[options.index(gold)], bare(options)
        else:
            options = None
            unit = row.text("unit")
            text += f" (Unit: {unit})" if unit else ""
        query, asked = row.text("query"), "question"
        if query and query.strip():
            text, asked = query, "query"
        pictures = row.pictures(field := row.first("decoded_image", "image"))
        about = row.data.get("metadata")
        task = about.get("task") if isinstance(about, dict) and isinstance(about.get("task"), str) else None
        return Item(
            row.text("pid") or "", text, pictures, task, gold,
            source="mathvista", profile="mathvista", options=options, kind=kind, precision=precision,
            text_field=asked, images_field=field,
        )  # fmt: skip

    return read(files, convert)


def typed(row: Row, gold: str) -> tuple[str | None, int | None]:
    """Kind and precision of the answer by `answer_type` and `precision`, and where a row lacks them, by its gold.

    The kind of a text is None there. Raises InputError for a kind that is none, or no precision.
    """
    kind, told = row.text("answer_type"), row.data.get("precision")
    if kind is not None and kind not in KINDS:
        raise InputError(f"must be one of {', '.join(KINDS)}", field="answer_type")
    decimals = re.fullmatch(r"-?\d*\.(\d+)", gold.strip())
    if kind is None:
        shapes = {"float": decimals, "integer": re.fullmatch(r"-?\d+", gold.strip()), "list": gold.startswith("[")}
        kind = next((kind for kind, found in shapes.items() if found), None)
    if told is None or told != told:  # not a number is how some writers leave a cell empty
        return kind, min(len(decimals[1]), MOST_DIGITS) if decimals else None
    if not isinstance(told, int | float) or not 0 <= told <= MOST_DIGITS:
        raise InputError(f"must be a number from 0 to {MOST_DIGITS}", field="precision")
    return kind, int(told)
