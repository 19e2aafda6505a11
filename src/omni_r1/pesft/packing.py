"""Rows of a micro-batch end to end in one, without padding, and attention that does not cross between them.

What lies in such a row is told as families of lengths: those of a root and of its branches, each of which goes on from
the root by itself. A row of PeSFT is a root alone; a prompt is that of its responses, computed once for all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
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
    """Rows to one of all their tokens (1, T), positions counted anew in each, and the rows' lengths as families."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        ids, labels = (torch.cat([row[key] for row in rows])[None] for key in ("input_ids", "labels"))
        lengths = [len(row["input_ids"]) for row in rows]
        firsts = [sum(lengths[:number]) for number in range(len(rows))]
        labels[0, firsts] = IGNORED  # what is before it belongs to another row
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        batch: dict[str, Any] = {"input_ids": ids, "labels": labels, "position_ids": positions}
        batch["families"] = [[length] for length in lengths]
        return batch | described(rows)


class PadRight:
    """Rows to a batch (B, T), padded on the right: causal attention never looks there, so no mask is needed."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        fill = {"input_ids": self.pad, "labels": IGNORED}
        batch: dict[str, Any] = {
            key: pad_sequence([row[key] for row in rows], batch_first=True, padding_value=value)
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
    families: Sequence[Sequence[int]],
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention in each of the families that lie end to end in one row: (1, heads, T, D) to (1, T, heads, D).

    Calls for each family are exact, take torch's fastest kernels on every device, and make no (T, T) mask.
    """
    attend = partial(
        scaled_dot_product_attention, scale=scaling, dropout_p=dropout, enable_gqa=query.shape[1] != key.shape[1]
    )
    sizes = [sum(family) for family in families]
    parts = []
    apart = (states.split(sizes, 2) for states in (query, key, value))
    for (root, *branches), *states in zip(families, *apart, strict=True):
        (q, k, v), others = zip(*(each.split([root, sum(branches)], 2) for each in states), strict=True)
        parts.append(attend(q, k, v, is_causal=True))
        if branches:
            parts.append(_branches(attend, branches, k, v, *others))
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _branches(
    attend: Callable[..., Tensor], lengths: Sequence[int], keys: Tensor, values: Tensor, *states: Tensor
) -> Tensor:
    """What the branches of a root find in it, by its keys and values, and in themselves: (1, heads, T, D), as `states`,
    their queries, keys and values, have it."""
    padded = [
        pad_sequence([one[0].transpose(0, 1) for one in each.split(list(lengths), 2)], batch_first=True).transpose(1, 2)
        for each in states
    ]
    q, *own = padded
    k, v = (
        torch.cat([root.expand(len(lengths), -1, -1, -1), each], 2)
        for root, each in zip((keys, values), own, strict=True)
    )
    size = q.shape[2], k.shape[2]
    seen = torch.ones(size, dtype=torch.bool, device=q.device).tril(size[1] - size[0])  # padding is behind: never seen
    found = attend(q, k, v, attn_mask=seen)
    return torch.cat([one[:, :length] for one, length in zip(found, lengths, strict=True)], 1)[None]


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
