"""Sequences of steps: a list in any of its spellings, cut into steps that are compared one by one."""

import re
from collections.abc import Sequence

from omni_r1.perpo.grading.canonical import canonical, outer_pairs, split_top
from omni_r1.perpo.grading.words import same_text

LONGEST_WORD = 12  # letters of a step, where steps are words with nothing but spaces between
# No group of thousands is known here: 100,200 are two steps.
_BETWEEN = r"(?i:\s*(?:[,;]|→|[-=]>)\s*(?:(?:and|then|&)\s+)*|(?:\s+(?:and|then|&))+\s+|\s+(?=\d{1,3}\. ))"
_ITEM = re.compile(  # a bullet, or a number of its own, as in `1. up`, `(1) up` and `Step 1: up`
    r"\s*(?:[-*•·]\s+|(?:step \d{1,3}[.:)]?|[(\[]?\d{1,3}(?:\.\)|[.)\]]))(?:\s+|(?=[^\W\d])))(.+)", re.IGNORECASE
)


def steps_of(text: str) -> Sequence[str]:
    """The steps of a list: in brackets or none, between commas, arrows, lines, `then`, or single words with spaces."""
    lines = [line.strip().rstrip(",;") for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        lines = _without_numbers(lines[lines[0].endswith(":") :])
    said = canonical(", ".join(lines))
    inside = _inside(said)
    if inside is None:
        inside = said if outer_pairs(said) else _unclosed(said)
    parts = _cut(inside)
    words = parts[0].split() if len(parts) == 1 else []
    return words if len(words) > 1 and all(len(word) <= LONGEST_WORD for word in words) else parts


def same_step(one: str, other: str) -> bool:
    """Whether two steps are the same: points and lists part by part, in whatever brackets, all else as text."""
    inner, others = _inside(one), _inside(other)
    if inner is not None and others is not None:
        parts, wanted = _cut(inner), _cut(others)
        return len(parts) == len(wanted) and all(map(same_step, parts, wanted))
    return same_text(canonical(one), canonical(other))


def _cut(text: str) -> list[str]:
    return _without_numbers([part for part in split_top(text, _BETWEEN) if part])


def _inside(text: str) -> str | None:
    """What stands between the brackets that hold the whole text; None where no single pair does."""
    return text[1:-1].strip() if outer_pairs(text).get(0) == len(text) - 1 else None


def _unclosed(text: str) -> str:
    """A text without brackets, or with some that have no partner: `1) up, 2) left`, or a list that was cut off."""
    return re.sub(r"(?<![^\s,;])(\d{1,3})\)", r"\1.", text.strip("[](){}"))


def _without_numbers(parts: list[str]) -> list[str]:
    """Without the bullets or numbers before them, where every part has one."""
    items = [_ITEM.fullmatch(part) for part in parts]
    return [item[1] for item in items if item] if all(items) else parts
