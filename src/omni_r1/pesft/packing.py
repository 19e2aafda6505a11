"""Rows of a micro-batch end to end in one, without padding, and attention that does not cross between them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from omni_r1.pesft.losses import IGNORED

PACKED = "packed"  # the name of the attention below among upstream's


def described(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the trainer is to know of a micro-batch: the names of its rows, and their tokens, blanks left out."""
    return {
        "names": [row["name"] for row in rows],
        "tokens": sum(len(row["input_ids"]) for row in rows if row["name"] is not None),
    }


class Pack:
    """Rows to one of all their tokens (1, T), positions counted anew in each, and the rows' lengths."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        ids, labels = (torch.cat([row[key] for row in rows])[None] for key in ("input_ids", "labels"))
        lengths = [len(row["input_ids"]) for row in rows]
        firsts = [sum(lengths[:number]) for number in range(len(rows))]
        labels[0, firsts] = IGNORED  # what is before it belongs to another row
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        batch = {"input_ids": ids, "labels": labels, "position_ids": positions, "lengths": lengths}
        return batch | described(rows)


class PadRight:
    """Rows to a batch (B, T), padded on the right: causal attention never looks there, so no mask is needed."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        fill = {"input_ids": self.pad, "labels": IGNORED}
        batch: dict[str, Any] = {
            key: torch.nn.utils.rnn.pad_sequence([row[key] for row in rows], batch_first=True, padding_value=value)
            for key, value in fill.items()
        }
        return batch | described(rows)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lengths: Sequence[int],
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention in each of the rows that lie end to end in one, (1, heads, T, head_dim) to (1, T, heads, D).

    A call for each row is exact, takes torch's fastest kernel on every device, and makes no (T, T) mask.
    """
    grouped = query.shape[1] != key.shape[1]
    rows = zip(*(states.split(list(lengths), dim=2) for states in (query, key, value)), strict=True)
    parts = [
        scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=grouped)
        for q, k, v in rows
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def no_mask(*_: Any, **__: Any) -> None:
    """Packed attention needs none."""


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, no_mask)


@contextmanager
def attention(model: PreTrainedModel, kind: str) -> Iterator[None]:
    """The model's attention is of that kind meanwhile."""
    before = model.config._attn_implementation
    model.set_attn_implementation({"": kind})  # the language model's: of the VQ module's it would warn
    try:
        yield
    finally:
        model.set_attn_implementation({"": before})
