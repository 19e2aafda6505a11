"""Law 4: batched greedy == single greedy, ids identical in fp32, with ragged rows and images left open."""

import pytest

import omni_r1
from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.model import Omni
from prompts import ragged
from tiny import write_checkpoint


@pytest.fixture(scope="module")
def omni(tmp_path_factory) -> Omni:
    return omni_r1.load(write_checkpoint(tmp_path_factory.mktemp("law4")))


@pytest.mark.parametrize("mode", ["interleaved", "unrestricted", "text-only", "image-only"])
@pytest.mark.parametrize("seed", range(2))
def test_greedy(omni, mode, seed):
    prompts = ragged(omni, 25, seed)
    options = SamplingOptions(mode=mode, max_new_tokens=60)
    single = TransformersBackend(omni, batch_size=1).generate(prompts, options)
    for size in (7, 25):
        batched = TransformersBackend(omni, batch_size=size).generate(prompts, options)
        assert [row.ids for row in batched] == [row.ids for row in single]
        assert [row.stop for row in batched] == [row.stop for row in single]
        for one, other in zip(batched, single, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert all(row.error is None for row in single)


def test_sampled(omni):
    """A row's own seed decides, wherever it stands and whoever stands beside it."""
    prompts = ragged(omni, 25, 3)
    options = SamplingOptions(max_new_tokens=60, do_sample=True)
    seeds = [100 + row for row in range(25)]
    batched = TransformersBackend(omni, batch_size=25).generate(prompts, options, seeds=seeds)
    backwards = TransformersBackend(omni, batch_size=4).generate(prompts[::-1], options, seeds=seeds[::-1])
    assert [row.ids for row in batched] == [row.ids for row in backwards[::-1]]
