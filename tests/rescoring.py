"""What a sampler should have said and reported, from one forward over all of a finished row."""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import ChameleonForConditionalGeneration

from omni_r1.generate import SamplingOptions
from omni_r1.generate.transformers_backend import process
from omni_r1.grammar import Grammar
from omni_r1.model import Omni

Model = ChameleonForConditionalGeneration


@torch.no_grad()
def masked(omni: Omni, ids: list[int], prompt_length: int, options: SamplingOptions, model: Model) -> Tensor:
    """Logits (n, V) at the n positions of the response, -inf where the grammar bars a token.

    Upstream's own model bars all images in `forward`, so it is asked for its hidden states.
    """
    hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0, prompt_length - 1 : -1]
    grammar = Grammar(omni.vocabulary, options.mode, options.max_images, options.max_text_tokens)
    sets = grammar.sets[grammar.indices(ids, prompt_length, options.max_new_tokens)]
    return model.lm_head(hidden).masked_fill(~sets, -torch.inf)


def assert_rescored(
    omni: Omni,
    ids: list[int],
    prompt_length: int,
    logprobs: list[float],
    options: SamplingOptions,
    model: Model | None = None,
    within: float = 1e-5,
) -> None:
    """Law 3: the response's `logprobs` are those of a rescoring by `omni`'s model or another.

    `within`: at temperature 1; what divides the logits divides what rounding left in them.

    With top-p the last bits decide whether a token on the very edge of the nucleus is in it: either is right.
    """
    logits = masked(omni, ids, prompt_length, options, model or omni.model)
    reported, said = torch.tensor(logprobs), torch.tensor(ids[prompt_length:])[:, None]
    off = torch.full_like(reported, torch.inf)
    within /= min(1, options.temperature)
    for edge in (0, 3e-6, -3e-6) if options.do_sample and options.top_p < 1 else (0,):
        rows = off > within  # not yet accounted for
        cut = logits[rows]
        if options.do_sample:
            cut = process(cut, replace(options, top_p=options.top_p + edge))
        off[rows] = (reported[rows] - cut.log_softmax(-1).gather(1, said[rows])[:, 0]).abs()
    assert off.max() <= within, f"off by {off.max():.1e} at step {off.argmax()} of {len(off)}"


def assert_greedy(omni: Omni, ids: list[int], prompt_length: int, options: SamplingOptions, model: Model) -> None:
    """A row is what a plain greedy loop on `model` says: nothing that was allowed is likelier than what was chosen.

    Two within rounding of each other may change places, as happens to weights drawn at random.
    """
    logits = masked(omni, ids, prompt_length, options, model)
    chosen = logits.gather(1, torch.tensor(ids[prompt_length:])[:, None])[:, 0]
    assert (logits.max(-1).values - chosen).max() <= 1e-4
