"""The model, its images, and the checkpoint layout: loading, saving, refusing."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import save_torch_state_dict
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image as Picture
from safetensors.torch import load_file, save_file
from transformers import DynamicCache
from transformers.models.chameleon.image_processing_pil_chameleon import ChameleonImageProcessorPil

import omni_r1
from omni_r1.errors import InputError, OmniError
from omni_r1.model import Chameleon, CheckpointError, Omni, checkpoint, create, vq
from tiny import CODES, SIDE, SIZE, config, write_checkpoint, write_files

VQ = "model.vqmodel."
IDS = torch.tensor([[3, 7, 5, 9, 2, 30]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def omni(folder) -> Omni:
    return omni_r1.load(folder)


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_importing_the_package_does_not_import_torch():
    code = "import sys, omni_r1; omni_r1.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


@torch.no_grad()
def test_forward(omni):
    model = omni.model
    output = model(input_ids=IDS, attention_mask=torch.ones_like(IDS))
    assert output.logits.shape == (1, 6, SIZE)
    assert output.logits[..., omni.vocabulary.codes].min() > -1e3  # raw, image codes too
    assert torch.equal(model.lm_head(output.last_hidden_state), output.logits)
    assert torch.equal(model(input_ids=IDS, return_dict=False)[0], output.logits)
    hidden = model(input_ids=IDS, output_hidden_states=True).hidden_states
    assert len(hidden) == 3 and torch.equal(hidden[-1], output.last_hidden_state)
    embeds = model.get_input_embeddings()(IDS)
    assert torch.equal(model(inputs_embeds=embeds).logits, output.logits)


@torch.no_grad()
def test_logits_to_keep(omni):
    whole = omni.model(input_ids=IDS).logits
    for kept, wanted in ((2, whole[:, -2:]), (torch.tensor([0, 3]), whole[:, [0, 3]])):
        assert torch.allclose(omni.model(input_ids=IDS, logits_to_keep=kept).logits, wanted, atol=1e-5)
    nothing = torch.empty(0, dtype=torch.long)
    assert omni.model(input_ids=IDS, logits_to_keep=nothing).logits.shape == (1, 0, SIZE)


@torch.no_grad()
def test_cached_steps_equal_the_whole(omni):
    whole, cache = omni.model(input_ids=IDS).logits, DynamicCache()
    for t in range(IDS.shape[1]):
        step = omni.model(input_ids=IDS[:, t : t + 1], past_key_values=cache, use_cache=True)
        assert torch.allclose(step.logits[:, 0], whole[:, t], atol=1e-5)


def test_loss_reaches_the_language_model_only(omni):
    loss = omni.model(input_ids=IDS, labels=IDS.masked_fill(IDS == 3, -100)).loss
    loss.backward()
    with_gradient = {name for name, weight in omni.model.named_parameters() if weight.grad is not None}
    omni.model.zero_grad()
    assert with_gradient == {name for name, _ in omni.model.named_parameters() if not name.startswith(VQ)}


def test_vq_stays_frozen(omni):
    omni.model.train()
    assert omni.model.training and not any(module.training for module in omni.model.model.vqmodel.modules())
    assert not any(weight.requires_grad for weight in omni.model.model.vqmodel.parameters())
    omni.model.eval()


def test_vq_is_fp32_beside_any_language_model(folder, omni):
    half = omni_r1.load(folder, dtype="bfloat16")
    kinds = {(name.startswith(VQ), weight.dtype) for name, weight in half.model.named_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    image = Picture.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(half.encode([image]), omni.encode([image]))


def test_upstreams_generate_draws(omni):
    """Trainers that call it find a working `generate`; greedy and free it equals the backend."""
    prompt = [omni.vocabulary.bos, omni.vocabulary.boi]
    ids = omni.model.generate(
        torch.tensor([prompt]), max_new_tokens=20, do_sample=False, eos_token_id=omni.vocabulary.eos,
        pad_token_id=omni.vocabulary.pad,
    )  # fmt: skip
    [completion] = omni.generate([prompt], mode="unrestricted", max_new_tokens=20)
    assert ids[0].tolist() == completion.ids


def test_encode_and_decode(omni):
    rng = np.random.default_rng(0)
    images = [Picture.fromarray(rng.integers(0, 255, (24, 30, 3), dtype=np.uint8)) for _ in range(10)]
    ids = omni.encode(images)
    assert ids.shape == (10, SIDE * SIDE) and ids.dtype == torch.long
    assert set(ids.flatten().tolist()) <= set(omni.vocabulary.codes.tolist())
    drawn = omni.decode(ids)
    assert len(drawn) == 10 and {(image.mode, image.size) for image in drawn} == {("RGB", (16, 16))}
    assert omni.encode([]).shape == (0, SIDE * SIDE) and omni.decode(omni.encode([])) == []
    with pytest.raises(OmniError):
        omni.decode(torch.full((1, SIDE * SIDE), omni.vocabulary.eos))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
@pytest.mark.parametrize("size", [(16, 16), (40, 23), (9, 50), (1, 1), (3, 150)])
def test_pixels_are_the_processors(mode, size):
    """Bit-equal to the checkpoint's own preprocessor, PIL backend."""
    noise = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    image = Picture.fromarray(noise, "RGBA").convert(mode)
    crop, edge = {"height": 16, "width": 16}, {"shortest_edge": 16}
    wanted = ChameleonImageProcessorPil(size=edge, crop_size=crop)(image, return_tensors="pt")["pixel_values"]
    assert torch.equal(vq.to_pixels([image], 16), wanted)


