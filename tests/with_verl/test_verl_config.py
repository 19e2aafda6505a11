"""The recipe: verl takes it, it is the paper's, and what verl would silently not obey is refused."""

import re

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config

from omni_r1.errors import InputError
from omni_r1.perpo.verl_plugins.check import LEGACY, WANTED, check_config
from omni_r1.perpo.verl_plugins.launch import composed, main
from verl_cpu import RECIPE, overrides

FULL = ["actor_rollout_ref.model.path=/models/omni", "data.train_files=a.parquet", "data.val_files=b.parquet"]
TABLE_6 = {
    "actor_rollout_ref.actor.kl_loss_coef": 0.003,
    "actor_rollout_ref.actor.kl_loss_type": "kl",
    "actor_rollout_ref.actor.use_kl_loss": True,
    "actor_rollout_ref.actor.clip_ratio_low": 0.20,
    "actor_rollout_ref.actor.clip_ratio_high": 0.28,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 16,
    "actor_rollout_ref.actor.optim.lr": 1e-7,
    "actor_rollout_ref.actor.optim.lr_warmup_steps": 5,
    "actor_rollout_ref.actor.optim.weight_decay": 0.10,
    "actor_rollout_ref.actor.entropy_coeff": 0.001,
    "actor_rollout_ref.actor.grad_clip": 1.0,
    "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-mean",
    "actor_rollout_ref.rollout.n": 16,
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.rollout.top_p": 0.95,
    "data.train_batch_size": 64,
}


@pytest.fixture(scope="module")
def full():
    return composed(RECIPE, FULL)


def test_the_recipe_is_the_papers(full):
    assert {key: OmegaConf.select(full, key) for key in TABLE_6} == TABLE_6
    assert full.data.train_batch_size * full.algorithm.filter_groups.max_inflight_gen_batches == 192


def test_verl_takes_the_recipe(full):
    check_config(full)
    assert need_reference_policy(full) and not need_critic(full)
    validate_config(full, use_reference_policy=True, use_critic=False)
    actor, rollout = (omega_conf_to_dataclass(full.actor_rollout_ref[part]) for part in ("actor", "rollout"))
    assert actor.engine.strategy == full.actor_rollout_ref.ref.strategy == "fsdp2"
    assert rollout.engine_kwargs["vllm"]["async_scheduling"] is False


def test_no_config_is_needed_for_a_check(capsys):
    assert main(["--check", str(RECIPE), *FULL]) == 0
    assert main(["--check", str(RECIPE), *FULL, "data.no_such_key=1"]) == 2
    assert "no_such_key" in capsys.readouterr().err
    assert main([]) == 2


LEGACY_SET = {
    "custom_reward_function.path": "a.py",
    "custom_reward_function.name": "score",
    "reward_model.reward_manager": "perpo",
    "reward_model.num_workers": 4,
    "reward_model.reward_loop_source": "importlib",
    "reward_model.reward_loop_module_path": "a.py",
    "reward_model.reward_loop_class_name": "Manager",
    "reward_model.enable": True,
    "reward_model.model.path": "a",
    "reward_model.rollout.name": "vllm",
    "sandbox_fusion.url": "http://a",
}


@pytest.mark.parametrize("key", LEGACY_SET)
def test_keys_verl_no_longer_reads_are_refused_by_the_right_name(key, full):
    config = full.copy()
    OmegaConf.update(config, key, LEGACY_SET[key])
    place = max((old for old in LEGACY if key == old or key.startswith(f"{old}.")), key=len)
    right = re.escape(LEGACY[place] + key.removeprefix(place))
    with pytest.raises(InputError, match=f"field '{key}': .* the key is {right}$"):
        check_config(config)


def test_they_really_are_ignored(full):
    """What the check is for: verl composes the key, and has no reward function by it."""
    config = composed(RECIPE, [*FULL, "custom_reward_function.path=a.py", "reward.custom_reward_function.path=null"])
    assert config.custom_reward_function.path == "a.py" and get_custom_reward_fn(config) is None


def test_every_legacy_key_is_one_verl_still_moves_in_its_other_trainer(full):
    """verl's own table of what became of them, in the one entry point that still calls it."""
    from verl.experimental.reward_loop import migrate_legacy_reward_impl

    config = composed(RECIPE, [*FULL, *(f"{key}={value}" for key, value in LEGACY_SET.items())])
    moved = migrate_legacy_reward_impl(config)
    assert moved.reward.custom_reward_function.path == "a.py" and moved.reward.num_workers == 4
    assert moved.reward.reward_manager.source == "importlib" and moved.reward.reward_manager.module.path == "a.py"
    assert moved.reward.reward_model.model_path == "a" and moved.reward.reward_model.enable
    assert moved.reward.sandbox_fusion.url == "http://a"


@pytest.mark.parametrize("key", WANTED)
def test_what_the_parts_need_is_checked(key, full):
    config = full.copy()
    wanted = WANTED[key]
    other = not wanted if isinstance(wanted, bool) else wanted + 1 if isinstance(wanted, int) else None
    OmegaConf.update(config, key, other, force_add=True)
    with pytest.raises(InputError, match=f"field '{re.escape(key)}': must be"):
        check_config(config)


@pytest.mark.parametrize(
    "change, field",
    [
        ("actor_rollout_ref.rollout.max_model_len=8000", "actor_rollout_ref.rollout.max_model_len"),
        ("actor_rollout_ref.model.override_config.grammar.budget=10", "override_config.grammar.budget"),
        ("actor_rollout_ref.model.override_config.grammar.mode=free", "override_config.grammar.mode"),
        ("actor_rollout_ref.model.override_config.grammar.mode=unrestricted", "override_config.grammar.mode"),
        ("actor_rollout_ref.model.override_config.grammar.max_images=-1", "override_config.grammar.max_images"),
        ("+actor_rollout_ref.model.override_config.grammar.images=2", "images"),
        ("~actor_rollout_ref.model.override_config.grammar", "override_config.grammar"),
        ("~actor_rollout_ref.model.override_config.model_config", "override_config.model_config"),
        ("actor_rollout_ref.rollout.engine_kwargs.vllm.additional_config.omni_r1=[a,b]", "additional_config.omni_r1"),
        ("reward.custom_reward_function.reward_kwargs.model_path=null", "reward_kwargs.model_path"),
        ("algorithm.filter_groups.metric=reward", "algorithm.filter_groups.metric"),
        ("algorithm.adv_estimator=gae", "algorithm.adv_estimator"),
    ],
)
def test_what_would_train_something_else_is_refused(change, field):
    with pytest.raises(InputError, match=f"{re.escape(field)}'"):
        check_config(composed(RECIPE, [*FULL, change]))


def test_a_checkpoint_that_brings_code_is_refused(path, tmp_path):
    """verl reads the tokenizer with trust_remote_code in its reward workers, whatever the config says."""
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.T", null]}}')
    with pytest.raises(InputError, match=r"tokenizer_config.json: field 'auto_map'"):
        check_config(composed(RECIPE, overrides(tmp_path)))
    check_config(composed(RECIPE, overrides(path)))
