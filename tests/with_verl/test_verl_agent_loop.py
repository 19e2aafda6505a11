"""The rollout through verl's own AgentLoopWorker, with a server that answers token ids by this project's sampler."""

import asyncio

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.protocol import DataProto
from verl.workers.rollout.replica import TokenOutput

import omni_r1
from omni_r1.errors import InputError
from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.generate.backend import WorkerError
from prompts import ragged
from verl_cpu import BUDGET, batch_of


class Server:
    """Stands for the client of verl's vLLM servers; it says what they would, and keeps what it was asked."""

    def __init__(self, omni, said=None):
        self.omni, self.said, self.asked = omni, said, []

    async def generate(self, request_id, *, prompt_ids, sampling_params, **rest):
        self.asked.append((prompt_ids, sampling_params, rest))
        if self.said is not None:
            return TokenOutput(token_ids=self.said, stop_reason="completed")
        settings = dict(sampling_params["extra_args"]["omni_r1"])
        assert settings.pop("budget") == sampling_params["max_tokens"]
        options = SamplingOptions(
            **settings,
            max_new_tokens=sampling_params["max_tokens"],
            do_sample=sampling_params["temperature"] > 0,
            temperature=sampling_params["temperature"] or 1.0,
            top_p=sampling_params["top_p"],
        )
        [done] = TransformersBackend(self.omni).generate([prompt_ids], options, seeds=[len(self.asked)])
        return TokenOutput(token_ids=done.ids[done.prompt_length :], log_probs=done.logprobs, stop_reason="completed")


@pytest.fixture(scope="module")
def omni(path):
    return omni_r1.load(path)


@pytest.fixture(scope="module")
def prompts(omni):
    return [list(map(int, prompt)) for prompt in ragged(omni, 5, 0)]


def ask(config, server, prompts, validate=False):
    rows = {
        "raw_prompt": [[{"role": "user", "content": "?"}]] * len(prompts),
        "extra_info": [{"id": str(number), "prompt_ids": prompt} for number, prompt in enumerate(prompts)],
        "index": list(range(len(prompts))),
    }
    columns = {}
    for name, values in rows.items():
        columns[name] = np.empty(len(values), dtype=object)
        columns[name][:] = values
    batch = TensorDict({"dummy": torch.zeros(len(prompts), 1)}, batch_size=len(prompts))

    async def run():
        worker = AgentLoopWorker(config, server)
        return await worker.generate_sequences(
            DataProto(batch, columns, meta_info={"validate": validate, "global_steps": 1})
        )

    return asyncio.run(run())


@pytest.fixture
def plain(config):
    """The recipe without top-p, which the trainer's log-probs are without."""
    changed = config.copy()
    changed.actor_rollout_ref.rollout.top_p = 1.0
    return changed


def test_prompts_go_out_as_they_are_and_log_probs_come_back_as_the_trainers(plain, omni, prompts, make_engine):
    server = Server(omni)
    out = ask(plain, server, prompts)
    assert sorted(asked for asked, _, _ in server.asked) == sorted(prompts)
    rows, sampled = [], []
    for number, prompt in enumerate(prompts):
        mask = out.batch["response_mask"][number].bool()
        said = out.batch["responses"][number][mask].tolist()
        given = out.batch["attention_mask"][number].bool()
        assert out.batch["input_ids"][number][given].tolist() == prompt + said
        rows.append((prompt, said))
        sampled.append(out.batch["rollout_log_probs"][number][mask])
    engine, _ = make_engine()
    with engine.eval_mode():
        found = engine.infer_batch(batch_of(rows), loss_function=None)["model_output"]["log_probs"]
    for (prompt, _), theirs, ours in zip(rows, sampled, found.unbind(), strict=True):
        assert (ours[len(prompt) - 1 : -1] - theirs).abs().max() <= 1e-5


def test_what_a_server_is_asked_for(config, omni, prompts):
    server = Server(omni)
    ask(config, server, prompts[:1])
    [(_, params, _)] = server.asked
    assert params["extra_args"] == {
        "omni_r1": {"mode": "interleaved", "max_images": None, "max_text_tokens": None, "budget": BUDGET}
    }
    assert params["max_tokens"] == BUDGET and params["stop_token_ids"] == [omni.vocabulary.eos]
    assert params["ignore_eos"] and not params["detokenize"]
    assert (params["temperature"], params["top_p"], params["top_k"], params["logprobs"]) == (1.0, 0.95, -1, True)


def test_validation_is_greedy(config, omni, prompts):
    server = Server(omni)
    out = ask(config, server, prompts[:1], validate=True)
    [(_, params, _)] = server.asked
    assert params["temperature"] == 0
    [wanted] = TransformersBackend(omni).generate(prompts[:1], SamplingOptions(max_new_tokens=BUDGET))
    assert (
        out.batch["responses"][0][out.batch["response_mask"][0].bool()].tolist() == wanted.ids[wanted.prompt_length :]
    )


def test_a_server_without_the_grammar_is_noticed(config, omni, prompts):
    with pytest.raises(WorkerError, match="prompt '0': the server does not keep to the grammar: position"):
        ask(config, Server(omni, said=[omni.vocabulary.eoi]), prompts[:1])


def test_no_answer_is_an_error(config, omni, prompts):
    with pytest.raises(WorkerError, match="gave no answer"):
        ask(config, Server(omni, said=[]), prompts[:1])


def test_a_prompt_is_never_cut(config, omni, prompts):
    with pytest.raises(InputError, match="data.max_prompt_length.*'0' has 121 tokens"):
        ask(config, Server(omni), [(prompts[0] * 121)[:121]])


def test_the_parameters_are_vllms(config, omni, prompts):
    """vLLM is not in this environment: its parameters' names, as the release verl names has them, are written out."""
    known = (
        "temperature top_p top_k repetition_penalty logprobs max_tokens stop_token_ids ignore_eos detokenize extra_args"
    )
    server = Server(omni)
    ask(config, server, prompts[:1])
    [(_, params, rest)] = server.asked
    assert set(params) == set(known.split()) and set(rest) == {"priority"}
