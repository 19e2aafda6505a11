"""Prompts as awkward as they come, and the checkpoints that the laws are tried on."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Picture

import omni_r1
from omni_r1 import shipped
from omni_r1.data.miniature.corpus import TASK_NAMES, trace_rows
from omni_r1.data.miniature.tiles import draw
from omni_r1.data.miniature.world import sample
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


def traces(omni: Omni, rows: int, seed: int) -> list[list[int]]:
    """The miniature's own: questions with their picture, bare, or with an answer begun that is cut off within or
    behind its first drawing."""
    rng, words = random.Random(seed), omni.vocabulary
    prompts = []
    for row, trace in enumerate(trace_rows(omni, rows, seed, TASK_NAMES, False, False)):
        ids, given = (rendered := words.render(trace)).ids, rendered.prompt_length
        drawing = ids.index(words.boi, given) + 1
        behind = rng.choice([words.image_length + 1, rng.randrange(words.image_length + 1)])
        prompts.append(ids[:given] if row % 3 == 0 else ids[: drawing + behind])
    return prompts


def pictured(omni: Omni) -> list[list[int]]:
    """One question about three pictures: scenes of the miniature's world, a model trained or not."""
    rng = np.random.default_rng(0)
    scenes = [Picture.fromarray(draw(sample("scene", rng).picture)) for _ in range(3)]
    question = "Name the colour of what is below the boat. <image>"
    return [omni.vocabulary.render(omni.prompt(question, [scene])).ids for scene in scenes]


@dataclass
class Case:
    """A checkpoint to try a law on, loaded. `trained`: its logits mean something, and its rows end by themselves."""

    path: Path
    omni: Omni
    trained: bool

    @classmethod
    def of(cls, path: Path) -> "Case":
        return cls(path, omni_r1.load(str(path)), path == shipped.MODEL)

    def options(self, mode: str) -> dict:
        """Greedy, with room for an answer, or for an image where the answer must do without text or drawings."""
        return {"mode": mode, "max_new_tokens": (400 if mode == "interleaved" else 70) if self.trained else 60}

    def within(self, mode: str) -> float:
        """What log-probs may be off by. The miniature kept from text or drawings is off the road it was trained on: its
        logits then hang on the last bits: even in one forward fp32 is off from fp64 by 2e-5.
        """
        return 1e-4 if self.trained and mode in ("text-only", "image-only") else 1e-5

    def prompts(self, rows: int, seed: int) -> list[list[int]]:
        """Of the kind the model was trained on, where it was."""
        return (traces if self.trained else ragged)(self.omni, rows, seed)
