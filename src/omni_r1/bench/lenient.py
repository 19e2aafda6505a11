"""The paper's judge as rules (section 5, Table 7): what it accepts beyond the strict ones, and never less strict twice.

Rounding, units that convert to the same value, lists in any order, and the place of a choice for its letter.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

from omni_r1.bench import quantities
from omni_r1.perpo.grading import grade
from omni_r1.perpo.grading.canonical import LONGEST, canonical
from omni_r1.perpo.grading.choices import LETTERS, choice, contents_of
from omni_r1.perpo.grading.collections_of import Collection, collection
from omni_r1.perpo.grading.words import roman

LEAST_DIGITS = 2  # significant ones of a rounded number: 3 is not 3.14, which 3.1 is
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
_DECIMAL = re.compile(r"(?<![\d.])-?\d[\d,]*(?:\.(\d+))?")


def as_the_judge(
    answer: str, gold: str, options: Sequence[str] | None = None, may_choose: bool = True
) -> tuple[bool, str]:
    """The verdict and what decided it. Raises AlgebraError as `grade` does.

    `options`: the choices, where they are known. `may_choose`: False where the question is known to have none, so that
    a gold `2` is a number, and no second choice.
    """
    found = grade(answer, gold, options)
    if found.correct or max(len(answer), len(gold)) > LONGEST:
        return found.correct, found.reason
    have, want = canonical(answer), canonical(gold)
    for place, letter, known in ((have, want, found.kind == "choice"), (want, have, may_choose)):
        if known and _place(place, letter) and not _is_option(place, options):
            return True, "the place of the choice"
    if _any_order(have, want):
        return True, "the same elements in another order"
    if _same_amount(have, want):
        return True, "the same value, rounded or converted"
    return False, found.reason


def _place(text: str, lettered: str) -> bool:
    """Whether a text tells the place of the letter that the other is: `2`, `second`, `II` for B."""
    said = choice(lettered)
    if said is None or said.content:
        return False
    place = LETTERS.index(str(said.letter)) + 1
    words = text.casefold().removesuffix(" option").removeprefix("the ").removeprefix("option ").strip("() ")
    return words in (str(place), ORDINALS[place - 1]) or roman(text) == place


def _is_option(text: str, options: Sequence[str] | None) -> bool:
    """Whether a text is that of an option: `2` is then no place."""
    return any(grade(text, content).correct for content in contents_of(options or ()))


def _any_order(have: str, want: str) -> bool:
    one, other = collection(have), collection(want)
    if one is None or other is None or {one.brackets, other.brackets} & {"()"} or not _is_list(one, other):
        return False
    left = list(other.elements)
    for element in one.elements:
        place = next((place for place, each in enumerate(left) if as_the_judge(element, each, None, False)[0]), None)
        if place is None:
            return False
        del left[place]
    return not left


def _is_list(one: Collection, other: Collection) -> bool:
    """Points and intervals keep their order; so do two elements in square brackets, which may be an interval."""
    return len(one.elements) == len(other.elements) and not (
        len(one.elements) == 2 and "[]" in (one.brackets, other.brackets)
    )


def _same_amount(have: str, want: str) -> bool:
    if re.search("[=≠]", have + want):  # a name that must be the same
        return False
    one, other = quantities.read(have), quantities.read(want)
    if one is None or other is None or quantities.PERCENT in (one.unit, other.unit):
        return False
    value = quantities.converted(one, other)
    if value is None:
        return False
    if value == other.value:
        return True
    return one.unit == other.unit and any(_rounded(*pair) for pair in ((have, other.value), (want, one.value)))


def _rounded(text: str, value: Fraction) -> bool:
    """Whether a decimal is the value rounded to the digits it is written with, at least two of them significant."""
    found = _DECIMAL.fullmatch(text)
    if found is None or found[1] is None:
        return False
    digits = len(found[1])
    written = Fraction(text.replace(",", ""))
    significant = len(text.replace(",", "").replace(".", "").lstrip("-0"))
    return significant >= LEAST_DIGITS and abs(written - value) * 10**digits <= Fraction(1, 2)
