"""Omni-R1-Zero: chains of thought in text alone, to trajectories whose steps a model has drawn (paper, section 4.2)."""
