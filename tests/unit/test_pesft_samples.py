"""The sheets of drawings made in the course of training: right, and without any influence on it."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from safetensors.torch import load_file

import omni_r1
from omni_r1.generate import Completion
from omni_r1.model import Omni
from omni_r1.options import PesftOptions
from omni_r1.pesft.dataset import TrajectoryDataset
from omni_r1.pesft.packing import PACKED
from omni_r1.pesft.run import pesft
from omni_r1.pesft.samples import COUNT, GAP, LEAST, LINE_HEIGHT, SampleDrawings
from omni_r1.trajectory import Image, Text, Trajectory, plain
from pesft_rows import write_rows
from tiny import SIDE, write_checkpoint

STRIDE = LEAST + GAP


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def omni(checkpoint) -> Omni:
    return omni_r1.load(checkpoint)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("samples-rows") / "rows.jsonl")


def drawings(omni: Omni, data: Path, folder: Path) -> SampleDrawings:
    return SampleDrawings(omni, TrajectoryDataset(data, omni.vocabulary, 400), folder, 1)


def is_at(omni: Omni, image: Image, sheet: Picture.Image, left: int, top: int) -> bool:
    """But for the last bit of a colour: images decoded together may be rounded otherwise than alone."""
    (alone,) = omni.decode(omni.vocabulary.codes_to_tokens(torch.tensor([image.codes])))
    wanted = np.asarray(alone.resize((LEAST, LEAST), Picture.Resampling.NEAREST), dtype=int)
    return abs(np.asarray(sheet.crop((left, top, left + LEAST, top + LEAST)), dtype=int) - wanted).max() <= 1


def test_prompt_drawn_and_gold_lie_side_by_side(omni, data, tmp_path):
    samples = drawings(omni, data, tmp_path)
    assert len(samples.gold) == COUNT and len({len(whole.prompt[0].text) for whole in samples.gold}) > 1
    # Drawn by hand: the first row draws another row's picture twice, the others draw nothing.
    other = samples.gold[1].response_images[0]
    drawn = [Trajectory(whole.prompt) for whole in samples.gold]
    drawn[0] = Trajectory(drawn[0].prompt, (Text("So: "), other, other))
    sheet = samples.sheet("step 7", drawn)
    columns = (GAP, GAP + STRIDE + 2 * GAP, GAP + 3 * STRIDE + 4 * GAP)
    top = 2 * (LINE_HEIGHT + GAP)
    first = samples.gold[0]
    assert is_at(omni, first.prompt[1], sheet, columns[0], top)
    assert is_at(omni, other, sheet, columns[1], top) and is_at(omni, other, sheet, columns[1] + STRIDE, top)
    assert is_at(omni, first.response_images[0], sheet, columns[2], top)
    assert sheet.width >= columns[2] + STRIDE
    below = top + (sheet.height - LINE_HEIGHT - GAP) // COUNT  # all rows are as high: two lines of text
    assert is_at(omni, samples.gold[1].prompt[1], sheet, columns[0], below)
    missing = sheet.crop((columns[1], below, columns[1] + LEAST, below + LEAST)).getcolors()
    assert len(missing) == 2  # an empty frame where one should have been drawn
    assert samples.sheet("step 7", drawn).tobytes() == sheet.tobytes()
    assert samples.sheet("step 8", drawn).tobytes() != sheet.tobytes()


def test_what_is_drawn_is_the_greedy_answer(omni, data, tmp_path):
    samples = drawings(omni, data, tmp_path)
    samples.draw(3)
    samples.draw(4)
    found, again = (json.loads((tmp_path / f"step-00000{step}.json").read_text()) for step in (3, 4))
    wanted = omni.generate([Trajectory(whole.prompt) for whole in samples.gold], max_new_tokens=samples.budget)
    assert found == again
    assert [row["drawn"] for row in found] == [answer.trajectory.response_text for answer in wanted]
    assert [row["gold"] for row in found] == [f"See: <image_1>\nFinal Answer: {row}" for row in range(COUNT)]
    assert found[1]["row"] == "rows.jsonl:2" and found[1]["prompt"] == "What is this? Look."


@pytest.mark.parametrize("kind", ["sdpa", PACKED])
def test_model_and_generators_are_left_as_they_were(checkpoint, data, tmp_path, kind):
    omni = omni_r1.load(checkpoint)
    omni.model.set_attn_implementation(kind)
    omni.model.train()
    before = {name: weight.clone() for name, weight in omni.model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    drawings(omni, data, tmp_path).draw(1)
    assert omni.model.training and not omni.model.model.vqmodel.training
    assert omni.model.config._attn_implementation == kind
    assert all(torch.equal(weight, before[name]) for name, weight in omni.model.state_dict().items())
    assert all(weight.grad is None for weight in omni.model.parameters())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), str(np.random.get_state())) == states[1:]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("lora_rank", [0, 3])
def test_training_is_the_same_with_and_without(checkpoint, data, tmp_path, packing, lora_rank):
    found = []
    for every in (0, 2):
        options = PesftOptions(
            *(str(checkpoint), str(tmp_path / f"out-{every}")),
            train_data=str(data),
            learning_rate=1e-2,
            per_device_train_batch_size=2,
            max_steps=4,
            packing=packing,
            lora_rank=lora_rank,
            sample_steps=every,
        )
        pesft(options)
        folder = Path(options.output_path)
        found.append(load_file(folder / "model.safetensors") | load_file(folder / "perception.safetensors"))
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())
    made = sorted(file.name for file in (tmp_path / "out-2" / "samples").iterdir())
    assert made == ["step-000002.json", "step-000002.png", "step-000004.json", "step-000004.png"]
    assert not (tmp_path / "out-0" / "samples").exists()


def test_other_rows(omni, checkpoint, tmp_path, monkeypatch):
    """Without a prompt; without a drawing, which are passed over; and an answer that failed."""
    picture = Image(tuple(range(SIDE * SIDE)))
    rows = [plain([Text("Say.")], [Text("No.")], "1"), Trajectory((), (picture, Text("and "), picture), True)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows))
    samples = drawings(omni, data, tmp_path / "some")
    assert samples.names == ["rows.jsonl:2"]
    samples.draw(1)
    failed = Completion([], 0, error="too long")
    monkeypatch.setattr(Omni, "generate", lambda *_, **__: [failed])
    samples.draw(2)
    assert json.loads((tmp_path / "some" / "step-000002.json").read_text())[0]["error"] == "too long"
    data.write_text(json.dumps(rows[0].to_json()) + "\n")
    options = PesftOptions(str(checkpoint), str(tmp_path / "out"), train_data=str(data), max_steps=1, sample_steps=1)
    assert pesft(options) == 0 and not (tmp_path / "out" / "samples").exists()
