"""Options, bad rows, sampling, log-probs and the cache of the transformers backend."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers.cache_utils import DynamicLayer

import omni_r1
from omni_r1.errors import InputError
from omni_r1.generate import Completion, SamplingOptions, TransformersBackend
from omni_r1.generate.transformers_backend import GrowingLayer, choose, process
from omni_r1.model import Omni
from omni_r1.trajectory import Image, Text, Trajectory
from rescoring import assert_rescored
from tiny import SIDE, write_checkpoint

S = SIDE * SIDE


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("backend"))


@pytest.fixture(scope="module")
def omni(folder) -> Omni:
    return omni_r1.load(folder)


@pytest.mark.parametrize(
    "field, value",
    [
        ("mode", "interlaced"),
        ("max_new_tokens", 0),
        ("max_new_tokens", 2.5),
        ("do_sample", 1),
        ("temperature", 0),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("max_images", -1),
        ("seed", -1),
        ("seed", True),
        ("seed", 2**63),
    ],
)
def test_options_say_which_field_is_wrong(field, value):
    with pytest.raises(InputError, match=f"field '{field}'"):
        SamplingOptions(**{field: value})


def test_the_originals_mode_name(omni):
    prompt = [omni.vocabulary.bos, omni.vocabulary.boi]
    [one], [other] = (
        omni.generate([prompt], mode=mode, max_new_tokens=20) for mode in ("interleaved", "interleaved-text-image")
    )
    assert one == other


def same(one, other):
    """Equal completions; log-probs up to rounding, which depends on a row's place in its batch."""
    close = other.logprobs == pytest.approx(one.logprobs, abs=1e-5)
    return close and dataclasses.replace(one, logprobs=[]) == dataclasses.replace(other, logprobs=[])


def test_kinds_of_prompt(omni):
    words = omni.vocabulary
    text, trajectory, ids = "ab c", Trajectory((Text("ab c"),)), [words.bos, *words.encode_text("ab c")]
    a, b, c = omni.generate([text, trajectory, ids], max_new_tokens=5)
    assert same(a, b) and same(b, c) and a.ids[: a.prompt_length] == ids
    begun = Trajectory((Text("ab c"),), (Text(" d"), Image((5,) * S)))
    [more] = omni.generate([begun], max_new_tokens=5)
    assert more.ids[: more.prompt_length] == words.render(begun).ids


def test_bad_rows_do_not_stop_good_ones(omni):
    words = omni.vocabulary
    good = [words.bos, *words.encode_text("abc")]
    bad = {
        "no token id": [words.bos, words.size],
        "'a' at position 0": ["a"],
        "-1 at position 1": [words.bos, -1],
        "empty": [],
        "image": [words.bos, words.boi, words.codes[0].item()],  # does not fit in 5 tokens
        "codes": Trajectory((Image((1, 2)),)),
    }
    seen = []
    rows = TransformersBackend(omni).generate(
        [*bad.values(), good], SamplingOptions(max_new_tokens=5), progress=lambda *counts: seen.append(counts)
    )
    for (told, prompt), row in zip(bad.items(), rows, strict=False):
        assert told in row.error and row.stop is None and row.trajectory is None and row.logprobs == [], prompt
    assert same(rows[-1], omni.generate([good], max_new_tokens=5)[0]) and rows[-1].error is None
    assert seen[-1] == (7, len(rows[-1].logprobs))
    assert seen == sorted(seen)


def test_nothing_to_do(omni):
    assert omni.generate([]) == []
    assert omni.generate([[]])[0].error is not None


def test_stop_and_trajectory(omni):
    """Every interleaved response is a trajectory, cut off by length or not; its images are whole."""
    words = omni.vocabulary
    opened = [words.bos, *words.encode_text("draw"), words.boi, *words.codes[:3].tolist()]
    rows = omni.generate([opened] * 20, max_new_tokens=40, do_sample=True, temperature=0.7)
    for row in rows:
        assert row.stop == ("end" if row.ids[-1] == words.eos else "length")
        assert len(row.ids) - row.prompt_length == len(row.logprobs) <= 40
        assert row.trajectory is not None
        assert row.trajectory.prompt == (Text("draw"),)
        assert row.trajectory.response_images[0].codes[:3] == (0, 1, 2)


def test_max_images(omni):
    prompts = [[omni.vocabulary.bos]] * 10
    for limit in (0, 1, 2):
        rows = omni.generate(prompts, mode="image-only", max_new_tokens=100, max_images=limit, do_sample=True)
        for row in rows:
            assert row.error or row.ids.count(omni.vocabulary.boi) <= limit


