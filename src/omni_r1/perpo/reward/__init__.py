"""What a trajectory is worth: pure functions, no engine, no input or output."""

from omni_r1.perpo.grading import Grade, grade
from omni_r1.perpo.reward.band import Band
from omni_r1.perpo.reward.compose import Judge, Response, Reward, score
from omni_r1.perpo.reward.format import Verdict, format_of
from omni_r1.perpo.reward.perception import energies, smoothness
from omni_r1.perpo.reward.profile import PROFILES, Profile

__all__ = [
    "PROFILES",
    "Band",
    "Grade",
    "Judge",
    "Profile",
    "Response",
    "Reward",
    "Verdict",
    "energies",
    "format_of",
    "grade",
    "score",
    "smoothness",
]