def test_what_is_no_image_is_refused():
    with pytest.raises(InputError, match="image 2 is no PIL image but int"):
        vq.to_pixels([Picture.new("RGB", (9, 9)), 1], 16)


def test_one_thing_is_no_list_of_things(omni):
    with pytest.raises(InputError, match="field 'images': is one image"):
        omni.encode(Picture.new("RGB", (9, 9)))
    with pytest.raises(InputError, match="field 'prompts': is one prompt"):
        omni.generate("hello")
    with pytest.raises(InputError, match=r"ids of \(1, 3\)"):
        omni.decode(omni.vocabulary.codes[:3][None])


def test_an_endless_strip_is_refused():
    with pytest.raises(InputError, match="image 2 cannot be used: .* 64 times as long"):
        vq.to_pixels([Picture.new("RGB", (9, 9)), Picture.new("RGB", (20_000, 2))], 16)


def test_truncation_and_clipping():
    levels = torch.tensor([-2.0, -1.0, 254.999 * 0.0078 - 1, 1.5]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert np.asarray(vq.to_images(levels)[0])[:, :, 0].flatten().tolist() == [0, 0, 254, 255]


@pytest.mark.parametrize("attention", ["vanilla", None])
def test_decoder_follows_the_encoders_attention(tmp_path, attention):
    """`attn_type` null is documented upstream and then refused by its own validation."""
    raw = config()
    raw["vq_config"] |= {"attn_type": attention, "attn_resolutions": [8]}
    names = checkpoint.skeleton(raw, tmp_path).state_dict()
    found = {f"{side}.{part}" for side in ("encoder.down", "decoder.up") for part in ("1.attn.0", "0.attn.0")
             if f"{VQ}{side}.{part}.q.weight" in names}  # fmt: skip
    assert found == ({"encoder.down.1.attn.0", "decoder.up.1.attn.0"} if attention else set())
    for side in ("encoder", "decoder"):
        assert (f"{VQ}{side}.mid.attn_1.q.weight" in names) == bool(attention)


def test_create(tmp_path, omni):
    write_files(tmp_path)
    state = torch.get_rng_state()
    one, same, other = (create(tmp_path, seed=seed).model.state_dict() for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])
    with pytest.raises(CheckpointError, match="no model.safetensors"):
        omni_r1.load(tmp_path)


def test_save_as_float16(omni, tmp_path):
    omni.save(tmp_path, dtype="float16")
    state = load_file(tmp_path / "model.safetensors")
    assert {(name.startswith(VQ), tensor.dtype) for name, tensor in state.items()} == {
        (True, torch.float32),
        (False, torch.float16),
    }
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "float16"
    again = omni_r1.load(tmp_path).model.state_dict()
    assert torch.equal(again["lm_head.weight"], omni.model.lm_head.weight.half().float())
    assert not list(tmp_path.glob(".saving*"))


def test_save_over_itself(copy):
    omni = omni_r1.load(copy)
    (copy / "model-00001-of-00002.safetensors").write_bytes(b"of an older save")
    (copy / "optimizer.pt").write_bytes(b"somebody else's")
    omni.save(copy)
    assert omni_r1.load(copy).model.dtype == torch.float32
    assert (copy / "optimizer.pt").exists() and not (copy / "model-00001-of-00002.safetensors").exists()


def test_shards(omni, copy):
    (copy / "model.safetensors").unlink()
    save_torch_state_dict(omni.model.state_dict(), copy, max_shard_size="200KB")
    assert len(list(copy.glob("model-*.safetensors"))) > 1
    state = omni_r1.load(copy).model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in omni.model.state_dict().items())


