"""Writes checkpoints with the published geometry: its token ids, 8192 codes, 65,536 logits, 512 pixels, only narrower.

Unlike the one in `tiny.py`, no weight keeps the value it was created with: norms scale and shift here, every bias
counts, and the codes lie where the encoder's latents do, so that a picture has hundreds of different ones.
"""

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn

import tiny
from omni_r1.model import Omni, create, load

CODES, SIZE = 8192, 65536
EOI, BOI, SEPARATOR, PLACEHOLDER, FIRST_PIECE = 8196, 8197, 8710, 8711, 16388
LANGUAGE_MODEL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
VQ = {
    "model_type": "chameleon_vqgan",
    "num_embeddings": CODES,
    "embed_dim": 256,
    "latent_channels": 256,
    "double_latent": False,
    "resolution": 512,
    "in_channels": 3,
    "base_channels": 32,  # 128 in the published ones
    "channel_multiplier": [1, 1, 2, 2, 4],
    "num_res_blocks": 2,
    "attn_resolutions": None,
    "attn_type": "vanilla",
}


def names() -> list[str]:
    """Every token's name in the order of its id, as in the contract's table."""
    reserved = [f"<reserved{number:05d}>" for number in range(BOI - 3, FIRST_PIECE - 4)]
    reserved[PLACEHOLDER - BOI - 1] = "<image>"
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in tiny.MERGES)]
    head = ["<s>", "<pad>", "</s>", "<unk>", *map(tiny.code_name, range(CODES)), "<eoss>", "<racm3:break>"]
    listed = [*head, *reserved, *pieces]
    return listed + [f"piece {number}" for number in range(len(listed), SIZE)]  # no merge makes them


def build_tokenizer() -> Tokenizer:
    listed = names()
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(listed)}, tiny.MERGES, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
    )
    special = [*listed[:4], *listed[EOI:FIRST_PIECE]]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    return tokenizer


def write_checkpoint(folder: Path, seed: int, *, vq: dict | None = None, **language_model) -> Omni:
    """A checkpoint with random weights in `folder`; both arguments change what is above. It is read back from there."""
    vq = VQ | (vq or {})
    tiny.write_files(
        folder,
        **LANGUAGE_MODEL | language_model,
        vocab_size=SIZE,
        vocabulary_map={name: number for number, name in enumerate(names())},
        boi_token_id=BOI,
        eoi_token_id=EOI,
        image_token_id=PLACEHOLDER,
        vq_config=vq,
    )
    build_tokenizer().save(str(folder / "tokenizer.json"))
    pixels, side = vq["resolution"], vq["resolution"] // 2 ** (len(vq["channel_multiplier"]) - 1)
    sizes = {"size": {"shortest_edge": pixels}, "crop_size": {"height": pixels, "width": pixels}}
    for name, changed in (("preprocessor_config", sizes), ("processor_config", {"image_seq_length": side * side})):
        file = folder / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    omni = create(folder, seed=seed)
    shake(omni.model, seed)
    omni.save(folder)
    return load(folder)


@torch.no_grad()
def shake(model: nn.Module, seed: int) -> None:
    """Give every norm, bias and code a value of its own, and the head some opinions."""
    generator, vq = torch.Generator().manual_seed(seed), model.model.vqmodel

    def noise(weight: torch.Tensor) -> torch.Tensor:
        return torch.randn(weight.shape, generator=generator)

    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.copy_(0.1 * noise(weight))
        elif "norm" in name:
            weight.copy_(1 + 0.2 * noise(weight))
    model.lm_head.weight.mul_(10)
    side = vq.config.resolution
    pixels = torch.rand(1, 3, side, side, generator=generator) * 2 - 1
    latents = vq.quant_conv(vq.encoder(pixels)).flatten(2)[0].T
    pairs = torch.randint(len(latents), (2, CODES), generator=generator)
    vq.quantize.embedding.weight.copy_(torch.lerp(*latents[pairs], torch.rand(CODES, 1, generator=generator)))
