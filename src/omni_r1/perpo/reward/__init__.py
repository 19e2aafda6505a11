"""What a trajectory is worth: pure functions, no engine, no input or output."""

from omni_r1.perpo.reward.answer import Grade, grade

__all__ = ["Grade", "grade"]
