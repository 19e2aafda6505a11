"""Prompts as awkward as they come."""

import random

from omni_r1.model import Omni


def ragged(omni: Omni, rows: int, seed: int) -> list[list[int]]:
    """Prompts of 1 to some 70 tokens: text, whole images, images left open after 0 to all of their codes."""
    rng, words = random.Random(seed), omni.vocabulary
    codes = words.codes.tolist()
    prompts = []
    for row in range(rows):
        ids = [words.bos, *words.encode_text("".join(rng.choices("abc de fgh.", k=rng.randrange(40))))]
        if row % 3 == 1:
            ids += [words.boi, *rng.choices(codes, k=words.image_length), words.eoi]
        if row % 4 == 1:
            ids += [words.boi, *rng.choices(codes, k=rng.choice([0, 1, 7, words.image_length]))]
        prompts.append(ids)
    return prompts
