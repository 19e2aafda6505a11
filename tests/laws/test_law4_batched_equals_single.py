"""Law 4: batched greedy == single greedy, ids identical in fp32, with ragged rows and images left open.

tests/with_vllm/test_laws.py holds vLLM to the same rows.
"""

import pytest

from omni_r1.generate import SamplingOptions, TransformersBackend


@pytest.mark.parametrize("mode", ["interleaved", "unrestricted", "text-only", "image-only"])
def test_greedy(case, mode):
    omni, prompts = case.omni, case.prompts(rows := 6 if case.trained else 12, 0)
    assert any(omni.vocabulary.eoi in ids for ids in prompts), "no whole image in a prompt"
    assert any(ids.count(omni.vocabulary.boi) > ids.count(omni.vocabulary.eoi) for ids in prompts), "none left open"
    options = SamplingOptions(**case.options(mode))
    single = TransformersBackend(omni, batch_size=1).generate(prompts, options)
    for size in (4,) if case.trained else (4, rows):
        batched = TransformersBackend(omni, batch_size=size).generate(prompts, options)
        assert [row.ids for row in batched] == [row.ids for row in single]
        assert [row.stop for row in batched] == [row.stop for row in single]
        for one, other in zip(batched, single, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert all(row.error is None for row in single)
    if mode == "interleaved":
        assert len({len(row.logprobs) for row in single}) > 1, "all rows stop together"


def test_sampled(case):
    """A row's own seed decides, wherever it stands and whoever stands beside it."""
    prompts = case.prompts(12, 3)
    options = SamplingOptions(max_new_tokens=60, do_sample=True)
    seeds = [100 + row for row in range(12)]
    batched = TransformersBackend(case.omni, batch_size=12).generate(prompts, options, seeds=seeds)
    backwards = TransformersBackend(case.omni, batch_size=4).generate(prompts[::-1], options, seeds=seeds[::-1])
    assert [row.ids for row in batched] == [row.ids for row in backwards[::-1]]
