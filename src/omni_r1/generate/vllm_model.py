"""Chameleon's decoder for vLLM: Llama's, with a norm of queries and keys per head and, in some sizes, norms after.

Images are token ids to it, in the prompt and in what it says, so its VQ module is not loaded here: pictures are
encoded and decoded by the `Omni` beside the backend.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig, get_current_vllm_config
from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod
from vllm.model_executor.models.llama import LlamaAttention, LlamaDecoderLayer, LlamaForCausalLM, LlamaModel
from vllm.model_executor.utils import set_weight_attrs

from omni_r1.generate.vllm_grammar import drawing

VQ = "model.vqmodel."


class HeadNorm(nn.Module):
    """Layer norm over each head's width, with scale and shift of its own for each head (checkpoint contract)."""

    def __init__(self, heads: int, total_heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.total_heads = heads, total_heads
        self.weight = nn.Parameter(torch.ones(heads, head_dim))
        self.bias = nn.Parameter(torch.zeros(heads, head_dim))
        for parameter in (self.weight, self.bias):
            set_weight_attrs(parameter, {"weight_loader": self._load})

    def _load(self, param: nn.Parameter, loaded_weight: Tensor) -> None:
        """This rank's heads; where there are fewer heads than ranks, several ranks have the same.

        Reloading sets `param` by its name.
        """
        first = get_tensor_model_parallel_rank() * self.total_heads // get_tensor_model_parallel_world_size()
        param.data.copy_(loaded_weight.narrow(0, first, self.heads))

    def forward(self, states: Tensor) -> Tensor:
        """States (T, heads * head_dim)."""
        split = states.unflatten(-1, self.weight.shape)
        normed = nn.functional.layer_norm(split, self.weight.shape[-1:], eps=1e-5)
        return (normed * self.weight + self.bias).flatten(-2)


class Attention(LlamaAttention):
    """Heads of a width that the attention kernel lacks (on CPUs all below 32) get zeros behind them just for it.

    Zeros add nothing to the products of queries and keys, whose scale stays that of the true width.
    """

    attn: Any

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.q_norm = HeadNorm(self.num_heads, self.total_num_heads, self.head_dim)
        self.k_norm = HeadNorm(self.num_kv_heads, self.total_num_kv_heads, self.head_dim)
        widths = self.attn.attn_backend.get_supported_head_sizes()  # empty: no list, and it was asked already
        width = min((width for width in widths if width >= self.head_dim), default=self.head_dim)
        self.spare = width - self.head_dim
        if self.spare:
            name = self.attn.layer_name
            del get_current_vllm_config().compilation_config.static_forward_context[name]
            settings = {each: kwargs[each] for each in ("cache_config", "quant_config", "attn_type")}
            self.attn = type(self.attn)(
                self.num_heads, width, self.scaling, num_kv_heads=self.num_kv_heads, prefix=name, **settings
            )

    def forward(self, positions: Tensor, hidden_states: Tensor) -> Tensor:
        states, _ = self.qkv_proj(hidden_states)
        q, k, v = states.split([self.q_size, self.kv_size, self.kv_size], dim=-1)
        q, k = self.rotary_emb(positions, self.q_norm(q), self.k_norm(k))
        attended = self.attn(*map(self._widened, (q, k, v)))
        if self.spare:
            attended = attended.unflatten(-1, (self.num_heads, -1))[..., : self.head_dim].flatten(-2)
        output, _ = self.o_proj(attended)
        return output

    def _widened(self, states: Tensor) -> Tensor:
        """States (T, heads * head_dim) with `spare` zeros behind each head."""
        if not self.spare:
            return states
        return nn.functional.pad(states.unflatten(-1, (-1, self.head_dim)), (0, self.spare)).flatten(-2)


class DecoderLayer(LlamaDecoderLayer):
    """`swin_norm` (Chameleon 30B): the norms stand behind attention and MLP instead of in front."""

    def __init__(self, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config, prefix, attn_layer_type=Attention)
        self.swin_norm = vllm_config.model_config.hf_config.swin_norm

    def forward(self, positions: Tensor, hidden_states: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """Hidden states (T, H) and the residual that is still to be added to them."""
        if not self.swin_norm:
            return super().forward(positions, hidden_states, residual)
        stream = hidden_states if residual is None else hidden_states + residual
        attended = self.self_attn(positions=positions, hidden_states=stream)
        stream = stream + self.input_layernorm(attended)
        return self.post_attention_layernorm(self.mlp(stream)), stream


class ChameleonForVllm(LlamaForCausalLM):
    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.instance = vllm_config.instance_id

    def _init_model(self, vllm_config: VllmConfig, prefix: str = "", layer_type: type[nn.Module] = DecoderLayer):
        return LlamaModel(vllm_config=vllm_config, prefix=prefix, layer_type=DecoderLayer)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        # vLLM reads every safetensors file of the folder, PeSFT's projection too.
        ours = ("model.", "lm_head.")
        return super().load_weights(
            (name, weight) for name, weight in weights if name.startswith(ours) and not name.startswith(VQ)
        )

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Logits (B, V) of states (B, H), for rows inside an image only those of the codes: the others are barred."""
        rows, codes = drawing(self.instance)
        whole = isinstance(self.lm_head.quant_method, UnquantizedEmbeddingMethod) and self.lm_head.tp_size == 1
        if codes is None or not rows or not whole:
            return super().compute_logits(hidden_states)
        logits = hidden_states.new_full((len(hidden_states), self.config.vocab_size), -torch.inf)
        others = sorted({*range(len(hidden_states))}.difference(rows))
        if others:
            logits[others] = super().compute_logits(hidden_states[others])
        logits[rows, codes] = nn.functional.linear(hidden_states[rows], self.lm_head.weight[codes])
        return logits
