"""How often intervals hold the truth, and equal runs are called different: `python benchmarks/coverage.py`.

Questions differ in how hard they are (a beta distribution), and each is answered several times. 20 seconds.
"""

import argparse
from fractions import Fraction
from typing import Any

import numpy as np
from tables import markdown

from omni_r1.bench.intervals import LEVEL, clustered, paired

# Questions, samples of each, and the beta distribution of the share of right samples.
SHARES = (
    *((20, 4, 2.0, 2.0), (100, 4, 0.5, 0.5), (100, 1, 1.0, 9.0), (30, 8, 0.3, 3.0), (100, 4, 8.0, 0.5)),
    *((10, 4, 1.0, 1.0), (100, 4, 50.0, 50.0)),
)
# Questions, samples of each, the beta distribution of both runs, and the most that the second adds to a share.
PAIRS = (
    *((100, 1, 1.0, 1.0, 0.0), (20, 1, 9.0, 0.5, 0.0), (100, 4, 1.0, 1.0, 0.0), (30, 8, 20.0, 20.0, 0.0)),
    *((100, 1, 1.0, 4.0, 0.1), (30, 4, 2.0, 2.0, 0.2), (400, 4, 0.5, 0.5, 0.1)),
)


def shares(rng: np.random.Generator, draws: int) -> list[dict[str, Any]]:
    rows = []
    for questions, samples, a, b in SHARES:
        held = 0
        for _ in range(draws):
            right = rng.binomial(samples, rng.beta(a, b, questions))
            found = clustered(list(map(float, right)), [samples] * questions)
            assert found is not None
            held += found[1][0] <= a / (a + b) <= found[1][1]
        name = f"share {a / (a + b):.2f}, beta({a:g}, {b:g})"
        rows.append({"what": name, "questions": questions, "samples": samples, "held": f"{held / draws:.1%}"})
    return rows


def pairs(rng: np.random.Generator, draws: int) -> list[dict[str, Any]]:
    rows = []
    for questions, samples, a, b, gain in PAIRS:
        truth = gain * b / (a + b)
        held = called = 0
        for _ in range(draws):
            first = rng.beta(a, b, questions)
            second = first + gain * (1 - first)
            one, other = (
                [Fraction(int(right), samples) for right in rng.binomial(samples, share)] for share in (second, first)
            )
            found = paired(one, other)
            assert found.p is not None
            held += found.interval[0] <= truth <= found.interval[1]
            called += found.p < LEVEL
        name = f"difference {truth:.3f}, beta({a:g}, {b:g})"
        row = {"what": name, "questions": questions, "samples": samples, "held": f"{held / draws:.1%}"}
        rows.append(row | {"called different": f"{called / draws:.1%}"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    print(markdown(shares(rng, args.draws)))
    print(markdown(pairs(rng, args.draws)))


if __name__ == "__main__":
    main()
