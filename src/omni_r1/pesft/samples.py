"""What the model draws in the course of its training, so that a person can watch the pictures become right."""

import json
from pathlib import Path

import torch
from PIL import Image
from transformers import TrainerCallback

from omni_r1.files import writing
from omni_r1.model import Omni
from omni_r1.pesft.dataset import Rows
from omni_r1.pesft.losses import IGNORED
from omni_r1.pesft.packing import attention
from omni_r1.trajectory import Trajectory

COUNT, SEARCHED = 4, 256  # rows that are drawn, of the first so many
GAP, PAPER, LINE = 6, (255, 255, 255), (120, 120, 120)  # of the sheet: pixels, colours


class SampleDrawings(TrainerCallback):
    """Every so many steps the greedy answers to some rows of the data, as `samples/step-N.png` and `step-N.json`.

    A row of the sheet has the pictures of a prompt, those drawn, and behind a line those of the data.
    """

    def __init__(self, omni: Omni, rows: Rows, folder: Path, every: int) -> None:
        self.omni, self.folder, self.every = omni, folder, every
        self.gold: list[Trajectory] = []
        for index in range(min(len(rows), SEARCHED)):
            row = rows[index]
            prompt_length = int((row["labels"] != IGNORED).nonzero()[0])
            whole = omni.vocabulary.parse(row["input_ids"].tolist(), prompt_length)
            if whole.response_images and len(self.gold) < COUNT:
                self.gold.append(whole)
        longest = [len(omni.vocabulary.render(whole).ids) for whole in self.gold]
        self.budget = max(longest, default=0)  # what the data needs, prompts included

    def on_step_end(self, args, state, control, **kwargs):
        if self.gold and state.is_world_process_zero and state.global_step % self.every == 0:
            self.draw(f"step-{state.global_step:06d}")

    @torch.no_grad()
    def draw(self, name: str) -> None:
        model = self.omni.model
        prompts = [Trajectory(whole.prompt) for whole in self.gold]
        training = model.training
        model.eval()  # a checkpointed layer in training keeps no cache
        with attention(model, "sdpa"), torch.random.fork_rng(devices=[]):
            answers = self.omni.generate(prompts, max_new_tokens=self.budget)
        model.train(training)
        drawn = [answer.trajectory for answer in answers]
        sheet = self.sheet(prompts, drawn)
        with writing(self.folder / name):
            self.folder.mkdir(parents=True, exist_ok=True)
            sheet.save(self.folder / f"{name}.png")
            said = [{"drawn": one.response_text, "gold": two.response_text} for one, two in zip(drawn, self.gold)]
            (self.folder / f"{name}.json").write_text(json.dumps(said, indent=1) + "\n")

    def sheet(self, prompts: list[Trajectory], drawn: list[Trajectory]) -> Image.Image:
        rows = [
            [self.pictures(side) for side in (prompt.images, answer.response_images, gold.response_images)]
            for prompt, answer, gold in zip(prompts, drawn, self.gold, strict=True)
        ]
        side = rows[0][2][0].width
        widths = [max(len(row[part]) for row in rows) for part in range(3)]
        sheet = Image.new("RGB", (sum(widths) * (side + GAP) + 3 * GAP, len(rows) * (side + GAP) + GAP), PAPER)
        line = GAP + (widths[0] + widths[1]) * (side + GAP)
        sheet.paste(LINE, (line, 0, line + 1, sheet.height))
        for down, row in enumerate(rows):
            across = [GAP, GAP + widths[0] * (side + GAP), line + GAP]
            for left, pictures in zip(across, row, strict=True):
                for number, picture in enumerate(pictures):
                    sheet.paste(picture, (left + number * (side + GAP), GAP + down * (side + GAP)))
        return sheet

    def pictures(self, images: list) -> list[Image.Image]:
        codes = torch.tensor([image.codes for image in images], dtype=torch.long)
        return self.omni.decode(self.omni.vocabulary.codes_to_tokens(codes)) if images else []
