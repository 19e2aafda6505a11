"""Numbers as a tolerance needs them: a value to calculate with, and what its unit is worth."""

import math
import re
from fractions import Fraction
from typing import NamedTuple

from omni_r1.perpo.grading import quantities, units
from omni_r1.perpo.grading.answer import value_of
from omni_r1.perpo.grading.canonical import LONGEST, canonical, split_top
from omni_r1.perpo.grading.choices import choice
from omni_r1.perpo.grading.evaluate import exact, numeric
from omni_r1.perpo.grading.expressions import NotAnExpression, TooLarge, parse

PERCENT = f"{units.PERCENT}^1"
_YEARS = re.compile(rf"(?:19|20)\d\d/(?:(?:19|20)?\d\d)|{quantities.DECADE.pattern}")  # no share, and no seconds
# What a unit is worth in the first of its kind. Only what has one meaning: no ounces, no gallons, no temperatures.
_SCALES: tuple[dict[str, Fraction], ...] = (
    {
        **{"m": Fraction(1), "km": Fraction(1000), "dm": Fraction(1, 10), "cm": Fraction(1, 100)},
        **{"mm": Fraction(1, 1000), "μm": Fraction(1, 10**6), "nm": Fraction(1, 10**9)},
        **{"in": Fraction(254, 10000), "ft": Fraction(3048, 10000), "yd": Fraction(9144, 10000)},
        "mi": Fraction(1609344, 1000),
    },
    {"g": Fraction(1), "kg": Fraction(1000), "mg": Fraction(1, 1000), "μg": Fraction(1, 10**6)},
    {"s": Fraction(1), "ms": Fraction(1, 1000), "min": Fraction(60), "h": Fraction(3600), "day": Fraction(86400)},
    {"L": Fraction(1), "mL": Fraction(1, 1000), "cL": Fraction(1, 100), "dL": Fraction(1, 10)},
    {"USD": Fraction(1), "cent": Fraction(1, 100)},
    {"J": Fraction(1), "kJ": Fraction(1000), "N": Fraction(1), "kN": Fraction(1000)},
)


class Number(NamedTuple):
    value: Fraction
    unit: str | None = None


def read(text: str) -> Number | None:
    """The number that a text is, with its unit; None where it is none, or none that floats can hold."""
    if len(text) > LONGEST:
        return None
    said = canonical(text)
    try:
        found = _quantity(said)
        if found is None and len(parts := split_top(said, r"\s*=\s*")) > 1:  # x = 3
            found = _quantity(parts[-1])
        if found is None:
            return None
        value = exact(found.value)
        if value is not None:
            float(value)  # overflows where no float holds it
    except (TooLarge, ZeroDivisionError, OverflowError):
        return None
    if value is None:
        measured = numeric(found.value, {})
        if measured is None or abs(measured.imag) > 1e-12 or not math.isfinite(measured.real):
            return None
        value = Fraction(measured.real)
    return Number(value, found.unit)


def _quantity(text: str) -> quantities.Quantity | None:
    return None if _YEARS.fullmatch(text) else quantities.constant(text)


def given(answer: str) -> Number | None:
    """The number an answer gives, also after words such as "there are", or behind the letter of a choice."""
    if len(answer) > LONGEST:
        return None
    said = canonical(answer)
    labelled = choice(said)
    texts = (said, value_of(said), labelled.content if labelled is not None else "")
    return next((found for found in map(read, texts) if found is not None), None)


def comparable(one: Number, other: Number) -> bool:
    """Whether nothing in the units contradicts: one may be missing, and percent is a way to write a number."""
    return units.same_unit(one.unit, other.unit) or PERCENT in (one.unit, other.unit)


def scaled(one: Number, other: Number) -> list[Fraction]:
    """What a number may mean: itself; a hundredth or hundredfold too, where only one of the two has a percent sign."""
    if (one.unit == PERCENT) == (other.unit == PERCENT):
        return [one.value]
    return [one.value, one.value / 100 if one.unit == PERCENT else one.value * 100]


def converted(one: Number, other: Number) -> Fraction | None:
    """A number in the other's unit; None where the units are of two kinds, or have no worth that is known."""
    if one.unit == other.unit or one.unit is None or other.unit is None:
        return one.value
    a, b = _factors(one.unit), _factors(other.unit)
    if a is None or b is None or a[1] != b[1]:
        return None
    return one.value * a[0] / b[0]


def _factors(unit: str) -> tuple[Fraction, dict[int, int]] | None:
    """What a compound unit is worth in the first units of its kinds, and the power of each kind."""
    worth, kinds = Fraction(1), dict[int, int]()
    for part in unit.split(" "):
        name, _, power = part.rpartition("^")
        kind = next((kind for kind, scale in enumerate(_SCALES) if name in scale), None)
        if kind is None:
            return None
        worth *= _SCALES[kind][name] ** int(power)
        kinds[kind] = kinds.get(kind, 0) + int(power)
    return worth, kinds


def is_expression(text: str) -> bool:
    """Whether a text can be read as a number or as mathematics at all."""
    if read(text) is not None:
        return True
    said = canonical(text)
    try:
        parse(split_top(said, r"\s*=\s*")[-1])
    except (NotAnExpression, TooLarge):
        return False
    return not said.isalpha() or len(said) == 1
