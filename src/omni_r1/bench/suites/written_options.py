"""Choices that are written into a question: consecutive letters from A, each at the begin of a line."""

import re
from collections.abc import Sequence

from omni_r1.perpo.grading.choices import LETTERS

_LINE = re.compile(r"^\s*(?:choices:?\s*)?[(\[]?([A-J])[)\].:]\s*(\S.*?)\s*$", re.MULTILINE | re.IGNORECASE)


def options_in(text: str) -> Sequence[str] | None:
    """The contents of the choices in their order; None where there are not two that follow A, B, ... without a gap."""
    found = [(match[1].upper(), match[2]) for match in _LINE.finditer(text)]
    letters = "".join(letter for letter, _ in found)
    return [content for _, content in found] if len(found) > 1 and letters == LETTERS[: len(found)] else None
