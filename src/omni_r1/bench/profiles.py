"""Rules by which an answer is graded, a profile for each kind of source. None of them guesses.

A verdict says beside right or wrong whether there was anything to read: `parsed` is False for an answer that is no
choice where one is asked for, no number where a number is. docs/omni-bench.md says each profile in words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from omni_r1.bench import quantities
from omni_r1.bench.lenient import as_the_judge
from omni_r1.bench.sequences import same_step, steps_of
from omni_r1.bench.suites.suite import Item
from omni_r1.bench.suites.written_options import options_in
from omni_r1.perpo.grading import grade
from omni_r1.perpo.grading.canonical import canonical
from omni_r1.perpo.grading.choices import LETTERS, choice, contents_of
from omni_r1.perpo.grading.collections_of import collection
from omni_r1.perpo.grading.words import same_text, unanswered

TOLERANCE = Fraction(1, 20)  # of ChartQA's relaxed accuracy (Methani et al. 2020, PlotQA)
YEARS = range(1900, 2100)  # a gold answer of four digits in this range is a year


@dataclass(frozen=True)
class Verdict:
    """`parsed`: whether the answer could be read as what is asked for; `partial`: the share of a sequence's steps,
    from the first on, that are right."""

    correct: bool
    reason: str
    parsed: bool = True
    partial: float | None = None


Rule = Callable[[str, str, Item], Verdict]


def judged_by(profile: str, answer: str | None, item: Item) -> Verdict:
    """The verdict of a profile on a final answer, None where there is none. Raises AlgebraError as `grade` does."""
    if answer is None or unanswered(canonical(answer), canonical(item.gold or "")):
        return Verdict(False, "no answer", parsed=False, partial=0.0 if profile == "sequence" else None)
    return PROFILES[profile](answer, item.gold or "", item)


def strict(answer: str, gold: str, item: Item) -> Verdict:
    """docs/grading.md: exact values; the kind of answer is told by the gold one."""
    found = grade(answer, gold, item.options)
    return Verdict(found.correct, found.reason)


def by_choice(answer: str, gold: str, item: Item) -> Verdict:
    """A letter, however decorated, or the text of exactly one option. Anything else chooses nothing."""
    options = item.options or options_in(item.text)
    found = grade(answer, gold, options)
    said = choice(canonical(answer))
    texts = contents_of(options) if options else []
    parsed = found.correct or (said is not None and (not texts or str(said.letter) in LETTERS[: len(texts)]))
    parsed = parsed or sum(same_text(canonical(answer), text) for text in texts) == 1
    return Verdict(found.correct, found.reason if parsed else "no choice", parsed)


def relaxed(answer: str, gold: str, item: Item) -> Verdict:
    """Within 5 % of a gold number; a year and zero exactly; words and lists by the strict rules, lists by element."""
    wanted, given = collection(canonical(gold)), collection(canonical(answer))
    if wanted is not None and quantities.read(gold) is None:
        if given is None or len(given.elements) != len(wanted.elements):
            return Verdict(False, f"not {len(wanted.elements)} elements", given is not None)
        parts = [relaxed(one, other, item) for one, other in zip(given.elements, wanted.elements, strict=True)]
        wrong = next((part for part in parts if not part.correct), None)
        return wrong or Verdict(True, "every element")
    numbers = both_numbers(answer, gold, item)
    if isinstance(numbers, Verdict):
        return numbers
    have, want = numbers
    if is_year(gold) or want.value == 0:
        return Verdict(have.value == want.value, "a year, exactly" if want.value else "zero, exactly")
    near = any(abs(value - want.value) <= TOLERANCE * abs(want.value) for value in quantities.scaled(have, want))
    return Verdict(near, "within 5 %" if near else "more than 5 % off")


def both_numbers(answer: str, gold: str, item: Item) -> tuple[quantities.Number, quantities.Number] | Verdict:
    """The answer's and gold's, or where a tolerance has nothing to compare, the verdict of the strict rules."""
    want, have = quantities.read(gold), quantities.given(answer)
    if want is None:
        return strict(answer, gold, item)
    if have is None:
        found = grade(answer, gold)
        return Verdict(found.correct, found.reason if found.correct else "no number", found.correct)
    if not quantities.comparable(have, want):
        return Verdict(False, f"{have.unit} is not {want.unit}")
    return have, want


def is_year(gold: str) -> bool:
    return gold.strip().isdecimal() and len(gold.strip()) == 4 and int(gold) in YEARS


def number(answer: str, gold: str, item: Item) -> Verdict:
    """A typed number or expression by the strict rules; what is neither cannot be read where gold is one."""
    found = grade(answer, gold, item.options)
    if found.correct or quantities.read(gold) is None:
        return Verdict(found.correct, found.reason)
    parsed = quantities.is_expression(answer)
    return Verdict(False, found.reason if parsed else "no number and no expression", parsed)


def mathvista(answer: str, gold: str, item: Item) -> Verdict:
    """MathVista's normalisation by the answer's type, then equality; not its nearest option, which is a guess."""
    if item.options is not None or (item.kind is None and options_in(item.text) is not None):
        return by_choice(answer, gold, item)
    if item.kind == "list":
        if None in (collection(canonical(gold)), listed := collection(canonical(answer))):
            return Verdict(False, "no list", listed is not None)
        return strict(answer, gold, item)
    if item.kind not in ("integer", "float"):
        return strict(answer, gold, item)
    numbers = both_numbers(answer, gold, item)
    if isinstance(numbers, Verdict):
        return numbers
    have, want = numbers
    if item.kind == "integer":
        return Verdict(int(have.value) == int(want.value), "whole numbers, cut off")
    digits = 1 if item.precision is None else item.precision
    return Verdict(round(float(have.value), digits) == round(float(want.value), digits), f"rounded to {digits} digits")


def sequence(answer: str, gold: str, item: Item) -> Verdict:
    """Every step in its order. `partial`: how many of gold's steps are right before the first wrong one."""
    want, have = steps_of(gold), steps_of(answer)
    right = next((n for n, pair in enumerate(zip(have, want, strict=False)) if not same_step(*pair)), None)
    right = min(len(have), len(want)) if right is None else right
    correct = right == len(want) == len(have)
    reason = f"{right} of {len(want)} steps" + (f", {len(have) - len(want)} too many" * (len(have) > len(want)))
    return Verdict(correct, reason, bool(have), right / len(want) if want else 0.0)


def like_the_judge(answer: str, gold: str, item: Item) -> Verdict:
    """The paper's judge as rules: strict, and rounding, conversion of units, any order of a list, places of choices."""
    options = item.options or options_in(item.text)
    correct, reason = as_the_judge(answer, gold, options, options is not None or not item.text)
    return Verdict(correct, reason)


PROFILES: dict[str, Rule] = {
    "strict": strict,
    "judge": like_the_judge,
    "choice": by_choice,
    "relaxed": relaxed,
    "number": number,
    "mathvista": mathvista,
    "sequence": sequence,
}
