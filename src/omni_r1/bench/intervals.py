"""Intervals and tests of shares, in closed form: no resampling, no seed, the same bytes for records in any order.

All intervals are of 95 %, all tests two-sided.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

import numpy as np

Bounds = tuple[float, float]

LEVEL = 0.05  # below such a p-value a difference counts as shown
POWER = 0.8  # the chance to see a difference that `questions_needed` plans for
Z = NormalDist().inv_cdf(1 - LEVEL / 2)
Z_POWER = NormalDist().inv_cdf(POWER)
FEWEST = math.ceil(1 - math.log2(LEVEL))  # questions that differ, all one way, for the exact test to see it: 2 / 2^6


def student(freedom: int) -> float:
    """Student's 0.975 quantile, within 0.13 % (Cornish and Fisher's expansion; exact for one and two degrees)."""
    if freedom == 1:
        return math.tan(math.pi * (0.5 - LEVEL / 2))
    if freedom == 2:
        q = 1 - LEVEL
        return q * math.sqrt(2 / (1 - q * q))
    terms = (
        Z,
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def wilson(right: float, count: float) -> Bounds:
    """Wilson's score interval of a share (Wilson 1927). An empty sample gives (0, 1)."""
    if count <= 0:
        return 0.0, 1.0
    share = right / count
    middle = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count)) / (1 + Z * Z / count)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def clustered(hits: Sequence[float], sizes: Sequence[float], trials: int | None = None) -> tuple[float, Bounds] | None:
    """Share of hits where those of one question hang together, and its interval; None of nothing.

    `hits` and `sizes`: a number a question, its hits and of how many. The interval is Wilson's for as many independent
    trials as would vary as much between questions, adjusted for few questions (Korn and Graubard 1998). `trials`: all
    there are, by default the sum of the sizes. With one trial a question it is Wilson's interval itself.
    """
    total = math.fsum(sizes)
    if not total:
        return None
    share = min(1.0, math.fsum(hits) / total)
    trials = round(total) if trials is None else trials
    used = sum(size > 0 for size in sizes)
    spread = math.fsum((hit - share * size) ** 2 for hit, size in zip(hits, sizes, strict=True)) / total**2
    if trials == used:
        effective = float(used)
    elif used == 1:
        effective = 1.0
    else:
        known = share * (1 - share)
        effective = min(trials, known / spread) if spread and known else trials if known else used
        effective *= (student(trials - 1) / student(used - 1)) ** 2
    return share, wilson(share * effective, effective)


@dataclass(frozen=True)
class Difference:
    """Share of the one less that of the other, its interval, and how it was tested."""

    value: float
    interval: Bounds
    p: float | None  # None where only shares are known, not who had which question right
    questions_needed: int | None  # for a difference of this size to be seen; None of no difference

    @property
    def excludes_zero(self) -> bool:
        return not self.interval[0] <= 0 <= self.interval[1]


def unpaired(one: float, other: float, count: int, other_count: int | None = None) -> Difference:
    """Difference of two shares of which nothing but their sizes is known (Newcombe 1998, method 10)."""
    other_count = count if other_count is None else other_count
    low, high = wilson(one * count, count)
    other_low, other_high = wilson(other * other_count, other_count)
    value = one - other
    below = math.hypot(one - low, other_high - other)
    above = math.hypot(high - one, other - other_low)
    variance = one * (1 - one) + other * (1 - other)
    return Difference(value, (value - below, value + above), None, _needed(value, variance, variance))


def paired(one: Sequence[Fraction], other: Sequence[Fraction]) -> Difference:
    """Difference of two runs on the same questions, each given by its share of right samples for each question.

    The test swaps the two runs' answers to a question in all possible ways (paired permutation test, exact). With one
    sample a question it is McNemar's exact test. The interval adds two questions, each run better by one sample in one
    of them; with one sample a question it is Bonett and Price's (2012).
    """
    if len(one) != len(other) or not one:
        raise ValueError("two runs are compared on the same questions, one at least")
    differences = [a - b for a, b in zip(one, other, strict=True)]
    grid = math.lcm(*(share.denominator for share in (*one, *other)))
    steps = [int(difference * grid) for difference in differences]
    count, total, squares = len(steps), sum(steps), sum(step * step for step in steps)
    middle = total / grid / (count + 2)
    variance = (squares + 2) / grid**2 / (count + 2) - middle**2
    half = (student(count - 1) if grid > 1 and count > 1 else Z) * math.sqrt(variance / (count + 2))
    value = total / grid / count
    interval = max(-1.0, min(value, middle - half)), min(1.0, max(value, middle + half))
    needed = _needed(value, variance, variance + middle**2)
    if needed is not None:  # a sum of fewer is never far enough from zero
        needed = max(needed, math.ceil(FEWEST * count / sum(map(bool, steps))))
    return Difference(value, interval, _permutation_p(steps), needed)


def _permutation_p(differences: Sequence[int]) -> float:
    """Probability that the sum of `differences`, each with a sign drawn anew, is as far from zero as it is."""
    weights = sorted(abs(step) for step in differences if step)
    observed = abs(sum(differences))
    if not observed:
        return 1.0
    unit = math.gcd(*weights)
    weights, observed = [weight // unit for weight in weights], observed // unit
    sums = np.zeros(sum(weights) + 1)  # sums[s]: probability that those of positive sign add up to s
    sums[0] = 1.0
    for weight in weights:
        drawn = sums / 2
        drawn[weight:] += sums[:-weight] / 2
        sums = drawn
    return min(1.0, 2 * math.fsum(sums[(sum(weights) + observed) // 2 :]))


def _needed(value: float, variance: float, null: float) -> int | None:
    """Questions for which a difference is found by chance POWER, from its variance for one question, and that under
    the hypothesis of none (Connor 1987)."""
    spread = Z * math.sqrt(null) + Z_POWER * math.sqrt(variance)
    return math.ceil((spread / value) ** 2) if value else None


def holm(values: Sequence[float]) -> list[float]:
    """P-values of several tests, adjusted so that the chance of any false alarm stays LEVEL (Holm 1979)."""
    adjusted, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = least
    return adjusted
