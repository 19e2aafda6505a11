"""Everything here runs in verl's own environment: `make test-verl`. Elsewhere nothing of it is collected."""

from importlib.util import find_spec

import pytest

from tiny import write_checkpoint

if find_spec("verl") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from verl_cpu import RECIPE, overrides, start_process_group, use_cpu

    use_cpu()


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    """A checkpoint with random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("verl") / "checkpoint")


@pytest.fixture(scope="session")
def config(path):
    from omni_r1.perpo.verl_plugins.launch import composed

    return composed(RECIPE, overrides(path))


@pytest.fixture
def make_engine(path):
    """An actor's engine on the CPU, of a recipe with more overrides."""
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.engine import EngineRegistry

    from omni_r1.perpo.verl_plugins.launch import composed

    def make(*more: str):
        start_process_group()
        parts = composed(RECIPE, [*overrides(path), *more]).actor_rollout_ref
        model, actor = omega_conf_to_dataclass(parts.model), omega_conf_to_dataclass(parts.actor)
        actor.optim.total_training_steps = 10
        engine = EngineRegistry.new(
            model_type="language_model",
            backend=actor.strategy,
            model_config=model,
            engine_config=actor.engine,
            optimizer_config=actor.optim,
            checkpoint_config=actor.checkpoint,
        )
        engine.initialize()
        return engine, actor

    return make
