"""Numbers with what belongs to them: sign, thousands, fraction, power of ten, scale, percent, unit, currency."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from omni_r1.perpo.grading import units
from omni_r1.perpo.grading.algebra import equal
from omni_r1.perpo.grading.canonical import ungrouped
from omni_r1.perpo.grading.expressions import DIGITS, NotAnExpression, TooLarge, Tree, parse, symbols
from omni_r1.perpo.grading.words import NUMBER_WORDS, roman

SCALES = {
    **{"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12},
    **{"mn": 10**6, "mln": 10**6, "bn": 10**9, "tn": 10**12},
}
_LETTERS = {"k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}  # after a currency or close to the digits: $5k, 1.5M
EXPONENT = 2_000  # of ten

_DECIMAL = r"(?:[1-9]\d{0,2}(?:(?:,\d{3})+|(?: \d{3})+)(?:\.\d+)?(?![\d,])|\d+(?:\.\d*)?|\.\d+)"
_SIGN = r"(?P<sign>[-+]?)\s*"
_FRACTION = (
    r"(?P<top>[-+]?\d+)\s*/\s*(?P<bottom>[-+]?\d+)"
    r"|\\frac\s*(?:\{(?P<top2>[-+]?\d+)\}|(?P<top3>\d))\s*(?:\{(?P<bottom2>\d+)\}|(?P<bottom3>\d))(?!\d)"
)
_NUMBER = re.compile(
    _SIGN
    + r"(?:"
    + rf"(?:(?P<whole>\d+)(?: |(?=\\))\s*(?=\d+/|\\frac))?(?:{_FRACTION})(?![\d.]| ?/)"
    + rf"|(?P<decimal>{_DECIMAL})"
    + r"(?:\s*[×x*·X]\s*10\s*(?:\^|\*\*)\s*\{?\s*(?P<power>[-+]?\d+)\s*\}?|[eE](?P<e>[-+]?\d+)(?!\w))?"
    + r")"
)
_OVERLINE = re.compile(r"([-+]?)(\d+)\.(\d*)\\overline\{(\d+)\}")
_SYMBOL = r"US\$|[$€£¥₹₩]|USD|EUR|GBP|JPY|CNY|RMB|INR"
_MONEY = re.compile(rf"(?P<before>[-+]?)\s*(?P<symbol>{_SYMBOL})\s*(?P<rest>[-+.\d(].*)", re.DOTALL)
_WORD = re.compile(
    r"(?P<sign>-|minus |negative )?\s*(?P<word>" + "|".join(NUMBER_WORDS) + r")\b(?P<rest>.*)", re.I | re.DOTALL
)
_ORDINAL = re.compile(r"(st|nd|rd|th)\b", re.IGNORECASE)
_END = r"\d[\d,]*(?:\.\d+)?"
RANGE = re.compile(  # numbers that hyphens join: a range, a score, an order; or a date with slashes
    rf"{_END}(?: ?- ?{_END})+|\d{{4}}/\d\d?/\d\d?(?!\d)|\d\d?/\d\d?/\d\d(?:\d\d)?(?!\d)"
)
DECADE = re.compile(r"(?:1[89]|20)\d0s")  # no seconds


@dataclass(frozen=True)
class Quantity:
    """A value, as a tree, and its unit's name; `counted` is what follows it where that is an unknown noun."""

    value: Tree
    unit: str | None = None
    counted: str | None = None

    @property
    def is_percent(self) -> bool:
        return self.unit == f"{units.PERCENT}^1"


def _tree(value: Fraction) -> Tree:
    return ("num", value.numerator, value.denominator)


def _value(found: re.Match[str]) -> Fraction | None:
    """What the number pattern found is worth; None where it is not well formed."""
    sign = -1 if found["sign"] == "-" else 1
    top = found["top"] or found["top2"] or found["top3"]
    bottom = found["bottom"] or found["bottom2"] or found["bottom3"]
    if len(found[0]) > DIGITS:
        return None
    if top is not None:
        if int(bottom) == 0:
            return None
        return sign * (Fraction(int(found["whole"] or 0)) + Fraction(int(top), int(bottom)))
    power = int(found["power"] or found["e"] or 0)
    if abs(power) > EXPONENT:
        raise TooLarge(f"a power of ten above {EXPONENT}")
    return sign * Fraction(re.sub("[, ]", "", found["decimal"]).rstrip(".")) * Fraction(10) ** power


