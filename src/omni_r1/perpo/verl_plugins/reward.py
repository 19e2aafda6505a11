"""The reward as verl calls it, with the original's signature.

`reward.custom_reward_function.path=pkg://omni_r1.perpo.verl_plugins.reward`, and what to score by in its
`reward_kwargs`: `model_path`, the checkpoint whose vocabulary and codebook judge, and `profile`.
"""

from collections.abc import Mapping
from threading import Lock
from typing import Any

from omni_r1.errors import InputError
from omni_r1.model import load
from omni_r1.perpo.judge import load_judge
from omni_r1.perpo.reward import PROFILES, Judge, Response, score

_judges: dict[str, Judge] = {}
_loading = Lock()  # verl scores in threads


def judge_of(model_path: str) -> Judge:
    """The judge a checkpoint makes; loaded once in a process, without its language model."""
    with _loading:
        if model_path not in _judges:
            _judges[model_path] = load_judge(load(model_path, language_model=False), model_path)
        return _judges[model_path]


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    model_path: str | None = None,
    profile: str = "default",
) -> dict[str, float]:
    """The reward of one response, `score`, and its parts: `acc`, `format`, `perception` (0 where nothing is drawn),
    `images` and how many of them are `whole`, `length` in tokens.

    extra_info: `response_ids` and `prompt_ids`, token ids as `TokenRewardManager` puts them there, BOS in front of the
    prompt's; `options`, the choices of the question, where it has some. What was drawn is in the ids alone, so
    `solution_str` is not looked at. Raises InputError naming what is missing.
    """
    given = extra_info or {}
    for name in ("response_ids", "prompt_ids"):
        if given.get(name) is None:
            raise InputError(
                "is missing: a response is scored by its token ids, which verl does not pass on by itself; set "
                "reward.reward_manager to TokenRewardManager (docs/verl.md)",
                field=f"extra_info.{name}",
            )
    path = model_path or given.get("model_path")
    if path is None:
        raise InputError("is not set", field="reward.custom_reward_function.reward_kwargs.model_path")
    if profile not in PROFILES:
        raise InputError(f"no profile {profile!r}; there are {', '.join(PROFILES)}", field="profile")
    prompt, said = ([int(token) for token in given[name]] for name in ("prompt_ids", "response_ids"))
    choices = given.get("options")
    response = Response(prompt + said, len(prompt), str(ground_truth), None if choices is None else list(choices))
    [reward] = score([response], judge_of(path), PROFILES[profile])
    return {
        "score": reward.total,
        "acc": reward.accuracy,
        "format": reward.format,
        "perception": reward.perception or 0.0,
        "images": float(reward.images),
        "whole": float(reward.whole),
        "length": float(len(said)),
    }
