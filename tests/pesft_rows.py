"""Rows to train the smallest checkpoint on: a picture in, a word and a picture out."""

import json
from pathlib import Path

import numpy as np

from omni_r1.trajectory import Image, Text, plain
from tiny import CODES, SIDE


def write_rows(path: Path, count: int = 24) -> Path:
    """Prompts of unequal length."""
    draw = np.random.default_rng(0)
    with path.open("w") as out:
        for row in range(count):
            picture, step = (Image(tuple(draw.integers(CODES, size=SIDE * SIDE).tolist())) for _ in range(2))
            words = "What is this? " + "Look. " * (row % 3)
            out.write(json.dumps(plain([Text(words), picture], [Text("See: "), step], str(row)).to_json()) + "\n")
    return path
