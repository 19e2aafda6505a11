"""Compare a final answer with the gold one: values, never the likeness of strings.

What kind of answer is asked for is told by the gold one; each kind has its own comparison, `RULES` in order below.
docs/grading.md says each rule in words, with an example.
"""

import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction

from omni_r1.errors import InputError
from omni_r1.perpo.grading import algebra, choices, quantities
from omni_r1.perpo.grading.canonical import LONGEST, canonical, split_top, ungrouped
from omni_r1.perpo.grading.chemistry import compare_formulas
from omni_r1.perpo.grading.collections_of import alternatives, collection, compare_collections
from omni_r1.perpo.grading.expressions import NotAnExpression, TooLarge, Tree, parse, symbols
from omni_r1.perpo.grading.intervals import compare_regions, is_plainly_interval, region
from omni_r1.perpo.grading.units import is_plural
from omni_r1.perpo.grading.words import HEDGE, roman, same_text, takes_back, unanswered, yes_no

DEPTH = 4  # of answers within answers: a list in a list, the content of a choice
ONE: Tree = ("num", 1, 1)

_depth: ContextVar[int] = ContextVar("depth", default=0)


@dataclass(frozen=True)
class Grade:
    """A verdict. `kind` is the type of the gold answer, by which the two were compared."""

    correct: bool
    reason: str
    kind: str = "none"


Verdict = tuple[bool, str]

_SENTENCE = re.compile(
    r"(?:(?:so|thus|therefore|hence),? )?"
    r"(?:there (?:is|are)|it is|it's|we get|we have|i get|i count(?:ed)?|i see|that is|"
    r"(?:the|its|their) (?:[a-z]+ ){1,5}(?:is|are|equals|was|will be|would be)) (?:exactly |equal to |only )?",
    re.IGNORECASE,
)
_PLACE = re.compile(r" (?:in|on|inside|within|at|left|shown|visible|altogether)\b(?!.*\b(?:and|not|but)\b)[^\d]*$")
_EQUALS = r"\s*(?<![<>!=:≈~])(?:==?|:=)(?![<>=])\s*|\s+(?:equals|is equal to)\s+"
_NAME = re.compile(
    r"(?:[m|]?[∠△]? ?)?[^\W\d_][^\W\d_]*'?(?:_?\{?\w{1,9}\}?)?(?: [^\W\d_]+){0,3}(?:\([\w, ]{1,9}\))?\|?"
)
_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?\s*([ap]\.?m\.?)?", re.IGNORECASE)
_RATIO = re.compile(r"\d+(?:\.\d+)?(?:\s*(?::|\bto\b)\s*\d+(?:\.\d+)?)+")


def _one_name(name: str) -> str:
    name = re.sub(r"[\s_{}∠△\\]|^m(?=∠)|^angle", "", name)
    return name.strip("|") if re.fullmatch(r"\|[A-Z]{2}\|", name) else name  # the length of a segment


def _assigned(text: str) -> tuple[str | None, str] | None:
    """(name, value) of `x = 3`, name None where the left side is a calculation; None where it is neither.

    The last value of a chain counts. An equation still to be solved, such as `x + 2 = 5`, assigns nothing.
    """
    first, *rest = split_top(text, _EQUALS)
    if not rest or not first or not rest[-1]:
        return None
    last = rest[-1]
    if _NAME.fullmatch(first) and not quantities.quantity(first):
        return _one_name(first), last
    if len(rest) == 1 and _NAME.fullmatch(last) and quantities.constant(first):  # 3 = x
        return _one_name(last), first
    return (None, last) if quantities.constant(first) or quantities.is_range(first) else None  # 5 - 3 = 2


def value_of(text: str) -> str:
    """The value an answer gives: after the last `=`, or after words such as "there are"."""
    assigned = _assigned(text)
    if assigned is not None:
        return assigned[1]
    lead = _SENTENCE.match(text)
    if lead is None:
        return text
    said = text[lead.end() :]
    place = _PLACE.search(said)
    return said[: place.start()] if place and not HEDGE.search(said) else said


