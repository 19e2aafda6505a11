"""Which drawing of a step is taken, and which are not worth taking: pure functions of codes and scores.

A reason is one of a few short words to count by, as a data set's rejects have it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from omni_r1.perpo.reward import Band, energies
from omni_r1.trajectory import Image
from omni_r1.zero.draw import Candidate
from omni_r1.zero.options import BootstrapOptions

FLAT, UNLIKE, COPY = "flat", "unlike-pictures", "copy"
UNSURE, DISPUTED, DISAGREES, UNMOVED = "unsure", "disputed", "disagrees", "answer-unmoved"
SCORE_OF = {  # of which a drawing may have too little, by the reason it then gets; the first of them counts
    UNLIKE: "perception",
    COPY: "changed",
    UNSURE: "confidence",
    DISPUTED: "votes",
    DISAGREES: "agreement",
    UNMOVED: "answer_gain",
}


def commonest(codes: Sequence[int]) -> float:
    """Share of an image's codes that are the same one."""
    return torch.bincount(torch.tensor(codes)).max().item() / len(codes)


def changed(codes: Sequence[int], others: Sequence[Image]) -> float:
    """Share of the places where an image differs from the most alike of some others; 1 where there is none."""
    differing = [sum(a != b for a, b in zip(codes, other.codes, strict=True)) / len(codes) for other in others]
    return min(differing, default=1.0)


def perception_scores(candidates: Sequence[Candidate], band: Band, distances: Tensor) -> list[float]:
    """The calibrated perception score of each drawing (`Band.score`); `distances` as `code_distances` has them."""
    codes = torch.tensor([candidate.codes for candidate in candidates])
    return band.score(codes, energies(codes, distances)).tolist()


def fault(candidate: Candidate, options: BootstrapOptions) -> str | None:
    """Why a drawing is not taken, None where nothing speaks against it. What was not measured speaks for nothing."""
    if options.max_flat is not None and commonest(candidate.codes) > options.max_flat:
        return FLAT
    for reason, score in SCORE_OF.items():
        value, least = getattr(candidate, score), getattr(options, f"min_{score}")
        if value is not None and least is not None and value < least:
            return reason
    return None


def choose(candidates: Sequence[Candidate], faults: Sequence[str | None], by: str) -> int | None:
    """Place of the candidate that is taken, of those without a fault; None where all have one.

    `first` takes the first, `confidence` the one the sampler was surest of, `votes` one of the image that most of them
    are, the surest in a draw, `agreement` the one that its words say most about, and `answer` for the last step the
    one that makes the gold answer likeliest, before it as `votes`.
    """
    left = [place for place, reason in enumerate(faults) if reason is None]
    if not left:
        return None
    if by == "first":
        return left[0]

    def worth(place: int) -> tuple[float, ...]:
        one = candidates[place]
        scores = {
            "confidence": (one.confidence,),
            "votes": (one.votes, one.confidence),
            "agreement": (one.agreement or 0.0,),
            "answer": (one.answer_gain or 0.0, one.votes, one.confidence),
        }
        return (*scores[by], -place)

    return max(left, key=worth)
