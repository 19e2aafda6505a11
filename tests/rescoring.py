"""What a sampler should have reported: log-probs of a finished row, from one forward over all of it."""

import torch

from omni_r1.generate import SamplingOptions
from omni_r1.generate.transformers_backend import process
from omni_r1.grammar import Grammar
from omni_r1.model import Omni


@torch.no_grad()
def rescore(omni: Omni, ids: list[int], prompt_length: int, options: SamplingOptions) -> list[float]:
    """Log-probs of the response under the grammar's sets and the same processing."""
    logits = omni.model(input_ids=torch.tensor([ids])).logits[0, prompt_length - 1 : -1]
    grammar = Grammar(omni.vocabulary, options.mode, options.max_images, options.max_text_tokens)
    sets = grammar.sets[grammar.indices(ids, prompt_length, options.max_new_tokens)]
    logits = logits.masked_fill(~sets, -torch.inf)
    scores = (process(logits, options) if options.do_sample else logits).log_softmax(-1)
    return scores[torch.arange(len(scores)), torch.tensor(ids[prompt_length:])].tolist()