def _options_verdict(answer: str, gold: str, options: Sequence[str]) -> Verdict | None:
    want = choices.labelled(options, gold)
    if want is None:
        return None
    others = choices.contents_of(options)
    others.pop(choices.LETTERS.index(str(want.letter)))
    return choices.compare_choices(answer, want, _same, others)


def _choice(answer: str, gold: str) -> Verdict | None:
    want = choices.choice(gold) if gold not in ("e", "i") else None  # the constants
    return choices.compare_choices(answer, want, _same) if want is not None else None


def _yes_no(answer: str, gold: str) -> Verdict | None:
    want = yes_no(gold)
    if want is None:
        return None
    have = yes_no(answer)
    if have is None or have[0] != want[0]:
        return False, f"it does not say {want[0]}"
    if want[1] and have[1]:
        return same_text(have[1], want[1]), "what follows it is compared as text"
    if takes_back(*have):
        return False, f"it says {have[0]} and takes it back"
    return True, f"it says {want[0]}"


def _ratio(answer: str, gold: str) -> Verdict | None:
    gold, answer = ungrouped(gold), value_of(ungrouped(answer))
    clock = _CLOCK.fullmatch(gold)
    if clock:
        have = _CLOCK.fullmatch(answer)
        if have is not None:
            return _same_time(have, clock), "compared as times"
    if not _RATIO.fullmatch(gold):
        return (False, "no time of day") if clock else None
    if not _RATIO.fullmatch(answer):
        return False, "no ratio"
    terms = [[Fraction(part) for part in re.split(r"\s*(?::|to)\s*", text)] for text in (answer, gold)]
    if clock or len(terms[0]) != len(terms[1]):
        return terms[0] == terms[1], "compared as times"
    pairs = list(zip(*terms, strict=True))
    same = all(a * pairs[0][1] == b * pairs[0][0] for a, b in pairs) and any(terms[0]) == any(terms[1])
    return same, "compared as ratios"


def _same_time(one: re.Match[str], other: re.Match[str]) -> bool:
    def parts(clock: re.Match[str]) -> tuple[int, int, int, str]:
        return int(clock[1]), int(clock[2]), int(clock[3] or 0), (clock[4] or "").casefold().replace(".", "")

    (h1, *rest1, half1), (h2, *rest2, half2) = parts(one), parts(other)
    if rest1 != rest2:
        return False
    if half1 and half2:
        return h1 == h2 and half1 == half2
    if half1 or half2:  # one side names the half of the day, the other may count to 24
        (hour, half), bare = ((h1, half1), h2) if half1 else ((h2, half2), h1)
        return bare in (hour, hour % 12 + (12 if half == "pm" else 0))
    return h1 == h2


def _interval(answer: str, gold: str) -> Verdict | None:
    if not is_plainly_interval(gold):
        if not is_plainly_interval(answer) or (want := region(gold)) is None:
            return None
        return compare_regions(region(answer), want)
    want = region(gold)
    if want is not None:
        return compare_regions(region(answer), want)
    return _relation(answer, gold)


def _relation(answer: str, gold: str) -> Verdict | None:
    """An inequality in several variables: the same sides, or both turned round."""
    signs = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}
    pattern = r"\s*(?:<=|>=|!=|<|>)\s*"
    sides, relation = split_top(gold, pattern), re.findall("<=|>=|!=|<|>", gold)
    have, given = split_top(answer, pattern), re.findall("<=|>=|!=|<|>", answer)
    if len(sides) != 2 or not all(sides):
        return None
    if len(have) != 2:
        return False, "no inequality"
    if given != relation:
        have, given = have[::-1], [signs[given[0]]]
    same = given == relation and _same(have[0], sides[0]) and _same(have[1], sides[1])
    if not same and relation == ["!="]:
        same = _same(have[1], sides[0]) and _same(have[0], sides[1])
    return same, "compared as inequalities"