def test_config_written_by_transformers_5(omni, copy):
    """A trainer's own `save_pretrained` moves rope_theta; what we save has it where the original looks."""
    omni.model.save_pretrained(copy)
    raw = json.loads((copy / "config.json").read_text())
    assert "rope_theta" not in raw
    again = omni_r1.load(copy)
    state = again.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in omni.model.state_dict().items())
    again.save(copy)
    raw = json.loads((copy / "config.json").read_text())
    assert raw["rope_theta"] == 10000.0 and raw["architectures"] == ["ChameleonForConditionalGeneration"]
    assert raw["boi_token_id"] == omni.vocabulary.boi and len(raw["vocabulary_map"]) == len(config()["vocabulary_map"])


def edit_tensors(folder: Path, change) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def edit_config(folder: Path, **values) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | values))


def no_decoder(folder):
    edit_tensors(folder, lambda state: [state.pop(n) for n in list(state) if n.startswith(f"{VQ}decoder.")])


def missing_tensor(folder):
    edit_tensors(folder, lambda state: state.pop(f"{VQ}decoder.conv_in.bias"))


def extra_tensor(folder):
    edit_tensors(folder, lambda state: state.update({"model.extra.weight": torch.zeros(1)}))


def wrong_shape(folder):
    edit_tensors(folder, lambda state: state.update({"model.norm.weight": torch.zeros(5)}))


def truncated(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-10])


def huge_header(folder):
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")


def pickle_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def renamed_pickle(folder):
    torch.save({"lm_head.weight": torch.zeros(1)}, folder / "model.safetensors")


def missing_shard(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def shard_outside(folder):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"weight_map": {"lm_head.weight": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def broken_index(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 3}')


def no_config(folder):
    (folder / "config.json").unlink()


def broken_config(folder):
    (folder / "config.json").write_text("{" * 100_000)


def other_model(folder):
    edit_config(folder, model_type="llama")


def impossible_config(folder):
    edit_config(folder, num_attention_heads=5)


@pytest.mark.parametrize(
    "damage, told",
    [
        (no_decoder, "decoder.* tensors, so this checkpoint cannot draw"),
        (missing_tensor, "tensor model.vqmodel.decoder.conv_in.bias is missing"),
        (extra_tensor, "tensor model.extra.weight has no place"),
        (wrong_shape, "tensor model.norm.weight has shape [5], expected [32]"),
        (truncated, "model.safetensors: not a readable safetensors file"),
        (huge_header, "model.safetensors: not a readable safetensors file"),
        (pickle_only, "only pickled weights (pytorch_model.bin)"),
        (renamed_pickle, "model.safetensors: not a readable safetensors file"),
        (missing_shard, "model-00001-of-00001.safetensors: missing"),
        (shard_outside, "is not a plain file name"),
        (broken_index, "model.safetensors.index.json: not a weight index"),
        (no_config, "config.json: missing"),
        (broken_config, "config.json: not valid JSON"),
        (other_model, "config.json: model_type is not chameleon"),
        (impossible_config, "config.json: no model can be built from it: hidden_size must be divisible"),
    ],
)
def test_refused(copy, damage, told):
    damage(copy)
    with pytest.raises(CheckpointError) as caught:
        omni_r1.load(copy)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("option", [{"dtype": "int8"}, {"device": "nowhere"}, {"device": "cuda:77"}])
def test_wrong_options(folder, option):
    with pytest.raises(InputError, match=next(iter(option))):
        omni_r1.load(folder, **option)


def test_a_name_that_is_no_folder(folder, monkeypatch):
    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        if name == "some/where":
            return str(folder)
        raise LocalEntryNotFoundError("Got: cannot reach the hub\nand more")

    monkeypatch.setattr(checkpoint, "snapshot_download", download)
    assert omni_r1.load("some/where", revision="abc").vocabulary.image_length == SIDE * SIDE
    assert (asked["name"], asked["revision"]) == ("some/where", "abc")
    assert not any(pattern.endswith((".bin", ".pt")) for pattern in asked["allow_patterns"])
    with pytest.raises(CheckpointError, match="no/where: no such folder, and not to be had from the hub: cannot"):
        omni_r1.load("no/where")
    with pytest.raises(CheckpointError, match="this is a file"):
        omni_r1.load(folder / "config.json")


def test_a_path_that_is_no_hub_name():
    with pytest.raises(CheckpointError, match="^/not/a/place/at/all: no such folder$"):
        omni_r1.load("/not/a/place/at/all")


def test_number_of_codes(omni):
    assert vq.code_count(omni.model.config.vq_config) == SIDE * SIDE == omni.vocabulary.image_length
    assert omni.model.model.vqmodel.quantize.embedding.weight.shape[0] == CODES
    assert isinstance(omni.model, Chameleon)
