"""Writes a very small checkpoint in the published layout, so that tests need nothing beside this repository.

All ids differ from the published models': text pieces come first, image codes run backwards behind them, and the
logits are wider than the tokenizer. Whatever takes an id from a constant fails on it.
"""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

CODES, SIDE = 64, 4  # images of 4 x 4 = 16 codes
SIZE = 384  # width of the logits
MERGES = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("Ġ", "a"), ("r", "e"), ("e", "r"), ("Ġ", "Ġ"), ("s", "e")]
TAGS = ["<reserved12856>", "<reserved12857>", "<reserved12866>", "<reserved12867>"]
SPECIALS = ["<unk>", "</s>", "<pad>", "<s>", "<racm3:break>", "<eoss>", "<image>", "<reserved08706>", *TAGS]
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def code_name(code: int) -> str:
    return "IMGIMG" + str(code).translate(str.maketrans("0123456789", "ABCDEFGHIJ")) + "Z"


def names() -> list[str]:
    """Every token's name in the order of its id."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in MERGES)]
    return [*pieces, *(code_name(code) for code in reversed(range(CODES))), *SPECIALS]


def build_tokenizer() -> Tokenizer:
    ids = {name: number for number, name in enumerate(names())}
    tokenizer = Tokenizer(models.BPE(ids, MERGES, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", ids["<s>"])]
    )
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer


def config(**changed) -> dict:
    """config.json; bos and pad are as wrong in it as in the published ones."""
    ids = {name: number for number, name in enumerate(names())}
    return {
        "architectures": ["ChameleonForConditionalGeneration"],
        "model_type": "chameleon",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "vocab_size": SIZE,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "boi_token_id": ids["<racm3:break>"],
        "eoi_token_id": ids["<eoss>"],
        "image_token_id": ids["<image>"],
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "vocabulary_map": ids,
        "vq_config": {
            "model_type": "chameleon_vqgan",
            "num_embeddings": CODES,
            "embed_dim": 8,
            "latent_channels": 8,
            "double_latent": False,
            "resolution": SIDE * 4,
            "in_channels": 3,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1],
            "num_res_blocks": 1,
            "attn_type": "none",
        },
    } | changed


def write_files(folder: Path, **changed) -> Path:
    """Write config (with some fields changed), tokenizer and processor files into `folder`, no weights; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer().save(str(folder / "tokenizer.json"))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    pixels = SIDE * 4
    content = {
        "config.json": config(**changed),
        "special_tokens_map.json": {**roles, "sep_token": "<reserved08706>"},
        "tokenizer_config.json": {
            **roles,
            "sep_token": "<reserved08706>",
            "tokenizer_class": "LlamaTokenizer",
            "processor_class": "ChameleonProcessor",
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "legacy": False,
        },
        "processor_config.json": {
            "processor_class": "ChameleonProcessor",
            "image_seq_length": SIDE * SIDE,
            "image_token": "<image>",
        },
        "preprocessor_config.json": {
            "processor_class": "ChameleonProcessor",
            "image_processor_type": "ChameleonImageProcessor",
            "size": {"shortest_edge": pixels},
            "crop_size": {"height": pixels, "width": pixels},
            "resample": 1,
            "rescale_factor": 0.0078,
            "image_mean": [1.0, 1.0, 1.0],
            "image_std": [1.0, 1.0, 1.0],
        },
        "generation_config.json": {"eos_token_id": 2, "multimodal_generation_mode": "text-only"},
    }
    for name, value in content.items():
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return folder


def write_checkpoint(folder: Path, seed: int = 0, **changed) -> Path:
    """The same folder with random weights, its head sharpened so that the most likely token stands out.

    Logits spread alike whatever the width: what fp32 rounds off of them grows with their size.
    """
    from omni_r1.model import create

    omni = create(write_files(folder, **changed), seed=seed)
    omni.model.lm_head.weight.data *= 30 * (32 / omni.model.config.hidden_size) ** 0.5
    omni.save(folder)
    return folder
