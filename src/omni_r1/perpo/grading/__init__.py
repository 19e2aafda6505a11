"""An answer against the gold one: compared by what the gold answer is, never by similarity (docs/grading.md)."""

from omni_r1.perpo.grading.answer import Grade, grade

__all__ = ["Grade", "grade"]
