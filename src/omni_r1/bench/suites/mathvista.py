"""MathVista: mathematics in pictures of many kinds; each row says of what type its answer is, and how precise."""

from omni_r1.bench.suites.files import Files
from omni_r1.bench.suites.rows import Row, bare, lettered, read
from omni_r1.bench.suites.suite import Item
from omni_r1.errors import InputError

HUB, SPLIT = "AI4Math/MathVista", "testmini"
KINDS = ("text", "integer", "float", "list")


def questions(files: Files) -> list[Item]:
    """`pid`, `question`, `decoded_image` (or `image`, a path), `choices`, `unit`, `precision`, `answer`,
    `question_type`, `answer_type`, `metadata`. The gold of a choice is the option's text, as published."""

    def convert(row: Row) -> Item:
        kind = row.text("answer_type", required=True)
        if kind not in KINDS:
            raise InputError(f"must be one of {', '.join(KINDS)}", field="answer_type")
        gold = row.gold("answer")  # the hidden answers of the split `test` are empty
        if not gold.strip():
            raise InputError("is hidden in this split", field="answer")
        text, options = row.text("question", required=True) or "", row.texts("choices")
        if row.text("question_type") == "multi_choice":
            if options is None:
                raise InputError("is missing", field="choices")
            if gold not in options:
                raise InputError(f"{gold[:40]!r} is none of the choices", field="answer")
            text, options = lettered(text, options), bare(options)
        else:
            options = None
            unit = row.text("unit")
            text += f" (Unit: {unit})" if unit else ""
        precision = row.data.get("precision")
        if precision is not None and not isinstance(precision, int | float):
            raise InputError("must be a number", field="precision")
        pictures = row.pictures(row.first("decoded_image", "image"))
        about = row.data.get("metadata")
        task = about.get("task") if isinstance(about, dict) and isinstance(about.get("task"), str) else None
        digits = None if precision is None else int(precision)
        return Item(
            row.text("pid") or "", text, pictures, task, gold,
            source="mathvista", profile="mathvista", options=options, kind=kind, precision=digits,
        )  # fmt: skip

    return read(files, convert)
