"""The grading policy of docs/grading.md, pair by pair, and on texts that nobody wrote."""

import json
import random
import time
from pathlib import Path

import pytest

import grading_pairs
from omni_r1.errors import InputError
from omni_r1.perpo.reward import Grade, grade

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "grading.jsonl"
MATCH = [(kind, *pair) for kind, pairs in grading_pairs.MATCH.items() for pair in pairs]
DIFFER = [(kind, *pair) for kind, pairs in grading_pairs.DIFFER.items() for pair in pairs]
SLOWEST = 2.5  # seconds, on a machine that does other things too


def timed(answer, gold, options=None) -> Grade:
    began = time.monotonic()
    verdict = grade(answer, gold, options)
    assert time.monotonic() - began < SLOWEST, (answer, gold)
    assert verdict.reason and verdict.kind
    return verdict


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """Loading sympy is no part of a grade's time."""
    assert grade(r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}").kind == "number"


@pytest.mark.parametrize(("kind", "answer", "gold"), MATCH, ids=lambda text: str(text)[:24])
def test_match(kind, answer, gold):
    assert timed(answer, gold).correct


@pytest.mark.parametrize(("kind", "answer", "gold"), DIFFER, ids=lambda text: str(text)[:24])
def test_differ(kind, answer, gold):
    assert not timed(answer, gold).correct


@pytest.mark.parametrize(("answer", "gold", "options", "correct"), grading_pairs.WITH_OPTIONS)
def test_with_options(answer, gold, options, correct):
    assert timed(answer, gold, options).correct is correct


@pytest.mark.parametrize(("kind", "answer", "gold"), MATCH, ids=lambda text: str(text)[:24])
def test_every_answer_equals_itself(kind, answer, gold):
    assert timed(answer, answer).correct
    assert timed(gold, gold).correct


def test_reference_pairs():
    if not REFERENCE.exists():
        pytest.skip(f"the labelled pairs are not at {REFERENCE}")
    rows = [json.loads(line) for line in REFERENCE.read_text(encoding="utf-8").splitlines()]
    verdicts = [(row, timed(row["answer"], row["gold"])) for row in rows]
    assert [row for row, verdict in verdicts if verdict.correct and not row["should_match"]] == []
    assert sum(verdict.correct == row["should_match"] for row, verdict in verdicts) >= 0.97 * len(rows)


SEEDS = [text for _, *pair in [*MATCH, *DIFFER] for text in pair if text]
PIECES = [
    *"0123456789+-*/^!()[]{}|,.:;=<>%$€°√∞πx \\\n\0ABCab'\"",
    "**",
    "\\frac{",
    "\\sqrt{",
    "\\boxed{",
    "\\text{",
    "^{",
]
PIECES += [
    " or ",
    " and ",
    "9**9",
    "99!",
    "\u0301",
    "\U0001f600",
    "½",
    "²",
    "₂",
    "\\pm",
    "sin(",
    " cm",
    " million",
    "The answer is ",
]


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.randrange(1, 4)):
        at, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        change = rng.randrange(5)
        if change == 0:
            text = text[:at] + rng.choice(PIECES) * rng.choice([1, 1, 1, 2, 300]) + text[at:]
        elif change == 1:
            text = text[:at] + text[end:]
        elif change == 2:
            text = text[:at] + text[at:end] * rng.choice([2, 3, 40]) + text[end:]
        elif change == 3:
            text = text[:at] + rng.choice(SEEDS)[:200] + text[end:]
        else:
            text = "".join(rng.choice(PIECES) for _ in range(rng.randrange(12)))
        text = text[:2_500]
    return text


@pytest.mark.slow
def test_any_text_gets_a_verdict_in_time():
    rng = random.Random(0)
    for _ in range(4_000):
        answer, gold = rng.choice(SEEDS), rng.choice(SEEDS)
        gold = rng.choice([gold, answer, mutated(gold, rng)])
        timed(mutated(answer, rng), gold, rng.choice([None, None, None, [gold, answer, "A"]]))


def test_speed_without_algebra():
    pairs = [(a, g) for kind, a, g in MATCH if kind in ("integer", "choice", "text", "unit", "currency", "yes or no")]
    began = time.monotonic()
    for number in range(2_000):
        answer, gold = pairs[number % len(pairs)]
        grade(f"{answer} ", gold)
    assert time.monotonic() - began < 4  # far more than it takes: the machine may be busy


@pytest.mark.parametrize(("answer", "gold", "options"), [(5, "5", None), ("5", 5, None), ("red", "B", "red")])
def test_what_is_no_text_is_refused(answer, gold, options):
    with pytest.raises(InputError, match="must be"):
        grade(answer, gold, options)
