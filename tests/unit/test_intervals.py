"""Intervals and tests against values known from elsewhere, and what must hold of all of them."""

import math
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_r1.bench.intervals import clustered, holm, paired, student, unpaired, wilson


def pairs(both: int, first: int, second: int, neither: int) -> tuple[list[Fraction], list[Fraction]]:
    """Two runs with one sample a question, from the four cells of their table."""
    cells = [(1, 1)] * both + [(1, 0)] * first + [(0, 1)] * second + [(0, 0)] * neither
    return [Fraction(a) for a, _ in cells], [Fraction(b) for _, b in cells]


@pytest.mark.parametrize(
    ("right", "count", "bounds"),
    [  # Newcombe 1998 (single proportion), Table I, method 3
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson(right, count, bounds):
    assert wilson(right, count) == pytest.approx(bounds, abs=5e-5)


def test_wilson_of_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (9, 2.262), (30, 2.042), (1000, 1.962)]
)
def test_student(freedom, quantile):
    assert student(freedom) == pytest.approx(quantile, rel=1.2e-3)


def test_unpaired_is_newcombes():
    # Newcombe 1998 (two independent proportions), Table II, method 10: 56/70 - 48/80 and 9/10 - 3/10
    assert unpaired(56 / 70, 48 / 80, 70, 80).interval == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert unpaired(9 / 10, 3 / 10, 10, 10).interval == pytest.approx((0.1705, 0.8090), abs=5e-5)


def mcnemar(first: int, second: int) -> float:
    """By the binomial's own sum."""
    count, most = first + second, max(first, second)
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(most, count + 1)) / 2**count) if count else 1.0


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
def test_with_one_sample_the_paired_test_is_mcnemars(both, first, second, neither):
    found = paired(*pairs(both, first, second, neither))
    assert found.p == pytest.approx(mcnemar(first, second), rel=1e-9)
    assert found.value == pytest.approx((first - second) / (both + first + second + neither))


def test_known_paired_figures():
    found = paired(*pairs(20, 12, 2, 16))
    assert found.p == pytest.approx(0.012939453125)  # binom.test(2, 14)
    # Bonett and Price: (12 - 2) / 52 -+ z sqrt(((13 + 3) / 52 - (10 / 52)^2) / 52)
    assert found.interval == pytest.approx((0.1923 - 0.1414, 0.1923 + 0.1414), abs=2e-4)
    assert found.excludes_zero


def test_the_paired_test_of_several_samples_counts_all_ways_to_swap():
    one = [Fraction(n, 4) for n in (4, 3, 2, 4, 1, 0, 3)]
    other = [Fraction(n, 4) for n in (1, 3, 1, 0, 2, 0, 2)]
    differences = [a - b for a, b in zip(one, other, strict=True)]
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((1, -1), repeat=7)]
    assert paired(one, other).p == pytest.approx(sum(s >= abs(sum(differences)) for s in sums) / 128)


def test_questions_needed():
    # 30 % of questions tell the two apart, by 10 points: (1.96 sqrt(0.3) + 0.84 sqrt(0.3 - 0.01))^2 / 0.01 = 233
    found = paired(*pairs(400, 200, 100, 300))
    assert found.questions_needed == pytest.approx(233, abs=3)
    assert paired(*pairs(3, 2, 2, 3)).questions_needed is None
    assert unpaired(0.3, 0.2, 100).questions_needed == pytest.approx(291, abs=1)


@pytest.mark.parametrize(("better", "of"), [(40, 40), (37, 40), (32, 40), (23, 40), (19, 40), (12, 60)])
def test_questions_needed_where_one_run_is_better_in_all_that_differ(better, of):
    """The exact test needs six of them; their number is binomial."""

    def power(count: int) -> float:
        share = better / of
        return sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(6, count + 1))

    enough = next(count for count in range(6, 99) if power(count) >= 0.8)
    needed = paired(*pairs((of - better) // 2, better, 0, (of - better) - (of - better) // 2)).questions_needed
    assert abs(needed - enough) <= max(1, enough / 9) and needed >= 6


def test_no_questions_are_no_comparison():
    with pytest.raises(ValueError):
        paired([], [])


def test_one_sample_a_question_gives_wilsons_interval():
    assert clustered([1] * 7 + [0] * 3, [1] * 10) == (0.7, wilson(7, 10))


def test_samples_that_always_agree_count_once():
    share, bounds = clustered([1.0] * 30 + [0.0] * 70, [1] * 100, 400)
    assert share == 0.3 and bounds == pytest.approx(wilson(30, 100), abs=2e-3)
    share, bounds = clustered([4] * 100, [4] * 100)
    low, _ = wilson(100, 100)
    assert share == 1.0 and bounds == pytest.approx((low, 1.0), abs=2e-3)


def test_samples_that_know_nothing_of_their_question_count_each():
    hits = [2, 1, 3, 2] * 50  # of 4: less spread than chance
    assert clustered(hits, [4] * 200)[1] == pytest.approx(wilson(400, 800), abs=1e-3)


def test_one_question_says_little_however_often_it_is_asked():
    assert clustered([5], [8])[1][1] - clustered([5], [8])[1][0] > 0.7
    assert clustered([], []) is None and clustered([0], [0]) is None


shares = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(shares, st.randoms(use_true_random=False))
def test_order_changes_no_bit(cells, rng):
    shuffled = cells[:]
    rng.shuffle(shuffled)

    def all_of(listed):
        one, other = [Fraction(a, 4) for a, _ in listed], [Fraction(b, 4) for _, b in listed]
        return paired(one, other), clustered([a for a, _ in listed], [4] * len(listed))

    assert all_of(cells) == all_of(shuffled)


@given(shares)
def test_an_interval_holds_its_estimate_and_mirrors(cells):
    one, other = [Fraction(a, 4) for a, _ in cells], [Fraction(b, 4) for _, b in cells]
    found, mirrored = paired(one, other), paired(other, one)
    assert -1 <= found.interval[0] <= found.value <= found.interval[1] <= 1
    assert mirrored.interval == pytest.approx((-found.interval[1], -found.interval[0])) and mirrored.p == found.p
    assert 0 < found.p <= 1
    share, (low, high) = clustered([a for a, _ in cells], [4] * len(cells))
    assert 0 <= low <= share <= high <= 1


@given(st.integers(0, 50), st.integers(0, 50), st.integers(50, 90))
def test_an_unpaired_interval_holds_its_estimate(a, b, count):
    found = unpaired(a / count, b / count, count)
    assert found.interval[0] <= found.value <= found.interval[1] and found.p is None


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []
