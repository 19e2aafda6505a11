"""Zebra-CoT and its domain data sets: columns of pictures, and placeholders in the text that name them.

`Question`, `Text Reasoning Trace`, `Final Answer`; `problem_image_1..k` and `reasoning_image_1..n`, with another k and
n in each config and null where a row has fewer. A text says `<image_start>[reasoning_image_2]<image_end>` where the
picture goes.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omni_r1.data.sample import MOST_IMAGES, Part, Place, RowError, Sample, answer_of, is_empty, picture_of, text_of
from omni_r1.trajectory import Text

QUESTION, TRACE, ANSWER = "Question", "Text Reasoning Trace", "Final Answer"
OPENS, CLOSES = "<image_start>", "<image_end>"
PLACEHOLDER = re.compile(r"<image_start>\[([^\]]+)\]<image_end>")
COLUMN = re.compile(r"(problem_image|reasoning_image)_(\d+)")

ToPart = Callable[[Any, str], Part]  # a cell that is not empty, and its column


def read_row(row: Mapping[str, Any], name: str, place: Place, root: Path | None) -> Sample:
    """A row as a Sample; `root` is the folder that paths of pictures are below. Raises RowError."""
    return sample(row, name, place, lambda cell, key: picture_of(cell, key, root))


def sample(row: Mapping[str, Any], name: str, place: Place, to_part: ToPart) -> Sample:
    """A row of this schema, its cells made pictures by `to_part`.

    Problem pictures that the question does not name go in front of it, in order. Raises RowError: a placeholder whose
    cell is empty, one that names no column, a reasoning picture that nothing names.
    """
    question = text_of(row, QUESTION, empty="no-question")
    trace = text_of(row, TRACE)
    answer = answer_of(row, ANSWER)
    if OPENS in answer or CLOSES in answer:
        raise RowError("image-in-answer", "an answer is text alone", ANSWER)
    cells = {key: cell for key, cell in row.items() if COLUMN.fullmatch(key) and not is_empty(cell)}
    problem, reasoning = (_numbered(cells, prefix) for prefix in ("problem_image", "reasoning_image"))
    asked, shown = PLACEHOLDER.findall(question), PLACEHOLDER.findall(trace)
    count = len({*asked, *shown, *problem, *reasoning})
    if count > MOST_IMAGES:
        raise RowError("malformed", f"has {count} pictures, more than {MOST_IMAGES}")
    for text, field in ((question, QUESTION), (trace, TRACE)):
        rest = PLACEHOLDER.sub("", text)
        if OPENS in rest or CLOSES in rest:
            raise RowError("malformed-placeholder", f"has {OPENS} or {CLOSES} that is no placeholder", field)
    unseen = [key for key in reasoning if key not in asked and key not in shown]
    if unseen:
        raise RowError("unreferenced-image", "is a picture that no placeholder names", unseen[0])
    parts: dict[str, Part] = {}

    def part(key: str, where: str) -> Part:
        if key not in parts:
            if key not in row or key in (QUESTION, TRACE, ANSWER):
                if COLUMN.fullmatch(key):  # a config has the columns that its longest row needs
                    raise RowError("missing-image", f"[{key}] is no column", where)
                raise RowError("unknown-placeholder", f"[{key}] names no picture", where)
            if is_empty(row[key]):
                raise RowError("missing-image", f"[{key}] has no picture", where)
            parts[key] = to_part(row[key], key)
        return parts[key]

    front = [part(key, QUESTION) for key in problem if key not in asked]
    return Sample(
        name,
        place,
        (*front, *_parts(question, QUESTION, part)),
        _parts(trace, TRACE, part) if trace.strip() else (),
        answer,
    )


def _numbered(cells: Mapping[str, Any], prefix: str) -> list[str]:
    """The columns of a kind by their number, of which `_10` is after `_9`."""
    found = [(int(match[2]), key) for key in cells if (match := COLUMN.fullmatch(key)) and match[1] == prefix]
    return [key for _, key in sorted(found)]


def _parts(text: str, field: str, part: Callable[[str, str], Part]) -> tuple[Part, ...]:
    pieces = PLACEHOLDER.split(text)  # text and names by turns
    return tuple(part(piece, field) if place % 2 else Text(piece) for place, piece in enumerate(pieces))
