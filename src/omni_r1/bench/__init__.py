"""Omni-Bench: questions in, graded records and figures with intervals out."""
