"""What the model draws in the course of its training, so that a person can watch the pictures become right."""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from transformers import TrainerCallback

from omni_r1.files import write_atomic, writing
from omni_r1.model import Omni
from omni_r1.pesft.dataset import Rows
from omni_r1.pesft.losses import IGNORED
from omni_r1.pesft.packing import attention
from omni_r1.trajectory import Image as Codes
from omni_r1.trajectory import Text, Trajectory

COUNT, SEARCHED = 4, 256  # rows that are drawn, of the first so many
WORDS = 64  # tokens an answer may take beyond the longest of the data
GAP, LEAST, NARROWEST = 8, 128, 520  # of the sheet, in pixels: between pictures; a picture's side; the sheet's width
LETTER, LINE_HEIGHT, MOST_LINES = 6.2, 15, 3  # of the text: pixels, pixels, lines of what was said
PAPER, INK, FAINT = (255, 255, 255), (0, 0, 0), (170, 170, 170)


class SampleDrawings(TrainerCallback):
    """Every so many steps the greedy answers to some rows of the data, as `samples/step-N.png` and `step-N.json`.

    A row of the sheet has the pictures of a prompt, those drawn, and those of the data, with what was said below.
    """

    def __init__(self, omni: Omni, rows: Rows, folder: Path, every: int) -> None:
        self.omni, self.folder, self.every = omni, folder, every
        self.names: list[str] = []
        self.gold: list[Trajectory] = []
        longest = 0
        for index in range(min(len(rows), SEARCHED)):
            row = rows[index]
            prompt_length = int((row["labels"] != IGNORED).nonzero()[0])
            whole = omni.vocabulary.parse(row["input_ids"].tolist(), prompt_length)
            if whole.response_images and len(self.gold) < COUNT:
                self.names.append(row["name"])
                self.gold.append(whole)
                longest = max(longest, len(row["input_ids"]) - prompt_length)
        self.budget = longest + WORDS

    def on_step_end(self, args, state, control, **kwargs):
        if self.gold and state.is_world_process_zero and state.global_step % self.every == 0:
            self.draw(state.global_step)

    @torch.no_grad()
    def draw(self, step: int) -> None:
        """Nothing of the model or the generators is other than before. Raises InputError where the disk refuses."""
        model, training = self.omni.model, self.omni.model.training
        prompts = [Trajectory(whole.prompt) for whole in self.gold]
        model.eval()  # a checkpointed layer in training keeps no cache
        with attention(model, "sdpa"), torch.random.fork_rng(devices=[]):
            answers = self.omni.generate(prompts, max_new_tokens=self.budget)
        model.train(training)
        drawn = [answer.trajectory or prompt for answer, prompt in zip(answers, prompts, strict=True)]
        said = [
            {"row": name, "prompt": question(gold), "drawn": one.response_text, "gold": gold.response_text}
            | ({"error": answer.error} if answer.error else {})
            for name, one, gold, answer in zip(self.names, drawn, self.gold, answers, strict=True)
        ]
        file = self.folder / f"step-{step:06d}.png"
        with writing(file):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.sheet(f"step {step}", drawn).save(file)
        write_atomic(file.with_suffix(".json"), json.dumps(said, indent=1) + "\n")

    def sheet(self, title: str, drawn: Sequence[Trajectory]) -> Image.Image:
        """A row for each trajectory that was drawn: its title, three columns of pictures, its text and the data's."""
        rows = [
            [self.pictures(gold.images[: -len(gold.response_images)]), self.pictures(one.response_images)]
            + [self.pictures(gold.response_images)]
            for one, gold in zip(drawn, self.gold, strict=True)
        ]
        side = rows[0][2][0].width
        counts = [max(1, *(len(row[part]) for row in rows)) for part in range(3)]
        counts[1] = max(counts[1:])  # where pictures are missing there are frames
        lefts = [GAP + sum(counts[:part]) * (side + GAP) + part * 2 * GAP for part in range(3)]
        width = max(NARROWEST, lefts[2] + counts[2] * (side + GAP))
        texts = [
            (
                clipped(f"{name}: {question(gold)}", width, 1),
                clipped(f"drawn: {one.response_text}", width, MOST_LINES)
                + clipped(f"gold: {gold.response_text}", width, MOST_LINES),
            )
            for name, one, gold in zip(self.names, drawn, self.gold, strict=True)
        ]
        height = sum(side + 4 * GAP + LINE_HEIGHT * (len(above) + len(below)) for above, below in texts)
        sheet = Image.new("RGB", (width, height + LINE_HEIGHT + GAP), PAPER)
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
        for left, words in zip(lefts, (f"{title}: prompt", "drawn", "gold"), strict=True):
            pen.text((left, GAP / 2), words, INK, font)
        top = LINE_HEIGHT + GAP
        for row, (above, below) in zip(rows, texts, strict=True):
            pen.line((0, top, width, top), FAINT)
            pen.text((GAP, top + GAP / 2), above[0], INK, font)
            top += GAP + LINE_HEIGHT
            for left, pictures in zip(lefts, row, strict=True):
                for number, picture in enumerate(pictures):
                    sheet.paste(picture, (left + number * (side + GAP), top))
            for number in range(len(row[1]), len(row[2])):  # what should have been drawn too
                left = lefts[1] + number * (side + GAP)
                pen.rectangle((left, top, left + side - 1, top + side - 1), outline=FAINT)
            top += side + GAP
            for line in below:
                pen.text((GAP, top), line, INK, font)
                top += LINE_HEIGHT
            top += 2 * GAP
        return sheet

    def pictures(self, images: Sequence[Codes]) -> list[Image.Image]:
        """Small ones are shown larger, every pixel as it is."""
        if not images:
            return []
        codes = torch.tensor([image.codes for image in images], dtype=torch.long)
        found = self.omni.decode(self.omni.vocabulary.codes_to_tokens(codes))
        side = found[0].width * -(-LEAST // found[0].width)
        return [one.resize((side, side), Image.Resampling.NEAREST) for one in found]


def question(whole: Trajectory) -> str:
    """The text of a prompt, in one line."""
    return " ".join(" ".join(part.text for part in whole.prompt if isinstance(part, Text)).split())


def clipped(text: str, width: int, lines: int) -> list[str]:
    """Lines of the sheet's width; what does not fit is in the JSON beside it."""
    wide = int((width - 2 * GAP) / LETTER)
    return textwrap.wrap(text, wide, max_lines=lines, placeholder=" …", break_on_hyphens=False) or [""]
