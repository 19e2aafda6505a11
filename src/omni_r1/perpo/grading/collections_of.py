"""Lists, points and sets: cut into elements, which are compared one by one."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from omni_r1.perpo.grading.canonical import outer_pairs, split_top, ungrouped

MOST = 64  # elements

_COMMA = r"\s*[,;](?!\d{3}(?!\d))\s*(?:and |& )?|\s+and\s+|\s+&\s+|\s*→\s*|\s*->\s*"
_ANY_COMMA = r"\s*[,;]\s*(?:and |& )?|\s+and\s+|\s+&\s+"
_OR = r"\s+or\s+"


@dataclass(frozen=True)
class Collection:
    """Elements with their brackets: "()", "[]", "{}" or "" for a bare list."""

    elements: tuple[str, ...]
    brackets: str = ""
    unordered: bool = False


def collection(text: str) -> Collection | None:
    """The elements of a list, a point or a set; None where the text is one thing.

    A well-formed group of thousands is no separator, unless the list has other commas that can only be one.
    """
    brackets = ""
    if text[:1] in ("(", "[", "{") and outer_pairs(text).get(0) == len(text) - 1:
        if text[0] + text[-1] in ("()", "[]", "{}"):
            brackets, text = text[0] + text[-1], text[1:-1].strip()
            if brackets == "()":
                text = ungrouped(text)
        else:
            return None
    inside_of_brackets = brackets != "" and not re.search(r",\s", text)
    parts = split_top(text, _ANY_COMMA if inside_of_brackets else _COMMA)
    if len(parts) == 1 and brackets != "{}" and brackets != "[]":
        return _plus_minus(text) if not brackets else None
    if len(parts) == 1 and (not parts[0] or brackets == "{}"):
        return Collection(tuple(filter(None, parts)), brackets, brackets == "{}")
    if len(parts) > MOST or not all(parts):
        return None
    return Collection(tuple(parts), brackets, brackets == "{}")


def _plus_minus(text: str) -> Collection | None:
    """`±3` is 3 and -3, `1 ± √2` both of its values."""
    if text.count("±") != 1:
        return None
    before, after = (part.strip() for part in text.split("±"))
    name, equals, before = before.rpartition("=")
    return Collection(tuple(f"{name}{equals}{before}{sign}{after}" for sign in "+-"), "", True)


def alternatives(text: str) -> Collection | None:
    """What `or` joins, in any order: `x = 1 or x = 2`."""
    parts = split_top(text, _OR)
    return Collection(tuple(parts), "", True) if 1 < len(parts) <= MOST and all(parts) else None


def compare_collections(
    have: Collection | None, want: Collection, same: Callable[[str, str], bool]
) -> tuple[bool, str]:
    """Order counts in lists and points, not in sets; brackets must agree, or be missing where nothing is left open."""
    if have is None:
        return False, f"one thing, where {len(want.elements)} are asked for"
    if want.brackets and have.brackets != want.brackets:
        if have.brackets or (len(want.elements) == 2 and not want.unordered):  # a point, or an interval?
            return False, f"brackets {have.brackets or 'missing'}, not {want.brackets}"
    elements = list(have.elements)
    if want.unordered:
        left = list(dict.fromkeys(want.elements))
        elements = list(dict.fromkeys(elements))
        if len(left) != len(elements):
            return False, f"{len(elements)} elements, not {len(left)}"
        for element in left:
            place = next((i for i, candidate in enumerate(elements) if same(candidate, element)), None)
            if place is None:
                return False, f"{element!r} is missing"
            del elements[place]
        return True, "the same elements"
    if have.unordered and have.brackets != "{}":
        return False, "the order is left open"
    if len(elements) != len(want.elements):
        return False, f"{len(elements)} elements, not {len(want.elements)}"
    for place, (one, other) in enumerate(zip(elements, want.elements, strict=True), 1):
        if not same(one, other):
            return False, f"element {place} differs"
    return True, "the same elements in the same order"
