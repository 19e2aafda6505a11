"""The reward as verl calls it: alone, in its manager, and through ray's RewardLoopManager."""

import asyncio
from inspect import signature

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from verl.experimental.reward_loop import RewardLoopManager
from verl.protocol import DataProto
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils import hf_tokenizer

import omni_r1
from omni_r1.errors import InputError
from omni_r1.perpo.judge import load_judge
from omni_r1.perpo.reward import PROFILES, Response, grade, score
from omni_r1.perpo.verl_plugins.reward import compute_score, judge_of
from omni_r1.trajectory import Image, Text, Trajectory

QUESTION = (Text("What is it?\n"),)
ANSWERS = {
    "right": [Text("I look. "), Image(tuple(range(16))), Text("\nFinal Answer: a boat")],
    "right, undrawn": [Text("I think.\nFinal Answer: a boat")],
    "wrong": [Image((3,) * 16), Text("\nFinal Answer: a car")],
    "formless": [Text("a boat")],
}


@pytest.fixture(scope="module")
def omni(path):
    return omni_r1.load(path)


@pytest.fixture(scope="module")
def rows(omni):
    """(prompt ids, response ids) of each answer."""
    found = {}
    for name, said in ANSWERS.items():
        rendered = omni.vocabulary.render(Trajectory(QUESTION, tuple(said), ended=True))
        found[name] = rendered.ids[: rendered.prompt_length], rendered.ids[rendered.prompt_length :]
    return found


@pytest.mark.parametrize("name", ANSWERS)
def test_it_is_this_projects_reward(omni, path, rows, name):
    prompt, said = rows[name]
    found = compute_score(
        "omni-r1", "", "a boat", {"prompt_ids": prompt, "response_ids": said}, model_path=str(path), profile="paper"
    )
    [wanted] = score([Response(prompt + said, len(prompt), "a boat")], load_judge(omni, path), PROFILES["paper"])
    assert found["score"] == wanted.total and found["acc"] == wanted.accuracy and found["format"] == wanted.format
    assert found["perception"] == (wanted.perception or 0) and found["images"] == wanted.images
    assert all(type(value) is float for value in found.values())


def test_the_answers_differ_as_they_should(path, rows):
    found = {
        name: compute_score(
            "", "", "a boat", {"prompt_ids": prompt, "response_ids": said}, model_path=str(path), profile="paper"
        )
        for name, (prompt, said) in rows.items()
    }
    assert [one["acc"] for one in found.values()][:3] == [1, 1, 0]
    assert [one["format"] for one in found.values()] == [1, 1, 1, 0]
    assert found["right"]["perception"] > 0 and found["right, undrawn"]["perception"] == 0


@pytest.mark.skipif("options" not in signature(grade).parameters, reason="answers are graded without choices so far")
def test_options_are_passed_on(path, rows):
    prompt, said = rows["right"]
    extra = {"prompt_ids": prompt, "response_ids": said, "options": ["a car", "a boat"]}
    assert compute_score("", "", "B", extra, model_path=str(path), profile="paper")["acc"] == 1


@pytest.mark.parametrize(
    "extra, more, said",
    [
        (None, {}, "extra_info.response_ids'.*TokenRewardManager"),
        ({"response_ids": [1]}, {}, "extra_info.prompt_ids"),
        ({"response_ids": [1], "prompt_ids": [2]}, {"model_path": None}, "reward_kwargs.model_path"),
        ({"response_ids": [1], "prompt_ids": [2]}, {"profile": "papre"}, "no profile 'papre'; there are"),
    ],
)
def test_what_is_missing_is_named(path, extra, more, said):
    with pytest.raises(InputError, match=said):
        compute_score("a", "Final Answer: a boat", "a boat", extra, **({"model_path": str(path)} | more))


def test_the_judge_is_loaded_once_and_without_its_language_model(path):
    assert judge_of(str(path)) is judge_of(str(path))


def batch_of(rows):
    """As verl has them: prompts padded on the left, responses on the right."""
    prompts, responses = (max(map(len, side)) for side in zip(*rows, strict=True))
    tensors = {name: [] for name in ("prompts", "responses", "attention_mask", "input_ids")}
    for prompt, said in rows:
        left, right = [2] * (prompts - len(prompt)), [2] * (responses - len(said))
        tensors["prompts"].append(left + prompt)
        tensors["responses"].append(said + right)
        tensors["input_ids"].append(left + prompt + said + right)
        tensors["attention_mask"].append([0] * len(left) + [1] * len(prompt + said) + [0] * len(right))
    columns = {
        "data_source": ["omni-r1"] * len(rows),
        "reward_model": [{"ground_truth": "a boat", "style": "rule"}] * len(rows),
        "extra_info": [{"id": str(number), "options": None} for number in range(len(rows))],
    }
    return DataProto(
        TensorDict({name: torch.tensor(value) for name, value in tensors.items()}, batch_size=len(rows)),
        {name: np.array(values, dtype=object) for name, values in columns.items()},
    )


def test_the_manager_adds_the_ids(config, path, rows):
    async def run():
        manager = load_reward_manager(config, hf_tokenizer(str(path)))
        batch = batch_of(list(rows.values()))
        return [await manager.run_single(batch[number : number + 1]) for number in range(len(rows))]

    found = asyncio.run(run())
    for one, (prompt, said) in zip(found, rows.values(), strict=True):
        wanted = compute_score(
            "", "", "a boat", {"prompt_ids": prompt, "response_ids": said}, model_path=str(path), profile="paper"
        )
        assert one["reward_score"] == wanted["score"] and one["reward_extra_info"] == wanted


def test_verls_own_manager_is_told_what_it_lacks(config, path, rows):
    changed = config.copy()
    changed.reward.reward_manager.source, changed.reward.reward_manager.name = "register", "dapo"

    async def run():
        return await load_reward_manager(changed, hf_tokenizer(str(path))).run_single(batch_of([rows["right"]]))

    with pytest.raises(InputError, match="TokenRewardManager"):
        asyncio.run(run())


@pytest.mark.timeout(600)  # ray starts eight processes
def test_through_ray(config, path, rows):
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        found = RewardLoopManager(config).compute_rm_score(batch_of(list(rows.values())))
    finally:
        ray.shutdown()
    for number, (prompt, said) in enumerate(rows.values()):
        wanted = compute_score(
            "", "", "a boat", {"prompt_ids": prompt, "response_ids": said}, model_path=str(path), profile="paper"
        )
        scores = found.batch["rm_scores"][number]
        assert scores[len(said) - 1] == pytest.approx(wanted["score"]) == scores.sum()
        assert found.non_tensor_batch["acc"][number] == wanted["acc"]
