"""The VQ decoder once more, straight from the published tensors' names and order (checkpoint contract)."""

import torch
from torch import Tensor
from torch.nn import functional as F

PREFIX = "model.vqmodel."


@torch.no_grad()
def decode(state: dict[str, Tensor], codes: Tensor, levels: int = 5, blocks: int = 3) -> Tensor:
    """Codes (n, S) to pixels (n, 3, R, R)."""

    def conv(name: str, x: Tensor, padding: int = 1) -> Tensor:
        return F.conv2d(x, state[f"{PREFIX}{name}.weight"], state[f"{PREFIX}{name}.bias"], padding=padding)

    def norm(name: str, x: Tensor) -> Tensor:
        return F.group_norm(x, 32, state[f"{PREFIX}{name}.weight"], state[f"{PREFIX}{name}.bias"], eps=1e-6)

    def swish(x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-x))

    def block(name: str, x: Tensor) -> Tensor:
        y = conv(f"{name}.conv1", swish(norm(f"{name}.norm1", x)))
        y = conv(f"{name}.conv2", swish(norm(f"{name}.norm2", y)))
        return y + (conv(f"{name}.nin_shortcut", x, 0) if f"{PREFIX}{name}.nin_shortcut.weight" in state else x)

    def attention(name: str, x: Tensor) -> Tensor:
        if f"{PREFIX}{name}.q.weight" not in state:
            return x
        q, k, v = (conv(f"{name}.{each}", norm(f"{name}.norm", x), 0).flatten(2) for each in "qkv")
        weights = torch.einsum("nci,ncj->nij", q, k) * x.shape[1] ** -0.5
        attended = torch.einsum("nij,ncj->nci", weights.softmax(-1), v)
        return x + conv(f"{name}.proj_out", attended.view_as(x), 0)

    side = int(codes.shape[1] ** 0.5)
    rows = state[f"{PREFIX}quantize.embedding.weight"][codes]
    x = conv("post_quant_conv", rows.view(len(codes), side, side, -1).permute(0, 3, 1, 2), 0)
    x = conv("decoder.conv_in", x)
    x = block("decoder.mid.block_1", x)
    x = attention("decoder.mid.attn_1", x)
    x = block("decoder.mid.block_2", x)
    for level in reversed(range(levels)):
        for number in range(blocks):
            x = block(f"decoder.up.{level}.block.{number}", x)
            x = attention(f"decoder.up.{level}.attn.{number}", x)
        if level > 0:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            x = conv(f"decoder.up.{level}.upsample.conv", x)
    return conv("decoder.conv_out", swish(norm("decoder.norm_out", x)))
