"""Law 5: the prompt's image counts. Another picture gives other ids and other logits."""

import pytest
import torch
from PIL import Image as Picture
from PIL import ImageDraw

import omni_r1
from omni_r1.model import Omni
from omni_r1.trajectory import Image, Text, Trajectory
from tiny import write_checkpoint


@pytest.fixture(scope="module")
def omni(tmp_path_factory) -> Omni:
    return omni_r1.load(write_checkpoint(tmp_path_factory.mktemp("law5")))


def picture(colour: str, box: tuple[int, int, int, int]) -> Picture.Image:
    image = Picture.new("RGB", (40, 32), "white")
    ImageDraw.Draw(image).rectangle(box, fill=colour)
    return image


def prompt(omni: Omni, image: Picture.Image) -> Trajectory:
    codes = omni.vocabulary.tokens_to_codes(omni.encode([image]))[0].tolist()
    return Trajectory((Text("What is "), Image(tuple(codes)), Text("?\n")))


@torch.no_grad()
def test_another_picture(omni):
    pictures = [picture("red", (4, 4, 20, 20)), picture("blue", (4, 4, 20, 20)), picture("red", (18, 10, 34, 28))]
    rows = [omni.vocabulary.render(prompt(omni, image)).ids for image in pictures]
    logits = [omni.model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in rows]
    replies = omni.generate([prompt(omni, image) for image in pictures], max_new_tokens=40)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert rows[i] != rows[j]
        assert (logits[i] - logits[j]).abs().max() > 1e-3
        assert replies[i].logprobs != replies[j].logprobs
        assert replies[i].ids[replies[i].prompt_length :] != replies[j].ids[replies[j].prompt_length :]


def test_the_same_picture(omni):
    first, second = (prompt(omni, picture("red", (4, 4, 20, 20))) for _ in range(2))
    assert first == second