def _list(answer: str, gold: str) -> Verdict | None:
    if quantities.quantity(gold) is not None or re.search(r"\d,\d+'?-[A-Za-z]", gold):  # 2,3-dimethylbutane
        return None
    want = collection(gold)
    if want is None:
        want = alternatives(gold)
        if want is None or not all(_is_number(part) for part in want.elements):
            return None
        have = alternatives(answer) or collection(answer)
    else:
        have = collection(answer)
    names = [_assigned(element) for element in want.elements]
    if all(name is not None and name[0] for name in names):
        if have is not None and all(_assigned(element) for element in have.elements):
            want = type(want)(want.elements, want.brackets, True)  # x = 1, y = 2: the names tell which is which
    if have is None and want.unordered and (either := alternatives(answer)) is not None:
        have = either if all(map(_assigned, either.elements)) else None  # x = 1 or x = 2
    if have is None and want.unordered and len(want.elements) == 2 and (assigned := _assigned(answer)):
        have = collection(assigned[1])  # x = 1, 2
    if have is None and same_text(answer, gold):
        return True, "the same text"
    return compare_collections(have, want, _same)


def _is_number(text: str) -> bool:
    assigned = _assigned(text)
    return quantities.constant(assigned[1] if assigned else text) is not None


def _assignment(answer: str, gold: str) -> Verdict | None:
    want = _assigned(gold)
    if want is None:
        return _equation(answer, gold)
    name, value = want
    have = _assigned(answer)
    if have is not None and have[0] and name and have[0] != name:
        return False, f"{have[0]} is not {name}"
    same = _grade(have[1] if have is not None else answer, value)
    return same.correct, same.reason


def _equation(answer: str, gold: str) -> Verdict | None:
    """An equation with variables on its left, such as `x + y = 5`: the difference of the sides, up to its sign."""
    sides = [[*map(_tree, split_top(text, _EQUALS))] for text in (answer, gold)]
    if len(sides[1]) != 2 or None in sides[1]:
        return None
    if len(sides[0]) != 2 or None in sides[0]:
        return False, "no equation"
    (a, b), (c, d) = sides
    have, want = ("+", a, ("neg", b)), ("+", c, ("neg", d))
    return algebra.equal(have, want)[0] or algebra.equal(have, ("neg", want))[0], "compared as equations"


def _tree(text: str) -> Tree | None:
    try:
        return parse(text)
    except NotAnExpression:
        return None


def _number(answer: str, gold: str) -> Verdict | None:
    want = quantities.quantity(gold) or quantities.constant(gold)
    if (
        want is None
        or quantities.DECADE.fullmatch(gold)
        or (want.unit is None and not _expression_like(gold) and not quantities.quantity(gold))
    ):
        return None
    for text in dict.fromkeys((answer, value_of(answer))):
        have = quantities.quantity(text) or quantities.constant(text)
        if have is None:
            continue
        if want.unit is None and quantities.DECADE.fullmatch(text):
            return False, "a decade is no number"
        if have.counted and want.unit is None and have.value != ONE and not is_plural(have.counted):
            return False, f"what is meant by {have.counted!r} is not clear"
        return quantities.same_quantity(have, want)
    if roman(gold) and same_text(answer, gold):
        return True, "the same numeral"
    labelled = choices.choice(answer)
    if labelled is not None and labelled.content:
        return _grade(labelled.content, gold).correct, "compared by the content after the letter"
    have_tree = _tree(value_of(answer)) if want.unit is None and _expression_like(answer) else None
    return algebra.equal(have_tree, want.value) if have_tree is not None else (False, "not a number")


_NOT_MATHS = re.compile(  # a range, a date or a decade; words joined by a slash or a hyphen; a move in chess
    rf"{quantities.RANGE.pattern}|{quantities.DECADE.pattern}|"
    r"[^\W\d_]{2,}(?: ?[/-] ?[^\W\d_]{2,})+|[KQRBN]?[a-h]?[1-8]?[x-]?[a-h][1-8](?:=?[QRBN])?[+#]?"
)


_FUNCTION = re.compile(r"\b(?:(?:arc|a)?(?:sin|cos|tan)|cot|sec|csc|log|ln|exp|sqrt)\b")
_OPERATOR = re.compile(r"[+*/^√∛!|×·π∞]|\\frac|\d ?[^\W\d_]|[\w)] ?- ?[\w(]|^-|[^\W\d_]\(")


