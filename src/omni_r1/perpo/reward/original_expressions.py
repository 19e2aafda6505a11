"""Whether two short expressions are of one value: stands where the released reward asks a computer algebra system.

Arithmetic only, of numbers, + - * / ^, fractions and square roots, LaTeX or plain, with bounded powers: it always ends.
"""

import math
import re

LONGEST = 100  # characters
LARGEST_POWER, LARGEST, CLOSE = 64, 1e30, 1e-9
TOKEN = re.compile(r"\d+(?:\.\d+)?|\.\d+|sqrt|frac|pi|[-+*/^(){}]")
UNITS = (
    *("degree", "cm", "centimeter", "meter", "mile", "second", "minute", "hour", "day", "week", "month", "year"),
    *("foot", "feet", "inch", "yard"),
)


class _Unreadable(Exception):
    """No arithmetic, or too large."""


def same_expression(answer: str, gold: str) -> bool:
    """As the released code's grader, where no variable is to be solved for: equal once normalised, or of equal value.

    `x =` in front does not count, two plain fractions must be spelled alike, a whole number is no expression's equal,
    and what stands in brackets is compared one by one.
    """
    if _letters(answer) == _letters(gold):
        return True
    mine, wanted = _elements(_normal(answer)), _elements(_normal(gold))
    return len(mine) == len(wanted) and all(map(_same_value, mine, wanted))


def _letters(text: str) -> str:
    """What is left without space and braces: `1 1/2` and `11/2` are alike, as they were."""
    return re.sub(r"[\s{}]", "", _normal(re.sub(r"\s+", "", re.sub(r"^\s*\w{1,2}\s*=\s*", "", text))))


def _elements(text: str) -> list[str]:
    """Of a tuple or an interval, its brackets first; else the text alone."""
    found = re.fullmatch(r"([(\[])([^()\[\]]*,[^()\[\]]*)([)\]])", text)
    return [found[1] + found[3], *found[2].split(",")] if found else [text]


def _same_value(mine: str, wanted: str) -> bool:
    if mine == wanted:
        return True
    if not mine or not wanted or len(mine) > LONGEST or len(wanted) > LONGEST:
        return False
    plain = [re.fullmatch(r"-?\d+/\d+", each) is not None for each in (mine, wanted)]
    whole = [re.fullmatch(r"-?\d+", each) is not None for each in (mine, wanted)]
    if all(plain) or whole[0] != whole[1]:
        return False
    try:
        difference = _Reader(mine).value() - _Reader(wanted).value()
    except (_Unreadable, ZeroDivisionError, OverflowError):
        return False
    return abs(difference) < CLOSE


def _normal(text: str) -> str:
    """One spelling: no dressing of LaTeX, units, currency, per cent or space, fractions of one digit with a stroke."""
    text = re.sub(r"^\\text\{(.+?)\}$", r"\1", text.strip())
    text = re.sub(r"\\boxed\s*\{(.*)\}", r"\1", text)
    text = text.replace("\\left", "").replace("\\right", "")
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\(?:cdot|times)|[·×]", "*", text)
    text = re.sub(r"\^ *\{? *\\circ *\}?", "", text)
    text = re.sub(r"\\?[$%]|\\[!,;]", "", text)
    text = re.sub(rf"(?:{'|'.join(UNITS)})(?:es)?s? *(?:\^\d+)?", "", text)
    text = re.sub(r"(?<=\d) *\\frac", r"+\\frac", text)
    text = re.sub(r"(?<=\d) +(?=\d)", "+", text)
    text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", _stroke, text)
    text = re.sub(r"\\frac *(\d) *(\d)", r"\1/\2", text)
    text = re.sub(r"(?<=\d),(?=\d\d\d(?:\D|$))", "", text)
    text = text.replace("√", "sqrt").replace("π", "pi").replace("\\", "").replace(" ", "").lower()
    return re.sub(r"^(-?\d+)\.0*$", r"\1", text)


def _stroke(found: re.Match[str]) -> str:
    parts = (each if re.fullmatch(r"\w+", each) else f"({each})" for each in found.groups())
    return "/".join(parts)


class _Reader:
    """Reads a sum from left to right. Raises _Unreadable."""

    def __init__(self, text: str) -> None:
        self.tokens = TOKEN.findall(text)
        if "".join(self.tokens) != text:
            raise _Unreadable
        self.place = 0

    def value(self) -> float:
        found = self._sum()
        if self.place < len(self.tokens):
            raise _Unreadable
        return found

    def _next(self, *wanted: str) -> str | None:
        token = self.tokens[self.place] if self.place < len(self.tokens) else None
        if token not in wanted:
            return None
        self.place += 1
        return token

    def _sum(self) -> float:
        total = self._product()
        while sign := self._next("+", "-"):
            part = self._product()
            total = total + part if sign == "+" else total - part
        return self._bounded(total)

    def _product(self) -> float:
        total = self._power()
        while True:
            if self._next("/"):
                total = total / self._power()
            elif self._next("*") or (
                self.place < len(self.tokens) and self.tokens[self.place] in ("(", "{", "sqrt", "pi", "frac")
            ):
                total = total * self._power()
            else:
                return self._bounded(total)

    def _power(self) -> float:
        if self._next("-"):
            return -self._power()
        base = self._atom()
        if not self._next("^"):
            return base
        exponent = self._power()
        if abs(exponent) > LARGEST_POWER or abs(base) > LARGEST or (base < 0 and exponent % 1):
            raise _Unreadable
        return self._bounded(float(base**exponent))

    def _atom(self) -> float:
        if self._next("sqrt"):
            inside = self._atom()
            if inside < 0:
                raise _Unreadable
            return math.sqrt(inside)
        if self._next("pi"):
            return math.pi
        if self._next("frac"):
            above = self._atom()
            return above / self._atom()
        if opened := self._next("(", "{"):
            inside = self._sum()
            if not self._next(")" if opened == "(" else "}"):
                raise _Unreadable
            return inside
        token = self.tokens[self.place] if self.place < len(self.tokens) else ""
        if not re.match(r"[.\d]", token):
            raise _Unreadable
        self.place += 1
        return float(token)

    def _bounded(self, number: float) -> float:
        if abs(number) > LARGEST**2:
            raise _Unreadable
        return number
