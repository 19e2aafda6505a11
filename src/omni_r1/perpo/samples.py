"""What the policy answers in the course of its training, as run folders that `omni-r1 report` makes pages of."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image as Picture

from omni_r1.generate.questions import Question
from omni_r1.generate.run_folder import RunFolder, record_of
from omni_r1.model import Omni
from omni_r1.options import PerpoOptions
from omni_r1.perpo.prompts import seeds_of
from omni_r1.perpo.rollouts import Group
from omni_r1.run_record import RESULTS
from omni_r1.trajectory import IMAGE_MARK, Image, Text, Trajectory

QUESTIONS, RESPONSES = 4, 4  # that are shown of a step


def write_samples(folder: Path, groups: Sequence[Group], omni: Omni, options: PerpoOptions) -> None:
    """The first responses of the first groups of a step, with their rewards and the reasons for them.

    Raises InputError where the disk refuses.
    """
    run = RunFolder(folder, options, options.seed, log=RESULTS)
    order: list[tuple[str, int]] = []
    for number, group in enumerate(groups[:QUESTIONS], 1):
        seeds = seeds_of(group.draw, options.group_size, options.seed)
        for sample, one in enumerate(group.rollouts[:RESPONSES]):
            prompt = one.completion.trajectory.prompt if one.completion.trajectory else ()
            name = f"{group.prompt.name}, draw {group.draw + 1}"
            question = Question(name, shown(prompt), gold=group.prompt.gold, row=number)

            def store(picture: Picture.Image, name: str, number: int = number, sample: int = sample) -> str:
                return run.picture(picture, f"images/{number}-{sample + 1}-{name}")

            record, _ = record_of(question, sample, one.completion, pictures(prompt, omni), omni, store, seeds[sample])
            record["correct"] = one.reward.accuracy == 1
            record["reward"] = round(one.value, 4)
            record["reason"] = "; ".join(f"{part} {reason}" for part, reason in one.reward.reasons.items())
            run.add(record)
            order.append((question.id, sample))
    run.finish(order, {"suite": folder.name})


def shown(prompt: Sequence[Text | Image]) -> str:
    """A prompt's text, with a mark for each picture."""
    return "".join(part.text if isinstance(part, Text) else IMAGE_MARK for part in Trajectory(tuple(prompt)).prompt)


def pictures(prompt: Sequence[Text | Image], omni: Omni) -> list[Picture.Image]:
    codes = [part.codes for part in prompt if isinstance(part, Image)]
    return omni.decode(omni.vocabulary.codes_to_tokens(torch.tensor(codes))) if codes else []
