"""What a layer keeps for its backward pass (`--gradient-checkpointing`).

selective: the products and the attention, which are dear to make; what lies between is made again, which costs little
and halves what is kept. full: only what goes into the layer. none: everything.
"""

from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from omni_r1.model import Chameleon
from omni_r1.options import Checkpointing

aten = torch.ops.aten
DEAR = {
    aten.mm.default,
    aten.addmm.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
}


def keep_dear(_: Any, operation: Any, *__: Any, **___: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in DEAR else CheckpointPolicy.PREFER_RECOMPUTE


def checkpoint_layers(model: Chameleon, kind: Checkpointing) -> None:
    """Set what the layers of a model in training keep; gradients are the same to the bit."""
    if kind == "none":
        model.gradient_checkpointing_disable()
        return
    settings: dict[str, Any] = {"use_reentrant": False}
    if kind == "selective":
        settings["context_fn"] = partial(create_selective_checkpoint_contexts, keep_dear)
    model.gradient_checkpointing_enable(settings)
