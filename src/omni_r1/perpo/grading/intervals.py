"""Intervals, their unions, and inequalities in one variable, all as the set of numbers they mean."""

import re
from dataclasses import dataclass

from omni_r1.perpo.grading.algebra import equal
from omni_r1.perpo.grading.canonical import split_top, ungrouped
from omni_r1.perpo.grading.evaluate import numeric
from omni_r1.perpo.grading.expressions import NotAnExpression, Tree, parse, symbols

INFINITY: Tree = ("const", "oo")
_INTERVAL = re.compile(r"([(\[])\s*([^,;]+?)\s*[,;]\s*([^,;]+?)\s*([)\]])")
_RELATION = re.compile(r"<=|>=|!=|<|>")
_MEMBER = re.compile(r"([^\W\d_]\w{0,8})\s*(?:∈|\bin\b)\s*(.+)", re.DOTALL)
_BUILDER = re.compile(r"\{\s*[^\W\d_]\s*[|:]\s*([^{}]+)\}")
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}
_VARIABLE = re.compile(r"[^\W\d]\w{0,8}(_\{?\w{1,8}\}?)?")


@dataclass(frozen=True)
class Interval:
    low: Tree
    high: Tree
    closed: tuple[bool, bool]
    sizes: tuple[float, float]  # of the ends, for the order alone


@dataclass(frozen=True)
class Region:
    """A union of intervals, from left to right, of the variable, where it is named."""

    parts: tuple[Interval, ...]
    variable: str | None = None


def _size(tree: Tree) -> float | None:
    if tree == INFINITY:
        return float("inf")
    if tree == ("neg", INFINITY):
        return float("-inf")
    if symbols(tree):
        return None
    value = numeric(tree, {})
    return value.real if value is not None and not value.imag else None


def _between(low: Tree, high: Tree, closed: tuple[bool, bool]) -> Interval | None:
    sizes = _size(low), _size(high)
    if sizes[0] is None or sizes[1] is None or sizes[0] > sizes[1]:
        return None
    return Interval(low, high, closed, (sizes[0], sizes[1]))


def _interval(text: str) -> Interval | None:
    found = _INTERVAL.fullmatch(text)
    if not found:
        return None
    try:
        ends = parse(found[2]), parse(found[3])
    except NotAnExpression:
        return None
    return _between(*ends, (found[1] == "[", found[4] == "]"))


def _inequality(text: str) -> Region | None:
    """`x > 2`, `2 < x`, `1 < x <= 3`, `x != 0`."""
    relations = _RELATION.findall(text)
    sides = [side.strip() for side in _RELATION.split(text)]
    if len(relations) == 2 and relations[0][0] == relations[1][0] and relations[0] != "!=":
        first, second = (
            _inequality(f"{sides[0]} {relations[0]} {sides[1]}"),
            _inequality(f"{sides[1]} {relations[1]} {sides[2]}"),
        )
        return _both(first, second)
    if len(relations) != 1:
        return None
    if _VARIABLE.fullmatch(sides[0]) is None:
        sides, relations = sides[::-1], [_FLIPPED[relations[0]]]
    if _VARIABLE.fullmatch(sides[0]) is None:
        return None
    try:
        end = parse(sides[1])
    except NotAnExpression:
        return None
    low: Tree = ("neg", INFINITY)
    closed = "=" in relations[0]
    if relations[0] == "!=":
        parts = [_between(low, end, (False, False)), _between(end, INFINITY, (False, False))]
    elif relations[0][0] == "<":
        parts = [_between(low, end, (False, closed))]
    else:
        parts = [_between(end, INFINITY, (closed, False))]
    return Region(tuple(part for part in parts if part), sides[0]) if all(parts) else None


def _both(one: Region | None, other: Region | None) -> Region | None:
    """What lies in two single intervals of one variable."""
    if one is None or other is None or one.variable != other.variable or len(one.parts) != 1 or len(other.parts) != 1:
        return None
    a, b = one.parts[0], other.parts[0]
    low, from_low = (a.low, a.closed[0]) if a.sizes[0] > b.sizes[0] else (b.low, b.closed[0])
    high, to_high = (a.high, a.closed[1]) if a.sizes[1] < b.sizes[1] else (b.high, b.closed[1])
    between = _between(low, high, (from_low, to_high))
    return Region((between,), one.variable) if between else None


def region(text: str) -> Region | None:
    """The set of numbers a text means, None where it means none. Raises TooLarge."""
    text = ungrouped(text)
    if builder := _BUILDER.fullmatch(text):
        text = builder[1]
    if member := _MEMBER.fullmatch(text):
        inside = region(member[2])
        return Region(inside.parts, member[1]) if inside is not None and inside.variable in (None, member[1]) else None
    union = split_top(text, r"\s*∪\s*|\s+or\s+|(?<=[)\]])\s*U\s*(?=[(\[])")
    if len(union) > 1:
        regions = [region(part) for part in union[:16]]
        known = [one for one in regions if one is not None]
        if len(known) < len(union) or len({one.variable for one in known}) > 1:
            return None
        parts = sorted((part for one in known for part in one.parts), key=lambda part: part.sizes)
        return Region(tuple(parts), known[0].variable)
    if _RELATION.search(text):
        both = split_top(text, r"\s+and\s+|\s*,\s*")
        return _both(*(_inequality(part) for part in both)) if len(both) == 2 else _inequality(text)
    single = _interval(text)
    return Region((single,)) if single is not None else None


def is_plainly_interval(text: str) -> bool:
    """Whether a text can only be an interval or an inequality: `(1, 2)` may be a point, `(1, 2]` may not."""
    if _RELATION.search(text) or "∪" in text or "∈" in text:
        return True
    return bool(_INTERVAL.fullmatch(text)) and (
        (text[0] == "(") != (text[-1] == ")") or bool(re.search("∞|\\boo\\b|inf", text))
    )


def compare_regions(have: Region | None, want: Region) -> tuple[bool, str]:
    if have is None:
        return False, "no interval or inequality"
    if have.variable and want.variable and have.variable != want.variable:
        return False, f"{have.variable} is not {want.variable}"
    if len(have.parts) != len(want.parts):
        return False, f"{len(have.parts)} intervals, not {len(want.parts)}"
    for one, other in zip(have.parts, want.parts, strict=True):
        for mine, its, closed, as_closed in zip(
            (one.low, one.high), (other.low, other.high), one.closed, other.closed, strict=True
        ):
            if closed != as_closed and INFINITY not in (mine, mine[1]):
                return False, "an end is open on one side and closed on the other"
            if not equal(mine, its)[0]:
                return False, "another end"
    return True, "the same set of numbers"
