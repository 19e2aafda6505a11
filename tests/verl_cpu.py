"""verl on a CPU: the platform it asks for, which it has for GPUs only, and batches as its trainer makes them."""

import os
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import torch
from tensordict import TensorDict
from verl.plugin.platform import set_platform
from verl.plugin.platform.platform_base import PlatformBase

RECIPE = Path(__file__).parents[1] / "configs" / "verl" / "omni-r1.yaml"
BUDGET = 60  # tokens of a response
MODULE = SimpleNamespace(
    **{name: lambda *_, **__: None for name in ("synchronize", "empty_cache", "reset_peak_memory_stats", "set_device")},
    **{name: lambda *_, **__: 0 for name in ("memory_allocated", "memory_reserved", "current_device")},
    **{name: lambda *_, **__: 0 for name in ("max_memory_allocated", "max_memory_reserved")},
    mem_get_info=lambda *_, **__: (0, 0),
    is_available=lambda: True,
    manual_seed=torch.manual_seed,
    manual_seed_all=torch.manual_seed,
    get_rng_state=torch.get_rng_state,
    set_rng_state=torch.set_rng_state,
    device=lambda *_, **__: nullcontext(),
)


class Cpu(PlatformBase):
    device_name, vendor_name, device_module = "cpu", "cpu", MODULE

    def is_available(self):
        return True

    def current_device(self):
        return "cpu"

    def device_count(self):
        return 1

    def get_device_capability(self, device_index=0):
        return None, None

    def communication_backend_name(self):
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    def ray_resource_name(self):
        return "CPU"

    def ray_noset_envvars(self):
        return []

    def is_ipc_supported(self):
        return False

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    @contextmanager
    def nvtx_range(self, msg):
        yield

    def nothing(self, *_):
        return None

    set_device = synchronize = set_allocator_settings = empty_cache = profiler_start = profiler_stop = cudart = nothing


def use_cpu() -> None:
    """Before anything of verl's that asks for its platform is imported."""
    set_platform(Cpu())


def overrides(path: Path, **more: object) -> list[str]:
    """Of the recipe, for the small checkpoint at `path`, in fp32."""
    data, actor = "data.train_files=a.parquet data.val_files=a.parquet", "actor_rollout_ref.actor"
    return [
        f"actor_rollout_ref.model.path={path}",
        *data.split(),
        "data.max_prompt_length=120",
        f"data.max_response_length={BUDGET}",
        "actor_rollout_ref.rollout.max_model_len=256",
        f"{actor}.use_torch_compile=false",
        f"{actor}.fsdp_config.use_torch_compile=false",
        f"+{actor}.fsdp_config.mixed_precision={{param_dtype: fp32, reduce_dtype: fp32, buffer_dtype: fp32}}",
        "actor_rollout_ref.rollout.agent.num_workers=1",
        "reward.num_workers=1",
        "trainer.n_gpus_per_node=1",
        *(f"{key}={value}" for key, value in more.items()),
    ]


def start_process_group() -> None:
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)


def nested(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def batch_of(rows: list[tuple[list[int], list[int]]], *, packed: bool = False, micro: int | None = None) -> TensorDict:
    """What verl's trainer gives its engine for (prompt, response) rows, `micro` of them at a time."""
    from verl.utils import tensordict_utils
    from verl.utils.dataset.dataset_utils import DatasetPadMode

    tensors = {
        "input_ids": nested([torch.tensor(prompt + said) for prompt, said in rows]),
        "position_ids": nested([torch.arange(len(prompt) + len(said)) for prompt, said in rows]),
        "prompts": nested([torch.tensor(prompt) for prompt, _ in rows]),
        "responses": nested([torch.tensor(said) for _, said in rows]),
        "response_mask": nested([torch.ones(len(said), dtype=torch.long) for _, said in rows]),
    }
    tensors["loss_mask"] = tensors["response_mask"]
    data = TensorDict(tensors, batch_size=len(rows))
    tensordict_utils.assign_non_tensor(
        data,
        temperature=1.0,
        use_remove_padding=packed,
        use_fused_kernels=False,
        use_dynamic_bsz=False,
        micro_batch_size_per_gpu=micro or len(rows),
        global_batch_size=len(rows),
        calculate_entropy=True,
        compute_loss=True,
        pad_mode=DatasetPadMode.NO_PADDING,
        pad_token_id=0,
    )
    return data
