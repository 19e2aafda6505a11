"""The trainer's log-probs: those of the sampler, and those of a softmax over what the grammar allows."""

import pytest
import torch

import omni_r1
from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.grammar import Grammar
from omni_r1.perpo import logprobs
from omni_r1.perpo.logprobs import NOTHING, TokenScorer
from prompts import ragged
from tiny import write_checkpoint


@pytest.fixture(scope="module")
def omni(tmp_path_factory):
    return omni_r1.load(write_checkpoint(tmp_path_factory.mktemp("tiny")))


def answers(omni, options: SamplingOptions):
    return TransformersBackend(omni).generate(ragged(omni, 9, 4), options)


def batch(rows, grammar: Grammar, options: SamplingOptions, pad: int):
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row.ids) for row in rows], True, pad)
    sets = torch.full(ids.shape, NOTHING)
    for number, row in enumerate(rows):
        sets[number, row.prompt_length : len(row.ids)] = grammar.indices(
            row.ids, row.prompt_length, options.max_new_tokens
        )
    return ids, sets


SAMPLING = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.3, "top_p": 0.9},
    {"top_k": 5},
    {"mode": "text-only"},
    {"mode": "unrestricted"},
    {"mode": "interleaved", "max_images": 1, "max_text_tokens": 6},
]


@pytest.mark.parametrize("given", SAMPLING)
def test_sampler_and_trainer_agree(omni, given):
    options = SamplingOptions(do_sample=True, max_new_tokens=50, seed=1, **given)
    grammar = Grammar(omni.vocabulary, options.mode, options.max_images, options.max_text_tokens)
    rows = answers(omni, options)
    ids, sets = batch(rows, grammar, options, omni.vocabulary.pad)
    scorer = TokenScorer(grammar, options)
    found = omni.model(input_ids=ids, score=lambda *states: scorer(*states, ids, sets, sampled=True)).logits
    within = 1e-5 / min(1, options.temperature)
    for number, row in enumerate(rows):
        ours = found.sampled[number, row.prompt_length : len(row.ids)]
        off = (ours - torch.tensor(row.logprobs)).abs()
        edge = ~ours.isfinite()  # on the very edge of the nucleus either is right
        assert off[~edge].max() <= within and edge.sum() <= 1
    if options.top_p == 1 and not options.top_k:
        assert torch.equal(found.sampled, found.logps)


@pytest.mark.parametrize("at_once", [2**25, 300])
def test_softmax_over_what_is_allowed(omni, monkeypatch, at_once):
    monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", at_once)
    options = SamplingOptions(do_sample=True, max_new_tokens=40, temperature=0.9)
    grammar = Grammar(omni.vocabulary)
    rows = answers(omni, options)
    ids, sets = batch(rows, grammar, options, omni.vocabulary.pad)
    scorer = TokenScorer(grammar, options)
    hidden = omni.model.model(input_ids=ids, use_cache=False).last_hidden_state.detach().requires_grad_()
    head = omni.model.lm_head
    found = scorer(hidden, head, ids, sets)
    logits = (head(hidden[:, :-1]) / 0.9).masked_fill(~grammar.sets[sets[:, 1:].clamp(min=0)], -torch.inf)
    wide = logits.log_softmax(-1)
    response = sets[:, 1:] != NOTHING
    logps = wide.gather(-1, ids[:, 1:, None])[..., 0].where(response, 0)
    entropies = -(wide.exp() * wide.masked_fill(wide == -torch.inf, 0)).sum(-1).where(response, 0)
    assert torch.allclose(found.logps[:, 1:], logps, atol=1e-5)
    assert torch.allclose(found.entropies[:, 1:], entropies, atol=1e-5)
    assert not found.logps[sets == NOTHING].any()
    mix = torch.linspace(-1, 1, logps.numel()).view_as(logps)
    ours = torch.autograd.grad((found.logps[:, 1:] * mix - found.entropies[:, 1:]).sum(), [hidden, head.weight])
    plain = torch.autograd.grad((logps * mix - entropies).sum(), [hidden, head.weight])
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, plain, strict=True))