def _tail(value: Fraction, rest: str, glued: bool, money: bool) -> Quantity | None:
    """The quantity of a number and what follows it: a scale, a unit, a counted noun; None where it is none of them."""
    rest = rest.strip()
    if not rest:
        return Quantity(_tree(value))
    word = re.match(r"[A-Za-z]+", rest)
    if word and word[0].casefold().removesuffix("s") in SCALES:
        value *= SCALES[word[0].casefold().removesuffix("s")]
        rest = rest[word.end() :].strip().removeprefix("of ")
    elif word and word[0] in _LETTERS and (money or glued) and len(word[0]) == len(rest) and (money or rest != "T"):
        return Quantity(_tree(value * _LETTERS[word[0]]))
    if not rest:
        return Quantity(_tree(value))
    unit = units.known_unit(rest)
    if unit is not None:
        return Quantity(_tree(value), unit)
    if glued and _ORDINAL.match(rest):
        return None
    counted = re.sub(r"^(of )?(the )?", "", rest) if rest.startswith(("of ", "the ")) else rest
    unit = units.unit_of(counted)
    return Quantity(_tree(value), unit, counted) if unit is not None else None


def is_range(text: str) -> bool:
    """Whether a text is a range or a date, with or without a known unit: nothing in it is subtracted or divided."""
    text = ungrouped(text)
    found = RANGE.match(text)
    return found is not None and (found.end() == len(text) or units.known_unit(text[found.end() :]) is not None)


def _expression(text: str) -> Quantity | None:
    """A constant such as `2√3 cm` or `5π`: an expression, with a known unit after it where it has no variable."""
    for space in [m.start() for m in re.finditer(r"(?<=[\d)}πe])\s*(?=[A-Za-z°%])", text)][:12]:
        unit = units.known_unit(text[space:])
        if unit is None or (unit == f"{units.DEGREE}^1" and re.search("sin|cos|tan", text[:space])):
            continue
        try:
            tree = parse(text[:space])
        except NotAnExpression:
            continue
        if not symbols(tree):
            return Quantity(tree, unit)
    try:
        return Quantity(parse(text))
    except NotAnExpression:
        return None


def _plain(text: str, money: bool = False) -> Quantity | None:
    """A quantity that begins with a number in digits or in words."""
    if repeating := _OVERLINE.fullmatch(text):
        sign, whole, fixed, again = repeating.groups()
        if len(text) > DIGITS:
            return None
        cycle = Fraction(int(whole + fixed + again) - int(whole + fixed), (10 ** len(again) - 1) * 10 ** len(fixed))
        return Quantity(_tree(-cycle if sign == "-" else cycle))
    if (found := _NUMBER.match(text)) and (value := _value(found)) is not None:
        rest = text[found.end() :]
        quantity = _tail(value, rest, not rest[:1].isspace(), money)
        if quantity is not None:
            return quantity
    if found := _WORD.fullmatch(text):
        worded = Fraction(NUMBER_WORDS[found["word"].casefold()])
        return _tail(-worded if found["sign"] else worded, found["rest"], False, money)
    return None


@lru_cache(maxsize=2048)
def quantity(text: str) -> Quantity | None:
    """The number in a text that is nothing but a number with its unit, in canonical spelling; None where it is not.

    Raises TooLarge.
    """
    if accounting := re.fullmatch(rf"\(\s*({_SYMBOL})\s*([\d.,]+)\s*\)|({_SYMBOL})\s*\(([\d.,]+)\)", text):
        inside = _plain(accounting[2] or accounting[4], money=True)
        symbol = units.SYMBOLS[accounting[1] or accounting[3]]
        return Quantity(("neg", inside.value), f"{symbol}^1") if inside and inside.unit is None else None
    text = ungrouped(text)
    if text.startswith("{") and text.endswith("}") and not re.search("[,;{}]", text[1:-1]):  # a group of LaTeX
        text = text[1:-1]
    if text.startswith("[") and text.endswith("]") and not re.search(r"[,;\[\]]", text[1:-1]):
        text = text[1:-1]
    if (value := roman(text.removesuffix(")"))) is not None:
        return Quantity(("num", value, 1))
    if text.startswith(("$", "€", "£", "¥", "₹", "₩", "-", "+", "U", "E", "G", "J", "C", "R", "I")):
        if found := _MONEY.fullmatch(text):
            inside = _plain(ungrouped(found["rest"]), money=True)
            symbol = f"{units.SYMBOLS[found['symbol']]}^1"
            if inside is None or inside.unit not in (None, symbol):
                return None
            return Quantity(("neg", inside.value) if found["before"] == "-" else inside.value, symbol)
    return _plain(text)


def constant(text: str) -> Quantity | None:
    """A quantity whose value may be any expression without variables; no range. Raises TooLarge."""
    found = quantity(text) or (None if is_range(text) else _expression(ungrouped(text)))
    return found if found is not None and not symbols(found.value) else None


def same_quantity(one: Quantity, other: Quantity) -> tuple[bool, str]:
    """Equal values and no contradiction between units. p% is p/100; a percent sign may also be missing on one side."""
    if not units.same_unit(one.unit, other.unit):
        return False, f"{one.unit} is not {other.unit}"
    same, why = equal(one.value, other.value)
    if not same and one.is_percent != other.is_percent:
        hundredth = [("/", q.value, ("num", 100, 1)) if q.is_percent else q.value for q in (one, other)]
        same, why = equal(*hundredth)
    return same, why
