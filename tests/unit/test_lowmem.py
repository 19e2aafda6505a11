"""Models that one device cannot hold: spread over GPUs, kept on the CPU or the disk, in fewer bits."""

from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from PIL import Image as Picture
from transformers import ChameleonConfig

import omni_r1
from cards import Cards, device_of
from omni_r1.errors import InputError
from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.grammar import Grammar
from omni_r1.model import Chameleon, CheckpointError, Omni, checkpoint, load, placement
from prompts import ragged
from tiny import config, write_checkpoint

GIB = 2**30
IDS = torch.arange(3, 40)[None]
installed = pytest.mark.skipif(not find_spec("bitsandbytes"), reason="bitsandbytes, of the extra lowmem, is not there")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3}
    return write_checkpoint(tmp_path_factory.mktemp("lowmem"), **shape)


@pytest.fixture(scope="module")
def omni(folder) -> Omni:
    return omni_r1.load(folder)


@pytest.fixture(scope="module")
def seven() -> Chameleon:
    """A model of the 7B's shape, on the meta device."""
    vq = {"num_embeddings": 8192, "embed_dim": 256, "latent_channels": 256, "resolution": 512, "base_channels": 128}
    vq |= {"channel_multiplier": [1, 1, 2, 2, 4], "num_res_blocks": 2, "attn_type": "vanilla", "attn_resolutions": None}
    shape = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "vocab_size": 65536}
    shape |= {"num_attention_heads": 32, "num_key_value_heads": 32}
    with torch.device("meta"):
        return Chameleon(ChameleonConfig.from_dict(config(**shape, vq_config=vq)))


def answers(omni: Omni) -> list[list[int]]:
    """Ids of ragged prompts, few rows at a time, so that rows join and leave the batch."""
    backend = TransformersBackend(omni, batch_size=3)
    return [row.ids for row in backend.generate(ragged(omni, 6, seed=1), SamplingOptions(max_new_tokens=20))]


@pytest.fixture(scope="module")
def wanted(omni) -> list[list[int]]:
    return answers(omni)


@pytest.mark.parametrize(
    ("sizes", "dtype", "quantize", "wanted"),
    [
        ({0: 10, 1: 10, "cpu": 64}, "bfloat16", None, {0: 16, 1: 16}),
        ({0: 4, 1: 10, "cpu": 64}, "bfloat16", None, {0: 7, 1: 25}),
        ({0: 10, 1: 10, "cpu": 64}, "float32", None, {0: 9, 1: 13, "cpu": 10}),
        ({0: 80, "cpu": 64}, "bfloat16", None, {0: 32}),
        ({0: 8, "cpu": 64}, "float16", None, {0: 16, "cpu": 16}),
        ({0: 8, "cpu": 64}, "float16", "8bit", {0: 32}),
        ({0: 5, "cpu": 0}, "float16", "4bit", {0: 32}),
        ({"cpu": 64}, "bfloat16", None, {"cpu": 32}),
        ({0: 0, "cpu": 64}, "bfloat16", None, {"cpu": 32}),
    ],
)
def test_placement_of_the_7b(seven, sizes, dtype, quantize, wanted):
    sizes, wide = {device: size * GIB for device, size in sizes.items()}, checkpoint.DTYPES[dtype]
    places = placement.placement(seven, sizes, wide, quantize)
    layers = [places.pop(f"model.layers.{number}") for number in range(32)]
    assert Counter(layers) == wanted
    assert layers == sorted(layers, key=list(sizes).index)  # neighbours together
    assert set(places.values()) == {layers[0]}  # head, embeddings, norm and VQ are at home
    covered = [name for name, _ in seven.named_parameters() if not name.startswith("model.layers.")]
    assert all(name.startswith(tuple(f"{part}." for part in places)) for name in covered)
    taken = Counter(layers)
    for device, share in taken.items():
        rest = placement.rest_bytes(seven, wide) if device == layers[0] else 0
        assert share * placement.layer_bytes(seven, wide, quantize) + rest <= sizes[device]


@pytest.mark.parametrize(
    ("sizes", "quantize", "told"),
    [
        ({0: 1, "cpu": 64}, None, "take 1.3 GiB on the first GPU"),
        ({0: 4, "cpu": 4}, None, "weights are left for the CPU"),
        ({"cpu": 8}, None, "13.3 GiB of weights are left for the CPU"),
        ({0: 4, "cpu": 64}, "8bit", "the 8bit weights do not fit on the GPUs"),
    ],
)
def test_what_fits_nowhere(seven, sizes, quantize, told):
    with pytest.raises(InputError, match=f"field 'max_memory': .*{told}"):
        sizes = {device: size * GIB for device, size in sizes.items()}
        placement.placement(seven, sizes, torch.bfloat16, quantize)


