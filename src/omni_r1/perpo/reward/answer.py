"""Compare a final answer with the gold one.

Only values are compared, never string similarity (the original paid a wrong answer for looking like the right one).
"""

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?|[-+]?\.\d+")
NO_ANSWER = {"", "none", "n/a", "null", "unknown"}


@dataclass(frozen=True)
class Grade:
    correct: bool
    reason: str


def _canonical(text: str) -> str:
    """Case, spacing, a leading article and final punctuation do not count; a hyphen is a space.

    Raised digits stay powers, `5!` a factorial, and `A B` two labels.
    """
    text = re.sub("[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]+", lambda raised: "^" + raised[0], text)
    text = unicodedata.normalize("NFKC", text).replace("\u2212", "-").casefold().strip()
    text = re.sub(r"(?<!\d)!+$", "", text.rstrip(".?")).strip()
    text = re.sub(r"(?<=\w)-(?=\w)", " ", text)
    return re.sub(r"\s+", " ", re.sub(r"^(the|a|an) (?=\w\w)", "", text))


def _number(text: str) -> Decimal | None:
    return Decimal(text.replace(",", "")) if NUMBER.fullmatch(text) else None


def grade(answer: str | None, gold: str) -> Grade:
    """Compare an answer with the gold one: equal numbers, or equal text once both are canonical.

    A sentence such as "The answer is 4" counts as its last word or number only in that form.
    """
    if answer is None:
        return Grade(False, "no answer found")
    have, want = _canonical(re.sub(r"(?i)^\s*(the )?(final )?answer is:?\s*", "", answer)), _canonical(gold)
    if have in NO_ANSWER:
        return Grade(False, "empty answer")
    numbers = _number(have), _number(want)
    if numbers[1] is not None:
        if numbers[0] is None:
            return Grade(False, f"not a number: {answer!r}, expected {gold!r}")
        return Grade(numbers[0] == numbers[1], f"{numbers[0]} {'=' if numbers[0] == numbers[1] else '≠'} {numbers[1]}")
    return Grade(have == want, f"{answer!r} {'=' if have == want else '≠'} {gold!r}")
