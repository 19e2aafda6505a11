"""Damage to what stands beside the weights: config, tokenizer, processor and generation files."""

from collections.abc import Iterator
from typing import Any

from hostile.checkpoints import PICKLE, Damage, config, edited, put, shards, tensors, vq


def configs() -> Iterator[tuple[str, Damage]]:
    for name, content in {
        "empty": "", "text": "config", "open": '{"model_type": "chameleon"', "list": "[]", "null": "null",
        "deep": "[" * 99_999, "object": "{}", "bytes": b"\xff\xfe\x00", "alone": '{"model_type": "chameleon"}',
        "digits": '{"model_type": "chameleon", "vocab_size": ' + "9" * 5000 + "}", "pickle": PICKLE,
    }.items():  # fmt: skip
        yield f"bad-config-{name}", put("config.json", content)
    odd: dict[str, list[Any]] = {
        "vocab_size": ["384", 384.0, True, None, 0, -1, 10, 385, 10**12, float("nan")],
        "hidden_size": ["32", 0, -32, 33, 1 << 40, [32], None],
        "num_hidden_layers": [0, -1, 1, 3, 10**9, "2"],
        "num_attention_heads": [0, 3, 4, -2, 10**9, None],
        "num_key_value_heads": [0, 1, 3, "2"],
        "intermediate_size": [0, 1 << 40, "64"],
        "max_position_embeddings": [0, -1, "512", 10**18],
        "hidden_act": ["__import__('os')", 5, None, "gelu_evil"],
        "rope_scaling": [{"rope_type": "evil"}, {"type": "linear"}, 5],
        "rope_theta": ["1e4", [], {}],
        "rms_norm_eps": ["1e-5", [], {}],
        "vocabulary_map": [None, [], 5, {}, {"<image>": 1}],
        "vq_config": [None, 5, [], "x"],
        "boi_token_id": [10**9, -1, "1", 1.0, True],
        "model_type": ["llama", None, 5, ["chameleon"]],
    }
    for field, values in odd.items():
        for number, value in enumerate(values):
            loose = field in ("max_position_embeddings", "num_key_value_heads", "num_attention_heads", "rope_scaling")
            loose = loose or (field, value) in (("boi_token_id", None),)
            yield f"{'any' if loose else 'bad'}-config-{field}-{number}", config(**{field: value})
    for field, values in {
        "resolution": [0, -16, "16", 1 << 30, 2048, 1, None], "num_embeddings": [0, 63, 65, 1 << 40, "64", True],
        "channel_multiplier": [
            [], [1], [1] * 5000, [1, 1, "1"], [1, 0, 1], [1, -1, 1], [1, 1, 1 << 40], "111", 3, [[1]],
        ],
        "num_res_blocks": [0, -1, 2, 10**9, "1"], "base_channels": [0, 33, 1 << 40, -32], "embed_dim": [0, 9, 1 << 40],
        "latent_channels": [0, 9, "8"], "in_channels": [0, 1, 1 << 40], "attn_type": ["evil", 5],
        "double_latent": [True, 5],
    }.items():  # fmt: skip
        for number, value in enumerate(values):
            yield f"{'any' if field == 'attn_type' else 'bad'}-vq-{field}-{number}", vq(**{field: value})
    for field, value in {"rms_norm_eps": float("nan"), "rope_theta": 0.0, "initializer_range": -1.0}.items():
        yield f"any-config-{field}-odd", config(**{field: value})


