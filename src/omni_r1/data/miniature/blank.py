"""A fresh checkpoint in the published layout, with random weights: `python -m omni_r1.data.miniature.blank OUT`.

Same files, names and token ids' order as the 7B (checkpoint contract), only smaller: specials, one `IMGIMG...Z` token a
code, end and begin of image, text pieces, reserved tokens. The tokenizer is a byte-level BPE learned from the world's
own words, so that most of them are one token and any other text still has one.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from omni_r1.data.miniature.corpus import changes, describe
from omni_r1.data.miniature.tiles import NAMES, SIDE, TILE
from omni_r1.data.miniature.world import ANSWERS, TASKS, sample
from omni_r1.model import create
from omni_r1.trajectory import TAGS

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
END_OF_IMAGE, BEGIN_OF_IMAGE, SEPARATOR, PLACEHOLDER = "<eoss>", "<racm3:break>", "<reserved08706>", "<image>"

LANGUAGE_MODEL = {
    "hidden_size": 192,
    "intermediate_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 2048,
}
VQ = {
    "num_embeddings": len(NAMES),
    "embed_dim": 32,
    "latent_channels": 32,
    "double_latent": False,
    "resolution": SIDE * TILE,
    "in_channels": 3,
    "base_channels": 32,
    "channel_multiplier": [1, 1, 2, 2],
    "num_res_blocks": 1,
    "attn_resolutions": None,
    "attn_type": "none",
    "dropout": 0.0,
}


def code_name(code: int) -> str:
    """The vocabulary's name of an image code: decimal digits written A to J between IMGIMG and Z."""
    return "IMGIMG" + "".join(chr(ord("A") + int(digit)) for digit in str(code)) + "Z"


def world_text(count: int = 4000) -> list[str]:
    """Questions, thoughts, captions and answers as the world says them."""
    rng = np.random.default_rng(0)
    texts = [f"{word} {k}: " for word in ("THOUGHT", "Figure") for k in range(1, 10)] * 50
    texts += [f"Final Answer: {answer}" for task in TASKS for answer in ANSWERS[task]]
    for index in range(count):
        task = list(TASKS)[index % len(TASKS)]
        drawn = sample(task, rng)
        grid, steps = changes(rng, task)
        texts += [drawn.question, *(f"THOUGHT 1: {step.thought} " for step in drawn.steps)]
        texts += [describe(task, grid), *(step.thought for step in steps)]
    return texts


def tokenizer(texts: Iterable[str], codes: int, merges: int = 400) -> Tokenizer:
    """A byte-level BPE over `texts` whose vocabulary is laid out as the published one."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = splitter
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + merges, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].get)
    reserved = [*TAGS, SEPARATOR, PLACEHOLDER]
    names = [*SPECIALS, *(code_name(code) for code in range(codes)), END_OF_IMAGE, BEGIN_OF_IMAGE, *pieces, *reserved]
    vocabulary = {name: number for number, name in enumerate(names)}
    out = Tokenizer(models.BPE(vocabulary, [tuple(pair) for pair in learned["merges"]], unk_token="<unk>"))
    out.pre_tokenizer, out.decoder = splitter, decoders.ByteLevel()
    out.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    out.add_special_tokens([*SPECIALS, END_OF_IMAGE, BEGIN_OF_IMAGE, *reserved])
    return out


def write(path: Path, texts: Iterable[str], *, language_model: dict = LANGUAGE_MODEL, vq: dict = VQ) -> None:
    """Write config, tokenizer and processor files into `path`."""
    path.mkdir(parents=True, exist_ok=True)
    learned = tokenizer(texts, vq["num_embeddings"])
    learned.save(str(path / "tokenizer.json"))
    vocabulary = dict(sorted(learned.get_vocab().items(), key=lambda item: item[1]))
    side = vq["resolution"] // 2 ** (len(vq["channel_multiplier"]) - 1)
    special = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), SPECIALS, strict=True))
    special["sep_token"] = SEPARATOR
    files = {
        "config.json": {
            "architectures": ["ChameleonForConditionalGeneration"],
            "model_type": "chameleon",
            "vocab_size": len(vocabulary),  # a model may have more logits than there are tokens
            **language_model,
            "boi_token_id": vocabulary[BEGIN_OF_IMAGE],
            "eoi_token_id": vocabulary[END_OF_IMAGE],
            "image_token_id": vocabulary[PLACEHOLDER],
            "bos_token_id": vocabulary["<s>"],
            "eos_token_id": vocabulary["</s>"],
            "pad_token_id": vocabulary["<pad>"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "mlp_bias": False,
            "model_parallel_size": 1,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "swin_norm": False,
            "tie_word_embeddings": False,
            "use_cache": True,
            "vocabulary_map": vocabulary,
            "vq_config": {"model_type": "chameleon_vqgan", **vq},
        },
        "generation_config.json": {"eos_token_id": vocabulary["</s>"], "do_sample": False},
        "special_tokens_map.json": special,
        "tokenizer_config.json": {
            **special,
            "tokenizer_class": "LlamaTokenizer",
            "processor_class": "ChameleonProcessor",
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "legacy": False,
        },
        "processor_config.json": {
            "processor_class": "ChameleonProcessor",
            "image_seq_length": side * side,
            "image_token": PLACEHOLDER,
        },
        "preprocessor_config.json": {
            "image_processor_type": "ChameleonImageProcessor",
            "processor_class": "ChameleonProcessor",
            "do_resize": True,
            "size": {"shortest_edge": vq["resolution"]},
            "resample": 1,
            "do_center_crop": True,
            "crop_size": {"height": vq["resolution"], "width": vq["resolution"]},
            "do_convert_rgb": True,
            "do_rescale": True,
            "rescale_factor": 0.0078,
            "do_normalize": True,
            "image_mean": [1.0, 1.0, 1.0],
            "image_std": [1.0, 1.0, 1.0],
        },
    }
    for name, content in files.items():
        (path / name).write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write(args.out, world_text())
    create(args.out, seed=args.seed).save(args.out)


if __name__ == "__main__":
    main()
