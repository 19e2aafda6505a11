"""What the paper of Omni-R1 (arXiv 2601.09536 v1) prints: its Tables 2, 3 and 4, as rows to set runs beside.

They are shares without their questions: nobody published who had which question right, the grader (a language model
without a name) or the number of samples. So two rows differ by an unpaired interval, from the shares and their sizes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from omni_r1.bench.intervals import Difference, unpaired, wilson
from omni_r1.bench.statistics import OVERALL, weighted_average

SOURCE = "Omni-R1, arXiv 2601.09536 v1"
# Uni-Task of Omni-Bench -> its questions (Table 1).
SLICES = {"natural": 100, "structured": 200, "diagrammatic": 200, "vision-operational": 300}
TITLES = {
    "natural": "Natural-Scene Perception",
    "structured": "Structured-Image",
    "diagrammatic": "Diagrammatic Math",
    "vision-operational": "Vision-Operational Scenes",
}
COUNTS = SLICES | {OVERALL: sum(SLICES.values())}
# Benchmark of Table 3 -> its questions, and what its score is multiplied by in the mean.
GENERAL = {"MME-P": 1536, "MME-R": 280, "MM-Vet": 218, "V*": 191, "POPE": 3000, "MMVP": 300, "BLINK": 3807}
SCALE = {"MME-P": 0.1, "MME-R": 0.25}
SHARES = ("V*", "MMVP", "BLINK")  # scores that are shares of questions; POPE's is an F1, MM-Vet's has partial credit


@dataclass(frozen=True)
class Published:
    """A printed row: its scores by column, and its printed average."""

    table: int
    model: str
    scores: Mapping[str, float]
    average: float

    def recomputed(self) -> float:
        """The average from the row's own scores, unrounded; from whole counts of questions where they are known."""
        if self.table == 3:
            scaled = {name: score * SCALE.get(name, 1) for name, score in self.scores.items()}
            return weighted_average(scaled, dict.fromkeys(scaled, 1))
        exact = {
            name: score if (right := self.right(name)) is None else right / SLICES[name]
            for name, score in self.scores.items()
        }
        return weighted_average(exact, SLICES)

    def right(self, name: str) -> int | None:
        """How many questions of a Uni-Task a printed share stands for; None where no whole number of them gives it."""
        right = round(self.scores[name] * SLICES[name])
        return right if round(right / SLICES[name], self.digits) == self.scores[name] else None

    @property
    def digits(self) -> int:
        return 2 if self.table == 3 else 3

    def shares(self) -> dict[str, float]:
        """Tables 2 and 4: the printed accuracies under `overall` and the Uni-Tasks."""
        return {OVERALL: self.average, **self.scores}

    def figures(self) -> dict[str, dict]:
        """Tables 2 and 4: as the figures of a run, with Wilson's intervals for one sample a question."""
        within = {name: wilson(share * COUNTS[name], COUNTS[name]) for name, share in self.shares().items()}
        return {"count": dict(COUNTS), "accuracy": self.shares(), "interval": within}


def _rows(table: int, columns: Mapping[str, int], text: str) -> Iterator[Published]:
    for line in text.strip().splitlines():
        model, *numbers = (cell.strip() for cell in line.split("|"))
        *scores, average = map(float, numbers)
        yield Published(table, model, dict(zip(columns, scores, strict=True)), average)


BENCH = tuple(
    _rows(
        2,
        SLICES,
        """
        Anole             | 0.180 | 0.140 | 0.055 | 0.027 | 0.081
        Zebra-CoT (Anole) | 0.398 | 0.130 | 0.073 | 0.077 | 0.129
        Omni-R1-M         | 0.440 | 0.135 | 0.115 | 0.093 | 0.152
        Omni-R1-L         | 0.420 | 0.175 | 0.090 | 0.090 | 0.152
        Omni-R1-Zero-T    | 0.450 | 0.165 | 0.095 | 0.087 | 0.154
        Omni-R1-Zero-S    | 0.340 | 0.145 | 0.090 | 0.097 | 0.138
        Omni-R1-Zero-M    | 0.410 | 0.170 | 0.120 | 0.093 | 0.159
        """,
    )
)
GENERAL_ROWS = tuple(
    _rows(
        3,
        GENERAL,
        """
        Anole             | 224.55 |  54.64 |  8.95 | 21.99 | 27.74 | 39.00 | 21.99 | 22.25
        Zebra-CoT (Anole) | 623.70 | 231.07 |  7.20 | 24.61 | 48.88 | 37.00 | 29.04 | 38.12
        Omni-R1-M         | 676.67 | 259.29 | 11.70 | 35.60 | 62.91 | 45.33 | 35.61 | 46.23
        Omni-R1-L         | 775.17 | 279.64 | 11.97 | 30.90 | 61.84 | 50.67 | 35.25 | 48.29
        Omni-R1-Zero-T    | 642.38 | 277.86 | 17.16 | 35.08 | 66.19 | 36.67 | 31.35 | 45.73
        Omni-R1-Zero-S    | 699.84 | 295.71 | 22.02 | 37.61 | 66.06 | 48.67 | 33.04 | 50.19
        Omni-R1-Zero-M    | 631.27 | 232.86 | 14.56 | 36.96 | 65.82 | 47.00 | 30.41 | 45.16
        """,
    )
)
ABLATION = tuple(
    _rows(
        4,
        SLICES,
        """
        Omni-R1-Zero-M        | 0.410 | 0.170 | 0.120 | 0.093 | 0.159
        without PeRPO         | 0.390 | 0.130 | 0.075 | 0.033 | 0.113
        without its perception reward | 0.330 | 0.150 | 0.085 | 0.080 | 0.130
        """,
    )
)
# Gains of the average in percent, as printed: model -> over Anole, over Zebra-CoT. Zebra-CoT's own is over Anole, and
# Anole's over Zebra-CoT.
GAINS = {
    2: {
        "Anole": (None, -37.2),
        "Zebra-CoT (Anole)": (59.3, None),
        "Omni-R1-M": (87.7, 17.8),
        "Omni-R1-L": (87.7, 17.8),
        "Omni-R1-Zero-T": (90.1, 19.4),
        "Omni-R1-Zero-S": (70.4, 7.0),
        "Omni-R1-Zero-M": (96.3, 23.3),
    },
    3: {
        "Anole": (None, -41.6),
        "Zebra-CoT (Anole)": (71.3, None),
        "Omni-R1-M": (107.8, 21.3),
        "Omni-R1-L": (117.0, 26.7),
        "Omni-R1-Zero-T": (105.5, 20.0),
        "Omni-R1-Zero-S": (125.5, 31.6),
        "Omni-R1-Zero-M": (102.9, 18.4),
    },
}


def differences(one: Published, other: Published) -> dict[str, Difference]:
    """How far two rows of one table are apart: `overall` and the Uni-Tasks, or those of Table 3 that are shares."""
    if one.table == 3:
        return {name: unpaired(one.scores[name] / 100, other.scores[name] / 100, GENERAL[name]) for name in SHARES}
    shares, others = one.shares(), other.shares()
    return {name: unpaired(shares[name], others[name], COUNTS[name]) for name in COUNTS}


def claims() -> Iterator[tuple[Published, Published]]:
    """The pairs of which the paper says that the first is better: each model over both baselines, all over less."""
    for rows in (BENCH, GENERAL_ROWS):
        anole, zebra, *models = rows
        yield zebra, anole
        for model in models:
            yield model, anole
            yield model, zebra
    whole, *less = ABLATION
    yield from ((whole, row) for row in less)
