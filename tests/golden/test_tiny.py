"""What the original implementation computes on its own checkpoint, this one computes too."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

import omni_r1
from omni_r1.model import Omni, vq
from omni_r1.trajectory import Image, Trajectory, interleave

MODES = ("unrestricted", "interleaved-text-image", "text-only", "image-only")
PROMPTS = ("text", "endboi", "img")


@pytest.fixture(scope="module")
def omni(tiny: Path) -> Omni:
    return omni_r1.load(tiny)


@pytest.fixture(scope="module")
def arrays(tiny: Path) -> dict[str, np.ndarray]:
    return dict(np.load(tiny.parents[1] / "golden" / "tiny" / "golden.npz"))


@pytest.fixture(scope="module")
def figures(tiny: Path) -> dict:
    return json.loads((tiny.parents[1] / "golden" / "tiny" / "golden.json").read_text())


@pytest.fixture(scope="module")
def pictures(tiny: Path) -> list[Picture.Image]:
    return [Picture.open(tiny.parents[1] / "golden" / "images" / f"im{i}.png") for i in range(6)]


def test_pixels_and_image_ids(omni, arrays, pictures):
    assert np.array_equal(vq.to_pixels(pictures, 64).numpy(), arrays["pixel_values"])
    assert omni.encode(pictures).tolist() == arrays["image_tokens"].tolist()
    assert [omni.encode([picture])[0].tolist() for picture in pictures] == arrays["image_tokens"].tolist()


@torch.no_grad()
def test_decoded_pixels(omni, arrays):
    for ids, wanted in (("image_tokens", "decoded_pixels"), ("rand_ids", "rand_decoded_pixels")):
        wanted_pixels = arrays[wanted]
        codes = omni.vocabulary.tokens_to_codes(torch.from_numpy(arrays[ids][: len(wanted_pixels)]))
        pixels = vq.codes_to_pixels(omni.model.model.vqmodel, codes)
        assert np.abs(pixels.numpy() - wanted_pixels).max() <= 1e-5


def test_decoded_images(omni, arrays):
    images = omni.decode(torch.from_numpy(arrays["image_tokens"][:2]))
    got = np.stack([np.asarray(image) for image in images]).transpose(0, 3, 1, 2).astype(int)
    off = np.abs(got - arrays["decoded_uint8"])
    assert off.max() <= 1 and (off > 0).mean() < 1e-3  # truncation turns 1e-6 into a level now and then


@torch.no_grad()
def test_forward(omni, arrays, figures):
    ids, labels = torch.from_numpy(arrays["fwd_ids"]), torch.from_numpy(arrays["fwd_labels"])
    output = omni.model(input_ids=ids, labels=labels)
    assert np.abs(output.logits[0].numpy() - arrays["fwd_logits"]).max() <= 1e-5
    assert np.abs(output.last_hidden_state.numpy() - arrays["fwd_last_hidden"]).max() <= 1e-5
    assert output.loss.item() == pytest.approx(figures["fwd_loss"], abs=1e-5)


@pytest.mark.parametrize("number", range(3))
def test_prompt_ids_are_the_processors(omni, arrays, figures, number):
    """Without the separator, which the templates never contain; the processor writes placeholders for codes."""
    text = figures["processor"][f"{number}_1"]["text"]
    blank = Image((0,) * omni.vocabulary.image_length)
    prompt = Trajectory(tuple(interleave(text, [blank] * text.count("<image>"))))
    ids = omni.vocabulary.render(prompt).ids
    first = omni.vocabulary.codes[0].item()
    shown = [omni.vocabulary.image if token == first else token for token in ids]
    assert shown == arrays[f"proc{number}_1_ids"][0].tolist()


@pytest.mark.parametrize("mode", MODES)
def test_greedy_sequences(omni, arrays, figures, mode):
    for name in PROMPTS:
        prompt = arrays[f"prompt_{name}"].tolist()
        budget = figures["generate"][f"{mode}|{name}"]["max_length"] - len(prompt)
        [completion] = omni.generate([prompt], mode=mode, max_new_tokens=budget)
        assert completion.ids == arrays[f"gen_{mode.replace('-', '_')}_{name}"].tolist(), name


@pytest.mark.parametrize("mode", MODES)
def test_greedy_sequences_as_one_batch(omni, arrays, figures, mode):
    prompts = [arrays[f"prompt_{name}"].tolist() for name in PROMPTS]
    completions = omni.generate(prompts, mode=mode, max_new_tokens=68)
    wanted = [arrays[f"gen_{mode.replace('-', '_')}_{name}"].tolist() for name in PROMPTS]
    assert [completion.ids for completion in completions] == wanted


def test_saved_in_the_original_layout(omni, tiny, tmp_path, figures):
    omni.save(tmp_path)
    again = omni_r1.load(tmp_path)
    state, other = omni.model.state_dict(), again.model.state_dict()
    assert {name: list(tensor.shape) for name, tensor in other.items()} == {
        name: shape for name, (shape, _) in figures["state_dict"].items()
    }
    assert all(torch.equal(state[name], other[name]) for name in state)
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (tiny, tmp_path))
    assert {**after, "torch_dtype": before["torch_dtype"]} == before
    for file in tiny.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name