def obeyed() -> Iterator[tuple[str, Damage]]:
    """What upstream would obey if it saw it: code, other files, other repositories."""
    yield "ok-other-weights", config(transformers_weights="../canary.safetensors")
    yield (
        "ok-other-pickle",
        lambda folder: (
            config(transformers_weights="adapter_model.bin")(folder),
            put("adapter_model.bin", PICKLE)(folder),
        ),
    )
    yield (
        "ok-code",
        lambda folder: (
            config(auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})(folder),
            put("evil.py", "raise SystemExit('code was run')")(folder),
        ),
    )
    yield (
        "any-tokenizer-code",
        lambda folder: (
            edited(
                "tokenizer_config.json",
                lambda raw: raw.update(auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, tokenizer_class="Evil"),
            )(folder),
            put("evil.py", "raise SystemExit('code was run')")(folder),
        ),
    )
    yield "ok-quantised", config(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    yield "ok-attention", config(attn_implementation="evil/kernel", _attn_implementation="evil/kernel")
    yield "ok-results", config(return_dict=False, output_hidden_states=True, torch_dtype="evil", fusion_config={"a": 1})
    yield (
        "ok-adapter",
        lambda folder: (
            put("adapter_config.json", '{"base_model_name_or_path": "../canary", "peft_type": "LORA"}')(folder),
            put("adapter_model.bin", PICKLE)(folder),
        ),
    )
    for name, content in {
        "text": "x",
        "list": "[]",
        "pickle": PICKLE,
        "odd": '{"max_length": "x", "custom_generate": 1}',
    }.items():
        yield f"ok-generation-{name}", put("generation_config.json", content)
    yield (
        "ok-pickles-beside",
        lambda folder: [put(f"x{end}", PICKLE)(folder) for end in (".bin", ".pt", ".pkl", ".ckpt")],
    )


def tokenizers() -> Iterator[tuple[str, Damage]]:
    for name, content in {
        "empty": "",
        "text": "x",
        "list": "[]",
        "object": "{}",
        "deep": "[" * 99_999,
        "pickle": PICKLE,
    }.items():
        yield f"bad-tokenizer-{name}", put("tokenizer.json", content)
        yield f"any-tokenizer-config-{name}", put("tokenizer_config.json", content)
        yield f"any-tokens-map-{name}", put("special_tokens_map.json", content)
        yield f"any-added-tokens-{name}", put("added_tokens.json", content)
    yield (
        "bad-tokenizer-missing",
        lambda folder: [(folder / f).unlink() for f in ("tokenizer.json", "tokenizer_config.json")],
    )

    def model(**values: Any) -> Damage:
        return edited("tokenizer.json", lambda raw: raw["model"].update(values))

    yield "any-vocab-empty", model(vocab={})
    yield "any-vocab-negative", model(vocab={"a": -1})
    yield "bad-vocab-beyond", edited("tokenizer.json", lambda raw: raw["model"]["vocab"].update({"zzz": 10**6}))
    yield "bad-vocab-huge", edited("tokenizer.json", lambda raw: raw["model"]["vocab"].update({"zzz": 2**40}))
    yield "any-merges-unknown", model(merges=[["zz", "yy"]])
    yield "any-unk-unknown", model(unk_token="nothing")
    yield "any-type", model(type="Evil")
    yield "any-byte-fallback", model(byte_fallback=True, ignore_merges=5)
    swapped = {"IMGIMGAZ": "IMGIMGBZ", "IMGIMGBZ": "IMGIMGAZ"}
    yield "bad-codes-swapped", edited("tokenizer.json", lambda raw: raw["model"].update(
        vocab={swapped.get(name, name): number for name, number in raw["model"]["vocab"].items()}))  # fmt: skip
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        for name, value in {"null": None, "evil": {"type": "Evil"}, "list": [], "number": 5}.items():
            yield (
                f"any-{part}-{name}",
                edited("tokenizer.json", lambda raw, part=part, value=value: raw.update({part: value})),
            )
    for name, pattern in {"broken": "(", "slow": "(a+)+(a+)+$", "deep": "(" * 5000 + ")" * 5000}.items():
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        yield f"any-pattern-{name}", edited("tokenizer.json", lambda raw, split=split: raw.update(pre_tokenizer=split))
    grown = {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 1000}
    yield "any-growing", edited("tokenizer.json", lambda raw: raw.update(normalizer=grown))
    for sign in ("<racm3:break>", "<eoss>", "<image>", "</s>", "<s>", "<pad>", "IMGIMGAZ", "IMGIMGBDZ"):
        yield (
            f"any-map-without-{len(sign)}-{sign.strip('</>')[:4]}",
            edited("config.json", lambda raw, sign=sign: raw["vocabulary_map"].pop(sign)),
        )
    yield (
        "bad-map-one-token-twice",
        edited("config.json", lambda raw: raw["vocabulary_map"].update(IMGIMGAZ=raw["vocabulary_map"]["IMGIMGBZ"])),
    )
    yield "bad-map-text-token", edited("config.json", lambda raw: raw["vocabulary_map"].update(IMGIMGAZ="300"))
    yield "bad-map-beyond", edited("config.json", lambda raw: raw["vocabulary_map"].update(IMGIMGAZ=10**9))
    yield (
        "bad-map-more-codes",
        edited("config.json", lambda raw: raw["vocabulary_map"].update(IMGIMGJJJJJJJJJJJJJJJZ=300)),
    )
    yield "bad-begin-is-end", edited("config.json", lambda raw: raw.update(boi_token_id=raw["eoi_token_id"]))
    yield (
        "bad-begin-is-a-code",
        edited("config.json", lambda raw: raw.update(boi_token_id=raw["vocabulary_map"]["IMGIMGAZ"])),
    )


def damages() -> dict[str, Damage]:
    """All that is done to a checkpoint, by name."""
    return {name: damage for part in (configs, obeyed, tokenizers, tensors, shards) for name, damage in part()}
