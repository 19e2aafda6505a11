"""M3CoT: a picture, a question with choices, a rationale in text alone, and the letter of the right choice."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omni_r1.data.sample import Place, RowError, Sample, answer_of, options_of, picture_of, text_of
from omni_r1.trajectory import Text

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
META = ("category", "domain", "topic", "split")


def read_row(row: Mapping[str, Any], name: str, place: Place, root: Path | None) -> Sample:
    """A row as a Sample: the picture, then context, question and choices. Raises RowError.

    The rationale is as it stands: one in ten does not lead to the gold letter (`zero.split` has the rule).
    """
    question = text_of(row, "question", empty="no-question")
    context = text_of(row, "context").strip()
    choices = options_of(row, "choices")
    if not 2 <= len(choices) <= len(LETTERS):
        raise RowError("malformed", f"{len(choices)} choices", "choices")
    answer = answer_of(row, "answer")
    if answer not in LETTERS[: len(choices)] or len(answer) != 1:
        raise RowError("no-such-choice", f"{answer[:40]!r} is none of {len(choices)} choices", "answer")
    picture = picture_of(row.get("image"), "image", root)
    listed = [f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    text = "\n".join([*([context] if context else []), question, *listed])
    rationale = text_of(row, "rationale")
    meta = {key: value for key in META if isinstance(value := row.get(key), str)}
    reasoning = (Text(rationale),) if rationale.strip() else ()
    return Sample(name, place, (picture, Text(text)), reasoning, answer, meta, choices)