@pytest.mark.parametrize(
    ("given", "told"),
    [({7: "1GiB"}, "no device 7"), ({"disk": "1GiB"}, "no device 'disk'"), ("10 apples", "10 apples")],
)
def test_memory_that_is_none(given, told):
    with pytest.raises(InputError, match=f"field 'max_memory': .*{told}"):
        placement.room(given)


def test_room():
    assert placement.room({"cpu": "2GiB"}) == {"cpu": 2 * GIB}
    assert placement.room(None)["cpu"] > 0
    assert placement.room("10GiB")["cpu"] != 10 * GIB  # the text is of GPUs


def test_auto(folder, wanted):
    found = omni_r1.load(folder, device="auto", max_memory={"cpu": "1GiB"})
    assert answers(found) == wanted
    with pytest.raises(InputError, match="field 'max_memory': .* left for the CPU"):
        omni_r1.load(folder, device="auto", max_memory={"cpu": "1MiB"})
    with pytest.raises(InputError, match="field 'max_memory': only device auto"):
        omni_r1.load(folder, max_memory="1GiB")


@pytest.mark.parametrize("last", ["cuda:1", "cpu"])
def test_several_devices(folder, omni, wanted, last):
    """On pretended GPUs, the last layer on the second or offloaded: nothing is mixed, ids and pictures are the same."""
    spread = omni_r1.load(folder)
    places = placement.placement(spread.model, {"cpu": GIB}, torch.float32)
    homes = {"model.layers.1": "cuda:1", "model.layers.2": last}
    places = {part: homes.get(part, "cuda:0") for part in places}
    with Cards() as cards:
        skip = spread.model._skip_keys_device_placement
        dispatch_model(spread.model, device_map=places, main_device="cuda:0", skip_keys=skip)
        on = {part: {device_of(w).type for w in spread.model.get_submodule(part).parameters()} for part in places}
        assert on["lm_head"] == {"cuda"} and on["model.layers.2"] == {"cuda" if last == "cuda:1" else "meta"}
        found, drawn = answers(spread), spread.decode(omni.vocabulary.codes[:16][None])
    assert torch.device("cuda:1") in cards.seen
    assert found == wanted
    assert drawn == omni.decode(omni.vocabulary.codes[:16][None])


def test_offloaded(folder, wanted, tmp_path):
    """Two of three layers on the disk, read for each use by the hooks that offloaded layers on the CPU have too."""
    offloaded = omni_r1.load(folder)
    model, layers = offloaded.model, offloaded.model.model.layers
    places = placement.placement(model, {"cpu": GIB}, torch.float32)
    places |= dict.fromkeys(["model.layers.0", "model.layers.2"], "disk")
    dispatch_model(model, device_map=places, offload_dir=tmp_path, skip_keys=model._skip_keys_device_placement)
    assert [layer.mlp.up_proj.weight.is_meta for layer in layers] == [True, False, True]
    assert answers(offloaded) == wanted
    with pytest.raises(CheckpointError, match="weights are offloaded"):
        offloaded.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_quantizing_without_the_library(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"field 'quantize': needs bitsandbytes: pip install .*\[lowmem\]"):
        omni_r1.load(folder, quantize="8bit")
    with pytest.raises(InputError, match="field 'quantize': '2bit' is not one of 8bit, 4bit"):
        omni_r1.load(folder, quantize="2bit")


@installed
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("quantize", "share", "off"), [("8bit", 0.30, 0.03), ("4bit", 0.17, 0.25)])
def test_quantized(folder, omni, tmp_path, quantize, dtype, share, off):
    """Layers' bytes against fp32's; mean difference of the logits against their mean size."""
    small = omni_r1.load(folder, dtype=dtype, quantize=quantize)
    vq = {weight.dtype for weight in small.model.model.vqmodel.parameters()}
    assert vq == {torch.float32} and small.model.lm_head.weight.dtype == checkpoint.DTYPES[dtype]
    assert layers_bytes(small) < share * layers_bytes(omni)
    with torch.no_grad():
        wanted, got = (one.model(input_ids=IDS).logits.float() for one in (omni, small))
    print(f"{quantize} {dtype}: {(got - wanted).abs().mean() / wanted.abs().mean():.4f}")
    assert (got - wanted).abs().mean() < off * wanted.abs().mean()
    picture = Picture.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8))
    assert torch.equal(small.encode([picture]), omni.encode([picture]))
    with pytest.raises(CheckpointError, match="quantized weights are no published checkpoint"):
        small.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@installed
@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_quantized_trajectories_are_legal(folder, quantize):
    small = load(folder, quantize=quantize, vq_path=folder)
    words, grammar = small.vocabulary, Grammar(small.vocabulary, "interleaved")
    for row in small.generate([[words.bos, *words.encode_text("draw"), words.boi]] * 4, max_new_tokens=40):
        assert row.error is None and row.trajectory is not None and row.trajectory.response_images
        assert grammar.violations(row.ids, row.prompt_length) == []


def layers_bytes(omni: Omni) -> int:
    return sum(weight.numel() * weight.element_size() for weight in omni.model.model.layers.parameters())
