"""How much each part of a reward counts: everything there is to choose, in one place."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from omni_r1.errors import InputError
from omni_r1.perpo.reward.perception import Map

Rules = Literal["own", "original"]
Perception = Literal["band", "smoothness", "hidden", "none"]
Aggregate = Literal["mean", "min", "max", "median"]
Missing = Literal["zero", "rescale"]


@dataclass(frozen=True)
class Profile:
    """R = accuracy * R_acc + format * R_fmt + perception * R_pe (paper eq 12); the weights sum to 1 at most.

    look: what R_pe is made of, for each image: `band` (`Band.score`), `smoothness` (paper eq 4 to 9), `hidden` (the
    distance of PeSFT's projection), `none`. tau and map turn an energy or a distance into a score, aggregate makes one
    of the images'. missing: where a response has no image, R_pe is `zero`, or the other weights are scaled up to make
    up for it (`rescale`, the original's). only_right: R_pe counts with a right answer only. rules: how the answer is
    graded, the format read and the images found, `own` or as in the `original`.

    Raises InputError naming the field.
    """

    accuracy: float
    format: float
    perception: float
    look: Perception = "smoothness"
    tau: float = 3.0
    map: Map = "inv"
    aggregate: Aggregate = "mean"
    missing: Missing = "zero"
    only_right: bool = False
    rules: Rules = "own"

    def __post_init__(self) -> None:
        weights = {name: getattr(self, name) for name in ("accuracy", "format", "perception")}
        for name, value in {**weights, "tau": self.tau}.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise InputError(f"must be a number from 0, not {value!r}", field=name)
        if sum(weights.values()) > 1 + 1e-9 or not self.accuracy + self.format:
            told = ", ".join(f"{name} {value:g}" for name, value in weights.items())
            raise InputError(f"weights of {told}: at most 1 in all, and not perception's alone", field="accuracy")
        if not self.tau:
            raise InputError("must be a number above 0, not 0", field="tau")
        choices = {"look": Perception, "map": Map, "aggregate": Aggregate, "missing": Missing, "rules": Rules}
        for name, kinds in choices.items():
            if getattr(self, name) not in get_args(kinds):
                raise InputError(f"must be one of {', '.join(get_args(kinds))}", field=name)
        if self.rules == "original" and self.look != "smoothness":
            raise InputError("the original's rules have only smoothness", field="look")
        if self.rules == "original" and self.only_right:
            raise InputError("the original's rules always count the perception reward", field="only_right")


PROFILES = {
    # Equations 4 to 12. Weights and tau are not in the paper: they are what the released code takes by default.
    "paper": Profile(accuracy=0.855, format=0.095, perception=0.05, look="smoothness", tau=3.0, aggregate="mean"),
    # The released code, defects included (`original`): its weights without an image are 0.9 and 0.1.
    "original": Profile(
        accuracy=0.855,
        format=0.095,
        perception=0.05,
        look="smoothness",
        tau=3.0,
        aggregate="min",
        missing="rescale",
        rules="original",
    ),
    # An answer decides: a wrong one gets 0.1 at most, a right one 0.8 at least, and no drawing changes that order.
    # Looks count with a right answer only: in a group of wrong ones they would be all that differs, and after
    # normalisation by the group's deviation weigh as much as an answer. Without an image R_pe is 0, so that drawing
    # never costs against not drawing; and 0.1 for looks is as much as for the format, less than any answer.
    "default": Profile(
        accuracy=0.8, format=0.1, perception=0.1, look="band", aggregate="mean", missing="zero", only_right=True
    ),
}