@pytest.mark.parametrize("mode", ["interleaved", "unrestricted", "image-only"])
@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"do_sample": True},
        {"do_sample": True, "temperature": 0.8, "top_p": 0.9},
        {"do_sample": True, "temperature": 1.3, "top_k": 20},
        {"do_sample": True, "top_k": 40, "top_p": 0.8},
    ],
)
def test_logprobs_are_those_of_a_rescoring(omni, mode, sampling):
    """Law 3: one forward over the whole row, the grammar's sets, the same processing: the same log-probs."""
    words = omni.vocabulary
    prompts = [[words.bos, *words.encode_text(text)] for text in ("a", "the bc", "in def er th", "")]
    options = SamplingOptions(mode=mode, max_new_tokens=50, seed=3, **sampling)
    for row in TransformersBackend(omni).generate(prompts, options):
        assert_rescored(omni, row.ids, row.prompt_length, row.logprobs, options)
        assert max(row.logprobs) <= 1e-6


def test_process():
    logits = torch.tensor([[0.4, 0.1, 0.3, 0.2, 0.0]]).log()
    for options, kept in (
        ({"top_k": 2}, [0, 2]),
        ({"top_p": 0.5}, [0, 2]),
        ({"top_p": 0.75}, [0, 2, 3]),
        ({"top_p": 0.01}, [0]),
        ({"top_k": 3, "top_p": 0.5}, [0, 2]),
        ({"top_k": 50, "top_p": 0.9999}, [0, 1, 2, 3]),
    ):
        out = process(logits, SamplingOptions(do_sample=True, **options))
        assert out.isfinite().nonzero()[:, 1].tolist() == kept, options
        assert torch.equal(out[0, kept], logits[0, kept])
    assert torch.equal(process(logits, SamplingOptions(do_sample=True, temperature=2.0)), logits / 2)


def test_choose_draws_from_the_distribution():
    probabilities = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    tokens, logprobs = choose(probabilities.log().expand(1000, -1), SamplingOptions(do_sample=True), uniform)
    assert Counter(tokens.tolist()) == {1: 500, 3: 300, 4: 200}
    assert torch.allclose(logprobs, probabilities.log()[tokens])


def test_choose_at_the_ends():
    logits = torch.tensor([-torch.inf, 0.3, 0.1, -torch.inf]).expand(2, -1)
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    tokens, logprobs = choose(logits, SamplingOptions(do_sample=True), ends)
    assert tokens.tolist() == [1, 2] and logprobs.isfinite().all()


def test_seeds(omni):
    prompts, options = [[omni.vocabulary.bos]] * 3, SamplingOptions(max_new_tokens=20, do_sample=True, seed=5)
    backend = TransformersBackend(omni)
    default = backend.generate(prompts, options)
    assert default == backend.generate(prompts, options, seeds=[5, 6, 7])
    assert default[0].ids != default[1].ids
    assert same(*backend.generate(prompts[:2], options, seeds=[9, 9]))
    with pytest.raises(InputError, match="2 seeds for 3 prompts"):
        backend.generate(prompts, options, seeds=[1, 2])


def test_broken_weights_fail_the_row(folder):
    omni = omni_r1.load(folder)
    omni.model.lm_head.weight.data[:] = torch.nan
    for sampling in (False, True):
        [row] = omni.generate([[omni.vocabulary.bos]], do_sample=sampling, max_new_tokens=5)
        assert row == Completion([omni.vocabulary.bos], 1, error="the model's logits are not finite at position 1")


def test_training_mode_is_given_back(omni):
    omni.model.train()
    omni.generate([[omni.vocabulary.bos]], max_new_tokens=2)
    assert omni.model.training
    omni.model.eval()


def test_growing_layer_holds_what_upstreams_holds():
    torch.manual_seed(0)
    ours, theirs = GrowingLayer(), DynamicLayer()
    for width in [7, *[1] * 200]:
        states = torch.rand(4, 2, width, 8), torch.rand(4, 2, width, 8)
        for got, wanted in zip(ours.update(*states), theirs.update(*states), strict=True):
            assert torch.equal(got, wanted)
    assert ours.get_seq_length() == 207 and ours.get_mask_sizes(1) == theirs.get_mask_sizes(1)


def test_rows_join_and_leave_a_layer():
    """Rows stand flush right; a joining row is as often there as it is asked for."""
    torch.manual_seed(0)
    layer, fresh = GrowingLayer(), GrowingLayer()
    old, new = torch.rand(3, 2, 5, 8), torch.rand(2, 2, 9, 8)
    layer.update(old, -old)
    fresh.update(new, -new)
    layer.join(fresh, torch.tensor([1, 0, 1]), 9)
    assert torch.equal(layer.keys[:3, :, 4:], old) and not layer.keys[:3, :, :4].any()
    assert torch.equal(layer.keys[3:], new[[1, 0, 1]]) and torch.equal(layer.values, -layer.keys)
    layer.keep(torch.tensor([0, 2]), 4)
    assert torch.equal(layer.keys, old[[0, 2]]) and layer.get_seq_length() == 5
