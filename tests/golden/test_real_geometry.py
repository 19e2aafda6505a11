"""The published geometry (8192 codes, 65,536 logits, 512 pixels) and its relatives, with weights nobody has seen.

Each run draws its own weights. Ids and logits are held against upstream transformers on the same files, pixels against
a decoder written from the contract, drawings against what upstream's logits would choose.
"""

import copy
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from safetensors.torch import load_file
from transformers import ChameleonForConditionalGeneration
from transformers.models.chameleon.image_processing_pil_chameleon import ChameleonImageProcessorPil

import vq_reference
from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.model import Omni, vq
from published import BOI, EOI, write_checkpoint
from rescoring import assert_greedy, assert_rescored

pytestmark = pytest.mark.timeout(600)  # a busy machine may want it
DECODER = "model.vqmodel.decoder."
SHAPES: dict[str, dict] = {
    "published": {},
    "grouped-swin-256": {
        "vq": {"resolution": 256, "attn_resolutions": [32]},
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "swin_norm": True,
        "mlp_bias": True,
    },
    "single-384": {"vq": {"resolution": 384, "attn_type": "none"}, "num_key_value_heads": 1, "attention_bias": True},
}


@dataclass
class Shape:
    name: str
    folder: Path
    omni: Omni
    stock: ChameleonForConditionalGeneration
    info: dict
    picture: Picture.Image
    seed: int

    @property
    def length(self) -> int:
        return self.omni.vocabulary.image_length

    def codes(self) -> torch.Tensor:
        """(S,) any codes."""
        return torch.randint(8192, (self.length,), generator=torch.Generator().manual_seed(self.seed))


@pytest.fixture(scope="module", params=SHAPES)
def shape(request, tmp_path_factory) -> Shape:
    seed = secrets.randbelow(2**31)
    print(f"weights of seed {seed}")  # shown when a test fails
    folder = tmp_path_factory.mktemp(request.param)
    omni = write_checkpoint(folder, seed, **SHAPES[request.param])
    stock, info = ChameleonForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    noise = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    picture = Picture.fromarray(noise).resize((700, 530), Picture.Resampling.BICUBIC)
    return Shape(request.param, folder, omni, stock.eval(), info, picture, seed)


def test_upstream_loads_what_we_save(shape):
    """Nothing is missing there, and only the decoder has no place; of the published shape it is 164 tensors."""
    decoder = {name for name in load_file(shape.folder / "model.safetensors") if name.startswith(DECODER)}
    assert not shape.info["missing_keys"] and not shape.info["mismatched_keys"]
    assert set(shape.info["unexpected_keys"]) == decoder
    assert len(decoder) == {"published": 164, "grouped-swin-256": 194, "single-384": 154}[shape.name]
    ours = shape.omni.model.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in shape.stock.state_dict().items())


@torch.no_grad()
def test_image_ids_and_logits(shape):
    """As upstream has them from the picture itself, its processor reading the checkpoint's own settings."""
    omni, stock = shape.omni, shape.stock
    assert omni.vocabulary.codes.tolist() == list(range(4, 8196)) and omni.vocabulary.size == 65536
    processor = ChameleonImageProcessorPil.from_pretrained(shape.folder)
    pixels = processor(shape.picture, return_tensors="pt")["pixel_values"]
    ids = omni.encode([shape.picture])
    assert ids.tolist() == stock.model.get_image_tokens(pixels).tolist()
    assert len(set(ids[0].tolist())) > 50
    words = [omni.vocabulary.bos, *omni.vocabulary.encode_text("What is "), BOI]
    tail = [EOI, *omni.vocabulary.encode_text("? the answer")]
    ours = omni.model(input_ids=torch.tensor([words + ids[0].tolist() + tail]), logits_to_keep=8).logits
    marked = torch.tensor([words + [omni.vocabulary.image] * shape.length + tail])
    hidden = stock.model(input_ids=marked, pixel_values=pixels).last_hidden_state[:, -8:]
    assert (ours - stock.lm_head(hidden)).abs().max() <= 1e-5


@torch.no_grad()
def test_pixels(shape):
    """A corner of sixteen codes in fp64, where nothing hides in the rounding; the whole picture as users get it."""
    state = load_file(shape.folder / "model.safetensors")
    codes, vqmodel = shape.codes()[None], copy.deepcopy(shape.omni.model.model.vqmodel).double()
    double = {name: tensor.double() for name, tensor in state.items() if name.startswith("model.vqmodel.")}
    exact = vq.codes_to_pixels(vqmodel, codes[:, :16]) - vq_reference.decode(double, codes[:, :16])
    assert exact.abs().max() <= 1e-10
    [drawn] = shape.omni.decode(shape.omni.vocabulary.codes_to_tokens(codes))
    assert drawn.size == (shape.omni.model.config.vq_config.resolution,) * 2
    levels = ((vq_reference.decode(state, codes)[0] + 1) / 0.0078).clamp(0, 255).permute(1, 2, 0).numpy().astype(int)
    off = np.abs(np.asarray(drawn).astype(int) - levels)
    assert off.max() <= 1 and (off > 0).mean() < 1e-2  # truncation turns 1e-6 into a level now and then


@pytest.mark.parametrize("sampling", [{}, {"do_sample": True, "temperature": 0.8}])
def test_whole_images(shape, sampling):
    """Drawn from nothing, on from the middle, and behind another: all codes, then the end, as upstream would choose."""
    omni, length = shape.omni, shape.length
    if sampling and shape.name == "single-384":
        pytest.skip("sampled in the other shapes")
    codes = omni.vocabulary.codes_to_tokens(shape.codes()).tolist()
    begun = [[BOI], [BOI, *codes[: length // 2]], [BOI, *codes, EOI, BOI]]
    prompts = [[omni.vocabulary.bos, *omni.vocabulary.encode_text("draw "), *ids] for ids in begun]
    options = SamplingOptions(max_new_tokens=length + 9, max_images=0, **sampling)
    for row, given in zip(TransformersBackend(omni).generate(prompts, options), (0, length // 2, 0), strict=True):
        assert row.error is None and row.trajectory is not None
        drawn = row.ids[row.prompt_length :]
        end = drawn.index(EOI)
        assert end == length - given and all(4 <= token < 8196 for token in drawn[:end])
        assert_rescored(omni, row.ids, row.prompt_length, row.logprobs, options, shape.stock)
        if not sampling:
            assert_greedy(omni, row.ids, row.prompt_length, options, shape.stock)
