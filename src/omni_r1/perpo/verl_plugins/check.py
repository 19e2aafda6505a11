"""Is a config of verl's one that trains as it says? verl 0.9.1 composes some that it then silently does not obey."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from omni_r1.errors import InputError
from omni_r1.files import read_bytes
from omni_r1.perpo.verl_plugins.settings import PLACE, GrammarSettings

HERE = "pkg://omni_r1.perpo.verl_plugins"
# Keys that still compose and that `verl.trainer.main_ppo` no longer reads, and those that took their place.
LEGACY = {
    "custom_reward_function": "reward.custom_reward_function",
    "sandbox_fusion": "reward.sandbox_fusion",
    "reward_model.num_workers": "reward.num_workers",
    "reward_model.reward_manager": "reward.reward_manager.name",
    "reward_model.reward_loop_source": "reward.reward_manager.source",
    "reward_model.reward_loop_module_path": "reward.reward_manager.module.path",
    "reward_model.reward_loop_class_name": "reward.reward_manager.name",
    "reward_model.reward_kwargs": "reward.reward_kwargs",
    "reward_model.model.path": "reward.reward_model.model_path",
    "reward_model": "reward.reward_model",
}
ACTOR, MODEL, ROLLOUT = (f"actor_rollout_ref.{name}" for name in ("actor", "model", "rollout"))
# What has to stand where for this project's parts to be used at all, or to be right.
WANTED: dict[str, Any] = {
    f"{MODEL}.external_lib": "omni_r1.perpo.verl_plugins.engine",
    f"{MODEL}.trust_remote_code": False,
    f"{MODEL}.use_fused_kernels": False,
    f"{MODEL}.use_liger": False,
    f"{MODEL}.lora_rank": 0,
    f"{MODEL}.lora.rank": 0,
    f"{ACTOR}.strategy": "fsdp2",
    f"{ACTOR}.fsdp_config.model_dtype": "fp32",
    f"{ACTOR}.ulysses_sequence_parallel_size": 1,
    f"{ACTOR}.policy_loss.loss_mode": "vanilla",
    f"{ROLLOUT}.name": "vllm",
    f"{ROLLOUT}.agent.default_agent_loop": "omni_r1",
    f"{ROLLOUT}.logprobs_mode": "processed_logprobs",
    f"{ROLLOUT}.top_k": -1,
    f"{ROLLOUT}.engine_kwargs.vllm.logits_processors": ["omni_r1.generate.vllm_grammar:GrammarV1"],
    "reward.custom_reward_function.path": f"{HERE}.reward",
    "reward.custom_reward_function.name": "compute_score",
    "reward.reward_manager.source": "importlib",
    "reward.reward_manager.name": "TokenRewardManager",
    "reward.reward_manager.module.path": f"{HERE}.reward_manager",
    "data.custom_cls.path": f"{HERE}.dataset",
    "data.custom_cls.name": "TokenDataset",
    "algorithm.use_kl_in_reward": False,
    "trainer.use_v1": True,
    "trainer.v1.trainer_mode": "sync",  # the others go on with half a response as a prompt, by another budget
}
WHY = {
    f"{MODEL}.trust_remote_code": "a checkpoint is data",
    f"{MODEL}.use_fused_kernels": "the grammar needs logits",
    f"{MODEL}.lora_rank": "adapters are not offered here",
    f"{MODEL}.lora.rank": "adapters are not offered here",
    f"{ACTOR}.strategy": "the frozen VQ module and the language model share no flat parameter",
    f"{ACTOR}.fsdp_config.model_dtype": "the VQ module's codes depend on it",
    f"{ACTOR}.ulysses_sequence_parallel_size": "the grammar needs whole sequences",
    f"{ROLLOUT}.logprobs_mode": "log-probs are taken under the grammar",
    "trainer.v1.trainer_mode": "the others go on with half a response as a prompt",
}


def check_config(config: DictConfig) -> None:
    """Raise InputError, naming key and right key or value, for a config that would not do what it says."""
    for key, value in _set(config):
        place = next((old for old in LEGACY if key == old or key.startswith(f"{old}.")), None)
        if place is not None:
            right = LEGACY[place] + key.removeprefix(place)
            raise InputError(f"is {value!r}, and verl no longer reads it; the key is {right}", field=key)
    for key, wanted in WANTED.items():
        value = _plain(OmegaConf.select(config, key))
        if value != wanted:
            why = f": {WHY[key]}" if key in WHY else ""
            raise InputError(f"must be {wanted!r}, not {value!r}{why}", field=key)
    _check_model(config)
    _check_code(config)
    _check_lengths(config)
    _check_groups(config)


def _set(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """The legacy keys that somebody has set: all of them are null by default."""

    def leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                yield from leaves(inner, f"{key}.{name}")
        elif value is not None:
            yield key, value

    for top in ("custom_reward_function", "reward_model", "sandbox_fusion"):
        yield from leaves(_plain(OmegaConf.select(config, top)), top)


def _check_model(config: DictConfig) -> None:
    override = OmegaConf.select(config, f"{MODEL}.override_config") or {}
    settings = GrammarSettings.of(_plain(override))
    if "model_config" not in override:
        wrong = "is not there, without which verl takes the grammar for a part of config.json; {} will do"
        raise InputError(wrong, field=f"{MODEL}.override_config.model_config")
    if settings.mode == "unrestricted":
        raise InputError("bars nothing: a broken image would have to be scored", field=f"{PLACE}.mode")
    path, judge = config.actor_rollout_ref.model.path, "reward.custom_reward_function.reward_kwargs.model_path"
    if OmegaConf.select(config, judge) is None:
        raise InputError(f"is not set; the checkpoint that is trained will do: {path}", field=judge)
    words = config.actor_rollout_ref.model.tokenizer_path or path
    vllm = _plain(config.actor_rollout_ref.rollout.engine_kwargs.vllm)
    folders = ((vllm.get("additional_config") or {}).get("omni_r1")) or []
    if folders != [path, words]:
        key = f"{ROLLOUT}.engine_kwargs.vllm.additional_config.omni_r1"
        raise InputError(f"must be {[path, words]!r}, not {folders!r}: the grammar's vocabulary", field=key)


def _check_code(config: DictConfig) -> None:
    """verl's reward workers read the tokenizer with trust_remote_code, and ask nobody."""
    for folder in {config.actor_rollout_ref.model.path, config.actor_rollout_ref.model.tokenizer_path} - {None}:
        for name in ("config.json", "tokenizer_config.json"):
            file = Path(folder) / name
            if file.is_file() and "auto_map" in json.loads(read_bytes(file)):
                raise InputError("a checkpoint that brings code of its own is not used", file=file, field="auto_map")


def _check_lengths(config: DictConfig) -> None:
    rollout, budget = config.actor_rollout_ref.rollout, _plain(OmegaConf.select(config, PLACE))["budget"]
    if budget != rollout.response_length or budget != config.data.max_response_length:
        raise InputError(f"must be data.max_response_length={config.data.max_response_length}", field=f"{PLACE}.budget")
    whole = rollout.prompt_length + rollout.response_length
    if rollout.max_model_len is None or rollout.max_model_len < whole:
        wrong = f"must be {whole} at least, the longest prompt and response, not {rollout.max_model_len}"
        raise InputError(wrong, field=f"{ROLLOUT}.max_model_len")


def _check_groups(config: DictConfig) -> None:
    groups = config.algorithm.filter_groups
    if groups.enable and groups.metric in ("reward", "score", "seq_reward", "perception"):
        wrong = f"{groups.metric!r} hardly ever is the same twice, so that no group would be dropped; 'acc' is meant"
        raise InputError(wrong, field="algorithm.filter_groups.metric")
    if config.algorithm.adv_estimator != "grpo":
        raise InputError("must be 'grpo': rewards are relative to the group", field="algorithm.adv_estimator")


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
