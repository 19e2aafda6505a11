"""Classifier-free guidance against a plain loop without cache, batch or grammar state."""

import pytest
import torch

import omni_r1
from omni_r1.errors import InputError
from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.grammar import CODES, Grammar
from omni_r1.model import Omni
from omni_r1.options import GenerateOptions
from prompts import ragged
from tiny import write_checkpoint

BUDGET = 40


@pytest.fixture(scope="module")
def omni(tmp_path_factory) -> Omni:
    return omni_r1.load(write_checkpoint(tmp_path_factory.mktemp("guidance")))


@torch.no_grad()
def last_logits(omni: Omni, ids: list[int]) -> torch.Tensor:
    return omni.model(input_ids=torch.tensor([ids]), logits_to_keep=1).logits[0, -1]


def guided(omni: Omni, prompt: list[int], scale: float, mode: str) -> tuple[list[int], list[float]]:
    """Greedy ids and log-probs of a response: every step reads the whole row, and what guides it, from the start."""
    words, grammar = omni.vocabulary, Grammar(omni.vocabulary, mode)
    state, ids, logprobs = grammar.start(prompt, BUDGET), list(prompt), []
    while len(ids) < len(prompt) + BUDGET and ids[-1] != words.eos:
        index = grammar.allowed(state)
        logits = last_logits(omni, ids)
        if index == CODES:
            begin = len(ids) - 1 - ids[::-1].index(words.boi)
            nothing = last_logits(omni, [words.bos, *ids[begin:]])
            logits = nothing + scale * (logits - nothing)
        scores = logits.masked_fill(~grammar.sets[index], -torch.inf).log_softmax(-1)
        token = int(scores.argmax())
        ids.append(token)
        logprobs.append(float(scores[token]))
        state = grammar.advance(state, token)
    return ids, logprobs


@pytest.mark.parametrize("mode", ["interleaved", "image-only"])
@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_as_a_plain_loop(omni, mode, scale):
    prompts = ragged(omni, 6, 4)
    options = SamplingOptions(mode=mode, max_new_tokens=BUDGET, guidance_scale=scale)
    wanted = [guided(omni, prompt, scale, mode) for prompt in prompts]
    for size in (1, 4, 16):
        for got, (ids, logprobs) in zip(
            TransformersBackend(omni, size).generate(prompts, options), wanted, strict=True
        ):
            assert got.ids == ids
            assert got.logprobs == pytest.approx(logprobs, abs=1e-4)
    plain = omni.generate(prompts, mode=mode, max_new_tokens=BUDGET)
    assert [row.ids for row in plain] != [ids for ids, _ in wanted]


def test_sampled_rows_keep_their_own(omni):
    prompts = ragged(omni, 6, 5)
    options = SamplingOptions(max_new_tokens=BUDGET, do_sample=True, guidance_scale=2.0)
    together = TransformersBackend(omni, 6).generate(prompts, options)
    alone = TransformersBackend(omni, 1).generate(prompts, options)
    assert [row.ids for row in together] == [row.ids for row in alone]


def test_what_cannot_be_guided():
    words = {"input": "x", "model_path": "x", "guidance_scale": 2.0}
    for more in ({"mode": "text-only"}, {"mode": "unrestricted"}, {"backend": "vllm"}):
        with pytest.raises(InputError, match="guidance_scale"):
            GenerateOptions(**words, **more)
    with pytest.raises(InputError, match="guidance_scale"):
        SamplingOptions(mode="text-only", guidance_scale=2.0)
    with pytest.raises(InputError, match="guidance_scale"):
        SamplingOptions(guidance_scale=-1.0)