def _expression_like(text: str) -> bool:
    """Whether a text that parses is meant as mathematics: it has an operator or a coefficient, and no words."""
    if _NOT_MATHS.fullmatch(text):
        return False
    if re.search(r"[^\W\d_]{3}", text) and not re.search(r"[\d+*/^√=|(×·\\]", text) and not _FUNCTION.search(text):
        return False
    return bool(_FUNCTION.search(text) or _OPERATOR.search(text))


def _expression(answer: str, gold: str) -> Verdict | None:
    want = _tree(gold)
    variable = len(gold) == 1 and gold.isalpha() and _expression_like(answer)
    if want is None or not (_expression_like(gold) or variable or gold in ("e", "i")):
        return None
    assigned = _assigned(answer)
    have = _tree(assigned[1] if assigned is not None and assigned[0] not in symbols(want) else answer)
    if have is None:
        return same_text(answer, gold) and answer == gold, "no expression"
    return algebra.equal(have, want)


def _text(answer: str, gold: str) -> Verdict:
    answer, gold = ungrouped(answer), ungrouped(gold)
    if same_text(answer, gold):
        return True, "the same text"
    labelled = choices.choice(answer)
    if labelled is not None and labelled.content and same_text(labelled.content, gold):
        return True, "the same text after the letter"
    return False, "another text"


RULES: tuple[tuple[str, Callable[[str, str], Verdict | None]], ...] = (
    ("choice", _choice),
    ("yes or no", _yes_no),
    ("formula", compare_formulas),
    ("ratio or time", _ratio),
    ("interval", _interval),
    ("list", _list),
    ("assignment", _assignment),
    ("number", _number),
    ("expression", _expression),
    ("text", _text),
)


def _grade(answer: str, gold: str) -> Grade:
    """Grade two canonical texts by the first rule that knows the gold one."""
    if unanswered(answer, gold):
        return Grade(False, "no answer")
    if _depth.get() >= DEPTH:
        return Grade(answer == gold, "nested too deep to compare", "text")
    outside = _depth.set(_depth.get() + 1)
    try:
        return _by_rule(answer, gold)
    finally:
        _depth.reset(outside)


def _by_rule(answer: str, gold: str) -> Grade:
    for kind, rule in RULES:
        try:
            verdict = rule(answer, gold)
        except TooLarge as error:
            verdict = answer == gold, f"too large to compare: {error}"
        if verdict is not None:
            return Grade(verdict[0] or answer == gold, verdict[1], kind)
    raise AssertionError("text is compared last, whatever it is")


def _same(answer: str, gold: str) -> bool:
    return _grade(canonical(answer), canonical(gold)).correct


def grade(answer: str | None, gold: str, options: Sequence[str] | None = None) -> Grade:
    """Whether an answer is worth the same as the gold one, and why; any text at all gets a verdict, within 2 seconds.

    `options` are the choices in their order, where they are known: then a letter and its option's text are one.
    Raises InputError for what is no text, AlgebraError where sympy cannot be started, which is no fault of the answer.
    """
    if not isinstance(answer, str | None) or not isinstance(gold, str):
        raise InputError(f"both must be texts, not {answer!r} and {gold!r}", field="answer")
    if isinstance(options, str):
        raise InputError("must be a list of texts, not one text", field="options")
    if answer is None:
        return Grade(False, "no answer found")
    if max(len(answer), len(gold)) > LONGEST:
        return Grade(bool(answer.strip()) and answer.strip() == gold.strip(), "longer than is compared", "text")
    have, want = canonical(answer), canonical(gold)
    if unanswered(have, want):
        return Grade(False, "no answer")
    if not want:
        return Grade(False, "the gold answer is empty")
    token = algebra.allowance.set([algebra.TIME_LIMIT])
    try:
        if options is not None and (verdict := _options_verdict(have, want, options)) is not None:
            return Grade(*verdict, "choice")
        return _grade(have, want)
    except TooLarge as error:
        return Grade(have == want, f"too large to compare: {error}")
    finally:
        algebra.allowance.reset(token)
