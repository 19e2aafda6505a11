"""Law 5: the prompt's image counts. Another picture gives other ids and other logits.

tests/with_vllm/test_laws.py asks vLLM the same.
"""

import torch

from omni_r1.generate import SamplingOptions, TransformersBackend
from prompts import pictured


@torch.no_grad()
def test_another_picture(case):
    omni, prompts = case.omni, pictured(case.omni)
    logits = [omni.model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in prompts]
    replies = TransformersBackend(omni).generate(prompts, SamplingOptions(max_new_tokens=100))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert prompts[i] != prompts[j]
        assert (logits[i] - logits[j]).abs().max() > 1e-3
        assert replies[i].logprobs != replies[j].logprobs
        assert replies[i].ids[replies[i].prompt_length :] != replies[j].ids[replies[j].prompt_length :]


def test_the_same_picture(case):
    assert pictured(case.omni) == pictured(case.omni)
