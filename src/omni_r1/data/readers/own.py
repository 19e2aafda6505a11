"""This project's own rows: what `generate` reads (`prompt`, `images`), and what it is to answer.

`rationale` has an `<image>` mark for each of `rationale_images`; `answer` is text; `options` are the choices, if any.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omni_r1.data.sample import (
    MOST_IMAGES,
    Part,
    Place,
    RowError,
    Sample,
    answer_of,
    options_of,
    picture_of,
    text_of,
    with_marks,
)
from omni_r1.trajectory import IMAGE_MARK, Text


def read_row(row: Mapping[str, Any], name: str, place: Place, root: Path | None) -> Sample:
    """A row as a Sample; paths are below `root`. Raises RowError."""
    prompt = text_of(row, "prompt", empty="no-question")
    rationale = text_of(row, "rationale")
    answer = answer_of(row, "answer")
    if IMAGE_MARK in answer:
        raise RowError("image-in-answer", "an answer is text alone", "answer")
    for key in ("image", "rationale_image"):
        if key in row and f"{key}s" not in row:
            raise RowError("malformed", f"is not read: pictures are listed in `{key}s`", key)
    asked, drawn = (_pictures(row, key, root) for key in ("images", "rationale_images"))
    if len(asked) + len(drawn) > MOST_IMAGES:
        raise RowError("malformed", f"has {len(asked) + len(drawn)} pictures, more than {MOST_IMAGES}", "images")
    marked = IMAGE_MARK in prompt
    question = with_marks(prompt, asked, "prompt") if marked else [*asked, Text(prompt)]
    steps = with_marks(rationale, drawn, "rationale") if rationale.strip() or drawn else []
    return Sample(name, place, tuple(question), tuple(steps), answer, options=options_of(row, "options"))


def _pictures(row: Mapping[str, Any], key: str, root: Path | None) -> list[Part]:
    listed = row.get(key)
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise RowError("malformed", "must be a list of paths", key)
    if len(listed) > MOST_IMAGES:
        raise RowError("malformed", f"has {len(listed)} pictures, more than {MOST_IMAGES}", key)
    return [picture_of(cell, key, root) for cell in listed]
