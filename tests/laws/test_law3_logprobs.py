"""Law 3: a sampler's log-probs are those of a rescoring, greedy and sampled, to 1e-5 in fp32.

tests/with_vllm/test_laws.py holds vLLM to the same.
"""

import pytest

from omni_r1.generate import SamplingOptions, TransformersBackend
from rescoring import assert_rescored


@pytest.mark.parametrize("sampling", [{}, {"do_sample": True, "temperature": 0.8, "top_p": 0.9}])
@pytest.mark.parametrize("mode", ["interleaved", "text-only"])
def test_rescoring(case, mode, sampling):
    options = SamplingOptions(mode=mode, max_new_tokens=100, seed=3, **sampling)
    for row in TransformersBackend(case.omni).generate(case.prompts(8, 1), options):
        assert row.error is None
        assert_rescored(case.omni, row.ids, row.prompt_length, row.logprobs, options, within=case.within(mode))
